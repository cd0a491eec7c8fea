"""StableAnimator's stage: what the loss weighs, what is dropped, two sizes, learning, and checkpoints that go on where they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.checkpoint import read_manifest, verify
from models.clip_dataset import ClipStore, TrainingClip
from models.clip_signals import ClipSignals, FaceSignals
from models.demo_additions import DemoAdditions
from models.latents import LatentCodec
from models.stable_animator.config import NetworkConfig, Sampling, StableAnimatorConfig, Stage1
from models.stable_animator.method import STABLE_ANIMATOR
from models.stable_animator.network import SvdCondition, fresh_network, load_network, nothing_dropped
from models.stable_animator.recogniser import load_differentiable
from models.stable_animator.stages import (
    NEEDS,
    FaceWeightedLoss,
    additions_of,
    drop_conditions,
    loss_masks,
    loss_weight,
    stage_config,
    train_stage,
)
from models.stable_animator.variants import BRIEF, SWITCHES, VARIANTS
from models.stage_training import StageRun
from models.training_loop import LoopConfig, StepRecord
from pipelines.errors import MissingWeightsError, UserError

LOOP = LoopConfig(steps=4, learning_rate=2e-3, probes=2, pictures=1, warmup_steps=1)
TINY = replace(
    BRIEF,
    size=(32, 32),
    network=NetworkConfig(
        channels=(32, 32), layers=1, heads=(2, 2), token_dim=16, time_dim=8, pose_widths=(4, 8, 8), face_dim=8, face_layers=1, face_heads=2,
        face_head_dim=8, pose_drawing="binary",
    ),
    stage_1=replace(BRIEF.stage_1, loop=LOOP, sizes=((32, 32), (32, 24)), window=3, stride=1),
    sampling=replace(BRIEF.sampling, steps=1, window=4, overlap=2, guidance_scale=1.0),
)  # fmt: skip
ONE_SIZE = replace(TINY, stage_1=replace(TINY.stage_1, sizes=((32, 32),)))


def _with_faces(item: TrainingClip) -> TrainingClip:
    frames = item.clip.num_frames
    faces = FaceSignals(
        boxes=np.tile(np.array([12, 4, 36, 28], np.float32), (frames, 1)),
        warps=np.tile(np.eye(2, 3, dtype=np.float32), (frames, 1, 1)),
        found=np.ones(frames, bool),
        embeddings=np.random.default_rng(0).normal(size=(frames, 8)).astype(np.float32),
    )
    return replace(item, signals=lambda names: ClipSignals(frames=frames, fps=12.0, faces=faces))


@pytest.fixture(scope="module")
def people(make_clip: Callable[..., TrainingClip]) -> list[TrainingClip]:
    return [_with_faces(make_clip("red")), _with_faces(make_clip("blue", colour=(40, 60, 220), shift=2.0))]


def _loss(config: StableAnimatorConfig, clips: Sequence[TrainingClip], codec: LatentCodec) -> FaceWeightedLoss:
    torch.manual_seed(0)
    stores = [ClipStore(clips, size, codec, needs=NEEDS, warp=config.additions.warp) for size in config.stage_1.sizes]
    return FaceWeightedLoss(fresh_network(config, 16), stores, codec, seed=0)


# --- the loss --------------------------------------------------------------------------------------------------------


def test_the_mask_weighs_faces_by_2_or_4() -> None:
    mask = torch.zeros(1, 2, 1, 2, 2)
    mask[:, :, :, 0, 0] = 1
    for power, share in ((1, 2.0), (2, 4.0)):
        stage = replace(TINY.stage_1, mask_power=power)  # type: ignore[arg-type]
        weight = loss_weight(torch.tensor([1e6]), mask, stage)  # where EDM's weight is 1
        assert weight[0, 1, 0].flatten().tolist() == pytest.approx([share, 1, 1, 1])
        low = loss_weight(torch.tensor([0.5]), mask, stage)
        torch.testing.assert_close(low, weight * 1.25 / 0.25)


def test_a_frame_without_a_face_weighs_1_or_2() -> None:
    boxes = torch.tensor([[8.0, 8, 16, 16], [0, 0, 0, 0]])
    assert loss_masks(boxes, (4, 4), 8)[1].sum() == 0
    ones = loss_masks(boxes, (4, 4), 8, "ones")
    assert ones[1].sum() == 16
    assert ones[0].sum() == 1


def test_masks_come_from_the_lake_s_boxes(people: list[TrainingClip], codec: LatentCodec) -> None:
    loss = _loss(ONE_SIZE, people, codec)
    masks = loss._mask(loss.batch(0))
    assert masks.shape == (1, 3, 1, 8, 8)
    # 12..36 x 4..28 of 48 px: 2..6 x 0.7..4.7 of 8 latent pixels; the mask asks for the pixel at each latent pixel's corner
    assert masks[0, 0, 0].nonzero().tolist() == [[y, x] for y in (1, 2, 3, 4) for x in (2, 3, 4, 5)]
    without = _loss(replace(ONE_SIZE, stage_1=replace(ONE_SIZE.stage_1, face_mask=False)), people, codec)
    assert without._mask(without.batch(0)).sum() == 0


def test_a_perfect_network_has_no_loss(people: list[TrainingClip], codec: LatentCodec) -> None:
    loss = _loss(ONE_SIZE, people, codec)
    batch = loss.batch(0)

    class Oracle:
        config, image_tokens, unet = ONE_SIZE, loss.network.image_tokens, loss.network.unet

        def __call__(self, noisy: Tensor, sigma: Tensor, condition: SvdCondition) -> Tensor:
            return batch.latents

    loss.network = Oracle()  # type: ignore[assignment]
    assert loss.of(batch, torch.Generator().manual_seed(0), 0.1).item() == 0


def test_a_network_that_knows_the_difference_to_the_warped_reference_has_no_loss(people: list[TrainingClip], codec: LatentCodec) -> None:
    config = replace(ONE_SIZE, additions=DemoAdditions(residual=True, warp=True, residual_scale=0.5, skip_std=0.2))
    loss, seen = _loss(config, people, codec), list[SvdCondition]()
    batch = loss.batch(0)
    assert batch.warped is not None
    warped = batch.warped.unflatten(0, batch.latents.shape[:2])

    class Oracle:
        image_tokens, unet = loss.network.image_tokens, loss.network.unet

        def __init__(self) -> None:
            self.config = config

        def __call__(self, noisy: Tensor, sigma: Tensor, condition: SvdCondition) -> Tensor:
            seen.append(condition)
            return (batch.latents - warped) / 0.5

    loss.network = Oracle()  # type: ignore[assignment]
    assert loss.of(batch, torch.Generator().manual_seed(0), 0.0).item() == 0
    assert seen[0].warped is not None
    torch.testing.assert_close(seen[0].warped, warped)  # an image autoencoder's latents are taken as they are


def test_losses_are_noted_by_noise_level(people: list[TrainingClip], codec: LatentCodec) -> None:
    loss = _loss(ONE_SIZE, people, codec)
    value = loss.of(loss.batch(0), torch.Generator().manual_seed(0), 0.1, loss.levels).item()
    sums, counts = loss.levels.pending()
    assert counts.sum() == 1
    assert sums.sum().item() == pytest.approx(value, rel=1e-5)


def test_the_loss_depends_on_seed_and_step_alone(people: list[TrainingClip], codec: LatentCodec) -> None:
    def losses(steps: list[int]) -> dict[int, float]:
        at = _loss(TINY, people, codec)
        return {step: at(step, torch.Generator().manual_seed(step)).item() for step in steps}

    forward, backward = losses([0, 1, 2]), losses([2, 1, 0])
    assert forward == backward
    assert len(set(forward.values())) == 3


def test_clips_come_at_every_size_and_the_reference_lies_outside_of_the_window(people: list[TrainingClip], codec: LatentCodec) -> None:
    loss = _loss(TINY, people, codec)
    assert {tuple(loss.batch(step).reference_image.shape[-2:]) for step in range(8)} == {(32, 32), (32, 24)}
    short = _loss(replace(TINY, stage_1=replace(TINY.stage_1, window=11)), people, codec)
    batch = short.batch(0)
    assert not any(torch.equal(batch.reference_latent[0], latent) for latent in batch.latents[0])


# --- dropping --------------------------------------------------------------------------------------------------------


def _conditions(clips: int) -> SvdCondition:
    return SvdCondition(
        reference_latent=torch.zeros(clips, 1, 1, 1), image_tokens=torch.zeros(clips, 1, 1), face=torch.zeros(clips, 1), pose=None,
        **nothing_dropped(clips),
    )  # fmt: skip


def test_conditions_are_dropped_as_in_the_released_code() -> None:
    """Image token and reference latent each in 2 p, both in p; faces and poses never."""
    plain = replace(Stage1(), drop_face_with_image=False, drop_pose=0.0)
    made = drop_conditions(_conditions(20_000), plain, 0.1, torch.Generator().manual_seed(0))
    image, latent = made.image_dropped, made.latent_dropped
    assert image.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert latent.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert (image & latent).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert not made.face_dropped.any()
    assert not made.pose_dropped.any()


def test_additions_drop_faces_with_the_image_and_poses_by_themselves() -> None:
    added = replace(Stage1(), drop_face_with_image=True, drop_pose=0.05)
    made = drop_conditions(_conditions(20_000), added, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(made.face_dropped, made.image_dropped)
    assert made.pose_dropped.float().mean().item() == pytest.approx(0.05, abs=0.01)
    assert (made.pose_dropped & made.image_dropped).float().mean().item() == pytest.approx(0.01, abs=0.005)


# --- learning, checkpoints, resume -----------------------------------------------------------------------------------


def _run(out: Path, config: StableAnimatorConfig, seed: int = 0, on_record: Callable[[StepRecord], None] | None = None) -> StageRun:
    identity = {"checkpoint_id": "0" * 16, "method": "stable_animator", "variant": "tiny", "dataset": "tests"}
    return StageRun(
        stage="stage_1", out=out, seed=seed, parent=None, identity=identity, config=config.as_dict(), additions=additions_of(config),
        on_record=on_record,
    )  # fmt: skip


def test_one_clip_can_be_learnt(people: list[TrainingClip], codec: LatentCodec) -> None:
    """50 steps on one window, always with the same noise."""
    config = replace(ONE_SIZE, stage_1=replace(ONE_SIZE.stage_1, sizes=((16, 16),), window=2))
    loss, losses = _loss(config, people[:1], codec), []
    parameters, batch = list(loss.network.trainable().values()), loss.batch(0)
    optimizer = torch.optim.AdamW(parameters, lr=4e-3)
    for _ in range(50):
        value = loss.of(batch, torch.Generator().manual_seed(1), 0.0)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(value.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.fixture(scope="module")
def trained(people: list[TrainingClip], codec: LatentCodec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trained") / "stage_1"
    train_stage(_run(out, TINY), people, TINY, codec)
    return out


def test_a_checkpoint_holds_every_part_and_loads_to_the_same_answers(trained: Path) -> None:
    manifest = read_manifest(trained)
    verify(trained)
    assert {name.split("/")[0] for name in manifest["files"]} == {"unet", "pose_net", "face_encoder"}
    assert manifest["additions"] == additions_of(TINY)
    assert "UNet from scratch instead of SVD" in manifest["additions"]
    assert additions_of(VARIANTS["paper"]) == []
    first, second = (load_network(TINY, trained).eval() for _ in range(2))
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert any((value != 0).any() for name, value in first.pose_net.state_dict().items() if name.startswith("final"))  # it learnt
    assert list(trained.with_name("stage_1.pictures").glob("*.png"))
    other = replace(TINY, network=replace(TINY.network, face_method="none"))
    with pytest.raises(UserError, match="unexpected"):
        load_network(other, trained)


def test_a_stage_that_was_cut_off_ends_in_the_same_checkpoint(
    people: list[TrainingClip], codec: LatentCodec, trained: Path, tmp_path: Path
) -> None:
    config = replace(TINY, stage_1=replace(TINY.stage_1, loop=replace(LOOP, save_every_s=0.0)))

    def stop(record: StepRecord) -> None:
        if record.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stage(_run(tmp_path / "cut", config, on_record=stop), people, config, codec)
    assert not (tmp_path / "cut").exists()
    torch.rand(3)
    records = train_stage(_run(tmp_path / "cut", config), people, config, codec)
    assert [r.step for r in records] == list(range(5))
    assert read_manifest(tmp_path / "cut")["files"] == read_manifest(trained)["files"]


# --- the method ------------------------------------------------------------------------------------------------------


def test_every_row_of_the_ablation_tables_has_a_variant() -> None:
    from models.ablations import ABLATIONS

    wanted = {row.switch for name in ("2", "3", "4") for row in ABLATIONS[f"stable_animator_{name}"].rows if row.switch}
    assert wanted <= set(SWITCHES)
    assert set(VARIANTS) == {"long"} | {
        f"{base}{switch}" for base in ("demo", "unwarped", "brief", "paper") for switch in ("", *(f"-{name}" for name in SWITCHES))
    }


@pytest.mark.parametrize("base", ["demo", "unwarped", "brief", "paper"])
def test_variants_that_differ_in_sampling_share_their_checkpoint(base: str) -> None:
    shaped = {name: stage_config(VARIANTS[name]) for name in VARIANTS if name.split("-")[0] == base}
    same = {name for name, value in shaped.items() if value == shaped[base]}
    assert same == {base, f"{base}-no_hjb", f"{base}-public_schedule", f"{base}-algorithm_1"}
    assert STABLE_ANIMATOR.stages_of(base) == ("stage_1",)
    assert STABLE_ANIMATOR.needs == ("faces",)


def test_the_switches_change_what_they_say() -> None:
    base = VARIANTS["demo"]
    assert not VARIANTS["demo-no_face_mask"].stage_1.face_mask
    assert not VARIANTS["demo-no_face_encoder"].network.face_encoder
    assert not VARIANTS["demo-no_hjb"].sampling.hjb.enabled
    assert [VARIANTS[f"demo-align_{kind}"].network.align for kind in ("add", "norm")] == ["add", "norm"]
    none, ip = VARIANTS["demo-no_face"], VARIANTS["demo-ip_adapter"]
    assert [none.network.face_method, ip.network.face_method, base.network.face_method] == ["none", "ip_adapter", "ours"]
    assert not any(
        (none.stage_1.face_mask, none.sampling.hjb.enabled, ip.stage_1.face_mask, ip.sampling.hjb.enabled, ip.network.face_encoder)
    )
    assert ip.network.align == "add"
    paper = VARIANTS["paper"]
    assert (paper.size, paper.stage_1.sizes, paper.stage_1.window, paper.stage_1.loop.learning_rate) == (
        (1024, 576), ((512, 512), (1024, 576)), 16, 1e-5,
    )  # fmt: skip
    assert (paper.sampling.sampler, paper.sampling.hjb.steps, paper.sampling.hjb.sigma_range) == ("heun", 10, "paper")
    assert not paper.stage_1.drop_face_with_image
    assert paper.stage_1.drop_pose == 0
    assert VARIANTS["paper-public_schedule"].sampling.sampler == "euler"


def test_the_method_answers_its_users() -> None:
    with pytest.raises(UserError, match="no variant 'nope'"):
        STABLE_ANIMATOR.config("nope")
    with pytest.raises(UserError, match="has no stage 'stage_2'; it has: stage_1"):
        STABLE_ANIMATOR.train("stage_2", variant="brief", clips=[], parent=None, out=Path("x"), seed=0, identity={})
    with pytest.raises(UserError, match="needs a checkpoint"):
        STABLE_ANIMATOR.load("brief", None)
    root = Path(__file__).resolve().parents[2]
    assert [name for name in (*STABLE_ANIMATOR.sampling_code, *STABLE_ANIMATOR.training_code) if not (root / name).is_file()] == []


def test_what_is_not_shipped_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pipelines.weights

    monkeypatch.setattr(pipelines.weights, "_TINY", tmp_path)
    with pytest.raises(MissingWeightsError, match="svd_vae"):
        STABLE_ANIMATOR.weights_digest("demo")


def test_brief_trains_and_animates_with_what_is_shipped(make_clip: Callable[..., TrainingClip], tmp_path: Path) -> None:
    """The whole way at the demo's size: the image autoencoder that the package holds, everything else from scratch."""
    from models.animator import Driving, Reference
    from models.signals import Signals

    item = _with_faces(make_clip("brief", frames=8))
    frames, wide = item.clip.num_frames, np.zeros((8, 128), np.float32)
    reader: Any = item.signals
    signals = reader(NEEDS)
    item = replace(item, signals=lambda names: replace(signals, faces=replace(signals.faces, embeddings=wide)))
    identity = {"checkpoint_id": "0" * 16}
    records = STABLE_ANIMATOR.train("stage_1", variant="brief", clips=[item], parent=None, out=tmp_path / "one", seed=0, identity=identity)
    assert records[-1].step == 6
    animator = STABLE_ANIMATOR.load("brief", tmp_path / "one")
    points = item.keypoints * (128 / 48)
    reference = Reference(
        image=np.full((128, 128, 3), 90, np.uint8),
        points=points[0],
        scores=item.scores[0],
        signals=Signals(face_embeddings=torch.zeros(1, 128)),
    )
    made = animator(reference, Driving(points=points[:3], scores=item.scores[:3]), seed=0)
    assert made.shape == (3, 128, 128, 3)
    assert frames == 8


def test_the_demo_s_way_with_a_family_of_random_weights(
    make_clip: Callable[..., TrainingClip], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What `demo` does once the tiny family is shipped: temporal autoencoder, base UNet and CLIP come from its folders."""
    from diffusers import AutoencoderKLTemporalDecoder
    from transformers import CLIPModel, CLIPTextConfig, CLIPVisionConfig
    from transformers.models.clip import CLIPConfig

    import pipelines.weights
    from models.animator import Driving, Reference
    from models.signals import Signals
    from models.stable_animator.network import make_unet
    from models.stable_animator.sampling import animate
    from models.stable_animator.temporal_codec import TemporalCodec, load_codec

    monkeypatch.setattr(pipelines.weights, "_TINY", tmp_path)
    torch.manual_seed(0)
    demo = VARIANTS["demo"]
    AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4,
        block_out_channels=(32,) * 4,
        layers_per_block=1,
        latent_channels=8,
        scaling_factor=0.7,
    ).save_pretrained(tmp_path / "svd_vae")
    unet = make_unet(demo.network, 8)
    unet.save_pretrained(tmp_path / "svd_unet")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision, text = CLIPVisionConfig(image_size=64, patch_size=16, **small), CLIPTextConfig(vocab_size=20, **small)
    clip = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=64)).eval()
    clip.save_pretrained(tmp_path / "clip")

    config = replace(
        demo, size=(64, 64), recogniser=None, stage_1=replace(demo.stage_1, loop=LOOP, sizes=((64, 64),), window=3),
        sampling=replace(demo.sampling, steps=2, window=4, overlap=2, guidance_scale=1.0, hjb=replace(demo.sampling.hjb, sigma_range="paper", stop_cosine=None)),
    )  # fmt: skip
    codec = load_codec(config.autoencoder)
    assert isinstance(codec, TemporalCodec)
    assert codec.scale == 0.7
    network = fresh_network(config)
    changed = {name for name, value in unet.state_dict().items() if not torch.equal(network.unet.state_dict()[name], value)}
    assert changed == {"conv_out.weight", "conv_out.bias"}  # it begins with the linear estimate alone
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (1, 3, 64, 64))).float() / 127.5 - 1
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)))
    with torch.no_grad():
        pooled = clip.vision_model(pixel_values=((images + 1) / 2 - mean) / std).pooler_output
        torch.testing.assert_close(network.image_tokens(images)[:, 0], clip.visual_projection(pooled), rtol=0, atol=1e-4)

    item, wide = _with_faces(make_clip("family", frames=6)), np.ones((6, 128), np.float32)
    reader: Any = item.signals
    faces = replace(reader(NEEDS).faces, embeddings=wide)
    item = replace(item, signals=lambda names: ClipSignals(frames=6, fps=12.0, faces=faces))
    records = train_stage(_run(tmp_path / "one", config), [item], config, codec)
    assert records[-1].step == LOOP.steps
    points = item.keypoints * (64 / 48)
    points[:, 23:91] += np.random.default_rng(0).uniform(-6, 6, (68, 2)).astype(np.float32)
    scene = (
        Reference(
            image=np.full((64, 64, 3), 90, np.uint8),
            points=points[0],
            scores=item.scores[0],
            signals=Signals(face_embeddings=torch.ones(1, 128)),
        ),
        Driving(points=points[:3], scores=item.scores[:3]),
    )
    loaded = load_network(config, tmp_path / "one").eval()
    judged, plain = (np.concatenate(list(animate(loaded, codec, config, judge, *scene, 0))) for judge in (load_differentiable(None), None))
    assert judged.shape == plain.shape == (3, 64, 64, 3)
    assert not np.array_equal(judged, plain)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap=0"):
        Sampling(overlap=0)
    with pytest.raises(ValueError, match=r"drop_probability=0\.5"):
        Stage1(drop_probability=0.5)
