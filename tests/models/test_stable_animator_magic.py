"""Table 5's backbone at the smallest size: faces change nothing until they are learnt, and both stages train, load and make clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.ablations import ABLATIONS
from models.animator import Driving, Reference
from models.checkpoint import read_manifest
from models.clip_dataset import TrainingClip
from models.clip_signals import ClipSignals, FaceSignals
from models.diffusion_method import DiffusionMethod
from models.latents import LatentCodec
from models.signals import Signals
from models.stable_animator.face_optimisation import Hjb
from models.stable_animator.magic.config import MAGIC_VARIANTS, ROWS, MagicConfig
from models.stable_animator.magic.face_bank import FaceBank, fresh_adapters, read_faces
from models.stable_animator.magic.method import MAGIC, additions_of, shaping, train_stage
from models.stable_animator.magic.network import MagicAnimate, MagicCondition, fresh_magic, load_magic
from models.stable_animator.magic.sampling import pieces
from models.stable_animator.method import STABLE_ANIMATOR
from models.stage_training import StageRun
from models.training_loop import LoopConfig
from models.unet_shape import UnetShape, make_unet

SHAPE = UnetShape(channels=(16, 32), layers=1, heads=2, token_dim=16, norm_groups=4, latent_channels=16, motion_heads=2, motion_frames=8)
LOOP = LoopConfig(steps=2, learning_rate=1e-3, probes=2, pictures=1)
_BRIEF = MAGIC_VARIANTS["brief-magic_fe_id_opt"]
TINY = replace(
    _BRIEF,
    backbone=replace(
        _BRIEF.backbone, size=(32, 32), shape=SHAPE, hint_widths=(4, 8, 8),
        stage_3=replace(_BRIEF.backbone.stage_3, window=4), stage_4=replace(_BRIEF.backbone.stage_4, window=4),
        sampling=replace(_BRIEF.backbone.sampling, window=4, overlap=1),
    ),
    faces=replace(_BRIEF.faces, face_dim=8, face_layers=1, face_heads=2, face_head_dim=8),
    stage_1=replace(_BRIEF.stage_1, loop=LOOP, references=1, targets=1, distance=3),
    stage_2=replace(_BRIEF.stage_2, loop=LOOP, batch=1, window=3, stride=1),
    sampling=replace(_BRIEF.sampling, steps=2, window=4, overlap=1, guidance_scale=1.0, hjb=Hjb(steps=1, sigma_range="paper", stop_cosine=None)),
)  # fmt: skip


def _with(config: MagicConfig, **faces: object) -> MagicConfig:
    return replace(config, faces=replace(config.faces, **faces))  # type: ignore[arg-type]


def _condition(frames: int = 2) -> MagicCondition:
    generator = torch.Generator().manual_seed(1)
    return MagicCondition(
        reference_latent=torch.randn(1, 16, 8, 8, generator=generator), image_tokens=torch.randn(1, 1, 16, generator=generator),
        pose=torch.rand(frames, 3, 32, 32, generator=generator), dropped=torch.zeros(1, dtype=torch.bool),
        blur=torch.zeros(frames, 1, 1, 1), face=torch.randn(1, 8, generator=generator),
    )  # fmt: skip


def _awake(network: MagicAnimate) -> MagicAnimate:
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.2)
    return network.eval()


@torch.no_grad()
def test_a_fresh_face_changes_nothing_and_a_learnt_one_is_heard() -> None:
    noisy, when = torch.randn(1, 2, 16, 8, 8), torch.tensor([300])
    torch.manual_seed(0)
    network = fresh_magic(TINY).eval()
    torch.manual_seed(0)
    plain = fresh_magic(_with(TINY, face_method="none")).eval()
    condition = _condition()
    torch.testing.assert_close(network(noisy, when, condition), plain(noisy, when, condition), rtol=0, atol=1e-5)
    _awake(network)
    heard = network(noisy, when, condition)
    other = replace(condition, face=condition.face + 1)
    assert (network(noisy, when, other) - heard).abs().max() > 1e-4
    gone = [replace(one, dropped=torch.tensor([True]), image_tokens=one.image_tokens * 0) for one in (condition, other)]
    assert torch.equal(network(noisy, when, gone[0]), network(noisy, when, gone[1]))


@torch.no_grad()
def test_banked_adapters_are_adapters_in_the_unet() -> None:
    from models.stable_animator.id_adapter import add_id_adapter

    torch.manual_seed(0)
    first, context, face = make_unet(SHAPE).eval(), torch.randn(2, 1, 16), torch.randn(1, 4, 16)
    second = make_unet(SHAPE).eval()
    second.load_state_dict(first.state_dict())
    add_id_adapter(first, 4)
    bank = FaceBank()
    read_faces(second, fresh_adapters(second, TINY.faces), bank)
    noisy = torch.randn(2, 16, 8, 8)
    expected = first(noisy, 5, encoder_hidden_states=torch.cat([context, face.expand(2, -1, -1)], 1)).sample
    with bank.held(face):
        torch.testing.assert_close(second(noisy, 5, encoder_hidden_states=context).sample, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="no face tokens are held"):
        second(noisy, 5, encoder_hidden_states=context)


def _with_faces(item: TrainingClip) -> TrainingClip:
    frames = item.clip.num_frames
    faces = FaceSignals(
        boxes=np.tile(np.array([12, 4, 36, 28], np.float32), (frames, 1)), warps=np.tile(np.eye(2, 3, dtype=np.float32), (frames, 1, 1)),
        found=np.ones(frames, bool), embeddings=np.ones((frames, 8), np.float32),
    )  # fmt: skip
    return replace(item, signals=lambda names: ClipSignals(frames=frames, fps=12.0, faces=faces))


def _run(stage: str, out: Path, parent: Path | None) -> StageRun:
    identity = {"checkpoint_id": stage}
    return StageRun(stage=stage, out=out, seed=0, parent=parent, identity=identity, config={}, additions=additions_of(TINY))


def _scene() -> tuple[Reference, Driving]:
    points = np.full((5, 133, 2), 16, np.float32)
    points[:, 23:91] += np.random.default_rng(0).uniform(-6, 6, (68, 2)).astype(np.float32)
    scores, image = np.ones((5, 133), np.float32), np.full((32, 32, 3), 100, np.uint8)
    own = Signals(face_embeddings=torch.ones(1, 8))
    return Reference(image=image, points=points[0], scores=scores[0], signals=own), Driving(points=points, scores=scores)


def test_both_stages_train_load_and_make_clips(make_clip: Callable[..., TrainingClip], codec: LatentCodec, tmp_path: Path) -> None:
    clips = [_with_faces(make_clip("magic"))]
    first, second = tmp_path / "stage_1", tmp_path / "stage_2"
    train_stage(_run("stage_1", first, None), clips, TINY, codec)
    train_stage(_run("stage_2", second, first), clips, TINY, codec)
    assert {name.split("/")[0] for name in read_manifest(second)["files"]} >= {
        "denoising_unet",
        "id_adapters",
        "face_encoder",
        "controlnet",
    }
    before, after = load_magic(TINY, first), load_magic(TINY, second).eval()
    assert not before.temporal
    assert after.temporal
    assert before.adapters is not None
    assert after.adapters is not None
    for name, value in before.adapters.state_dict().items():
        assert torch.equal(after.adapters.state_dict()[name], value)  # stage 2 trains the temporal layers alone
    assert all("motion_modules" in name for name in after.trainable("stage_2"))
    assert {name.split(".")[0] for name in before.trainable("stage_1")} >= {"id_adapters", "face_encoder", "denoising_unet"}

    def made(config: MagicConfig) -> Tensor:
        return torch.from_numpy(np.concatenate(list(pieces(after, codec, config, *_scene(), 0))))

    steered, plain = made(TINY), made(replace(TINY, sampling=replace(TINY.sampling, hjb=Hjb(enabled=False))))
    assert steered.shape == plain.shape == (5, 32, 32, 3)
    assert not torch.equal(steered, plain)


def test_every_row_of_table_5_is_a_variant() -> None:
    assert isinstance(MAGIC, DiffusionMethod)
    wanted = {row.switch for row in ABLATIONS["stable_animator_5"].rows if row.switch}
    assert wanted == set(ROWS)
    for base in ("demo", "brief", "paper"):
        shaped = {row: shaping(MAGIC_VARIANTS[f"{base}-{row}"], "stage_2") for row in ROWS}
        assert shaped["magic_ip"] == shaped["magic_ip_opt"]
        assert shaped["magic_fe_id"] == shaped["magic_fe_id_opt"]
        assert len({str(value) for value in shaped.values()}) == 3
        assert [MAGIC_VARIANTS[f"{base}-{row}"].sampling.hjb.enabled for row in ROWS] == [False, True, True, False, True]
    assert STABLE_ANIMATOR.stages_of("demo-magic_ip") == ("stage_1", "stage_2")
    assert STABLE_ANIMATOR.config("paper-magic_ip")["backbone"]["fusion"] == "midup"
    assert STABLE_ANIMATOR.stage_config("paper-magic_ip", "stage_1")["faces"]["align"] == "add"
