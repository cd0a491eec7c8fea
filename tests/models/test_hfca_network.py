"""HFCA at the smallest size, made of the real classes: fresh modules change nothing, each stage trains what it should, and clips come out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.animator import Driving, Reference
from models.checkpoint import read_manifest
from models.clip_dataset import ClipStore, TrainingClip
from models.clip_signals import ClipSignals, FaceSignals, PackedFrames
from models.demo_additions import DemoAdditions
from models.gradient_checkpointing import checkpoint_gradients
from models.guidance import null_conditions
from models.hfca.config import (
    ABLATIONS,
    BRIEF,
    DEMO,
    PAPER,
    VARIANTS,
    DomainAdaptation,
    DomainStage,
    HfcaConfig,
    IdentityPreservation,
    PoseNet,
    Sampling,
)
from models.hfca.method import HFCA
from models.hfca.network import Hfca, HfcaCondition, add_adaptation, add_temporal, fresh_network, load_network
from models.hfca.sampling import animate, fuse_in_order, fused_latents, motion_of, one_in
from models.hfca.stages import (
    MixedLoss,
    additions_of,
    companions,
    condition_of,
    learn_prototypes,
    needs_of,
    sides_of,
    stage_config,
    train_stage,
)
from models.latents import LatentCodec
from models.motion_blur_map import HandSignals
from models.noise import NoiseConfig
from models.reference_attention import ReferenceBank
from models.signals import SignalName, Signals
from models.stage_config import PairStage, WindowStage
from models.stage_loss import StageLoss
from models.stage_training import StageRun
from models.training_loop import LoopConfig
from models.unet_shape import UnetShape
from models.windows import fuse_windows, gaussian_weights, uniform_windows
from pipelines.errors import UserError
from pipelines.extractors.face_embedding import similarity_warp
from pipelines.masks import pack_array

SIZE = (32, 32)
TOKENS, CHANNELS = 6, 5  # motion tokens
_LOOP = LoopConfig(steps=3, learning_rate=2e-3, probes=2, pictures=1)

TINY = HfcaConfig(
    size=SIZE,
    autoencoder="tests",
    base_unet=None,
    image_encoder=None,
    shape=UnetShape(channels=(16, 32), layers=1, heads=2, token_dim=16, norm_groups=4, latent_channels=16, motion_heads=2, motion_frames=8),
    additions=DemoAdditions(hint=True, residual=True, warp=True),
    noise=NoiseConfig(),
    pose=PoseNet(widths=(4, 8, 8)),
    ipm=IdentityPreservation(least_face_px=3.0, t_max=1000, crop_margin=1, recogniser=None, perceptual=None),
    dsao=DomainAdaptation(motion_tokens=TOKENS, token_channels=CHANNELS, heads=2),
    stage_1=PairStage(loop=_LOOP, references=2, targets=2, augment=False, distance=3),
    stage_1b=DomainStage(loop=_LOOP, references=2, targets=1, augment=False, distance=3, dataset="acts"),
    stage_2=WindowStage(loop=_LOOP, batch=1, window=4, stride=1, augment=False),
    sampling=Sampling(steps=2, guidance_scale=1.5, window=4, overlap=2, sigma=1.0, retarget="none", fusion="eps"),
)


class Read:
    """Signals of a clip of the walking figure, by the names that are asked for; pictures of a source of 48x48 px."""

    def __init__(self, clip: TrainingClip, seed: int) -> None:
        self.clip, self.rng = clip, np.random.default_rng(seed)
        self.clothing = self.rng.dirichlet(np.ones(12)).astype(np.float32)
        self.tokens = self.rng.normal(size=(TOKENS, CHANNELS)).astype(np.float32)

    def __call__(self, names: Sequence[SignalName]) -> ClipSignals:
        frames = self.clip.clip.num_frames
        found: dict[str, Any] = {"hands": self._hands, "faces": self._faces, "body_mask": self._body, "densepose": self._iuv}
        made = {name: found[name]() for name in names if name in found}
        if "clothing" in names:
            made["clothing"] = self.clothing
        if "actions" in names:
            made |= {"actions": PackedFrames([pack_array(self.tokens)]), "action_starts": (0,)}
        return ClipSignals(frames=frames, fps=12.0, **made)

    def _hands(self) -> HandSignals:
        frames, wrists = self.clip.clip.num_frames, self.clip.keypoints[:, [9, 10]]
        boxes = np.concatenate([wrists - 3, wrists + 3], axis=-1).astype(np.float32)
        return HandSignals(
            boxes=boxes,
            valid=np.ones((frames, 2), bool),
            movement=np.zeros((frames, 2, 2), np.float32),
            sharpness=np.ones((frames, 2), np.float32),
        )

    def _faces(self) -> FaceSignals:
        nose, frames = self.clip.keypoints[:, 0], self.clip.clip.num_frames
        five = np.array([[-2, -2], [2, -2], [0, 0], [-1.5, 2], [1.5, 2]], np.float32)
        warps = np.stack([similarity_warp(five + at) for at in nose])
        boxes = np.concatenate([nose - 4, nose + 4], axis=-1)
        return FaceSignals(boxes=boxes, warps=warps, found=np.ones(frames, bool), embeddings=np.zeros((frames, 4), np.float32))

    def _body(self) -> PackedFrames:
        return PackedFrames([pack_array(image[..., 0]) for image in self._pictures()])

    def _iuv(self) -> PackedFrames:
        return PackedFrames(
            [
                pack_array(np.stack([image[..., 0] // 255 * 2, image[..., 0] // 2, image[..., 0] // 3], axis=-1))
                for image in self._pictures()
            ]
        )

    def _pictures(self) -> list[np.ndarray]:
        made = []
        for person in self.clip.keypoints:
            image = np.zeros((48, 48, 3), np.uint8)
            left, top = person[5].round().astype(int)
            image[max(top - 9, 0) : top + 16, max(left, 0) : left + 10] = 255
            made.append(image)
        return made


@pytest.fixture(scope="module")
def people(clips: list[TrainingClip]) -> list[TrainingClip]:
    """Two character clips with their signals."""
    return [replace(clip, signals=Read(clip, seed)) for seed, clip in enumerate(clips)]


@pytest.fixture(scope="module")
def everyone(people: list[TrainingClip]) -> list[TrainingClip]:
    """And two of a second data set."""
    acting = [replace(one, clip=replace(one.clip, dataset="acts", clip_id=f"act{i}")) for i, one in enumerate(people)]
    return people + [replace(one, signals=Read(one, 10 + i)) for i, one in enumerate(acting)]


@pytest.fixture
def fresh() -> Hfca:
    torch.manual_seed(0)
    return fresh_network(TINY).eval()


def _store(clips: Sequence[TrainingClip], codec: LatentCodec, stage: str = "stage_1b", config: HfcaConfig = TINY) -> ClipStore:
    needs = sorted({*needs_of(config, "stage_1"), *needs_of(config, stage)})
    return ClipStore(clips, SIZE, codec, needs=tuple(needs))


def _adapted(network: Hfca, clips: Sequence[TrainingClip], codec: LatentCodec) -> Hfca:
    made = add_adaptation(network, []).eval()
    learn_prototypes(made, _store(clips, codec), range(len(clips)))
    return made


def _awake(network: Hfca) -> Hfca:
    """With everything that begins at zero moved from there."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def _run(network: Hfca, condition: HfcaCondition, each: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    references = len(condition.reference_latent)
    noisy = torch.randn(references, each, 16, 8, 8, generator=generator)
    with torch.no_grad():
        return network(noisy, torch.full((references,), 500), condition)


def _condition(network: Hfca, clips: Sequence[TrainingClip], codec: LatentCodec, each: int = 3) -> HfcaCondition:
    chosen = [(index, 0, list(range(2, 2 + each))) for index in range(2)]
    return condition_of(network, _store(clips, codec).batch(chosen, np.random.default_rng(0)))


# --- what begins at zero changes nothing -----------------------------------------------------------------------------


def test_adaptation_changes_no_bit_at_the_start(fresh: Hfca, people: list[TrainingClip], codec: LatentCodec) -> None:
    network = _awake(fresh)
    before = _run(network, _condition(network, people, codec))
    adapted = _adapted(network, people, codec)
    condition = _condition(adapted, people, codec)
    assert condition.clothing is not None and condition.actions is not None  # noqa: PT018
    assert torch.equal(_run(adapted, condition), before)
    awake = _awake(adapted)
    assert not torch.equal(_run(awake, condition), before)
    for changed in (replace(condition, clothing=condition.clothing.flip(0)), replace(condition, actions=condition.actions.flip(0))):
        assert not torch.equal(_run(awake, changed), _run(awake, condition))


def test_temporal_layers_change_no_bit_at_the_start(fresh: Hfca, people: list[TrainingClip], codec: LatentCodec) -> None:
    network = _awake(fresh)
    condition = _condition(network, people, codec)
    before = _run(network, condition)
    temporal = add_temporal(network).eval()
    assert torch.equal(_run(temporal, condition), before)
    awake = _awake(temporal)
    assert not torch.equal(_run(awake, condition), before)


def test_without_temporal_layers_frames_follow_their_poses(fresh: Hfca, people: list[TrainingClip], codec: LatentCodec) -> None:
    network = _awake(fresh)
    condition = _condition(network, people, codec)
    noisy = torch.randn(2, 1, 16, 8, 8).expand(2, 3, 16, 8, 8)
    order = torch.tensor([2, 0, 1])
    turned = replace(condition, pose=condition.pose.unflatten(0, (2, 3))[:, order].flatten(0, 1))
    with torch.no_grad():
        plain, moved = (network(noisy, torch.full((2,), 300), each) for each in (condition, turned))
    torch.testing.assert_close(moved, plain[:, order], rtol=0, atol=1e-5)
    assert (plain[:, 0] - plain[:, 1]).abs().max() > 1e-4


def test_dropped_references_see_no_reference_clothing_or_action(fresh: Hfca, people: list[TrainingClip], codec: LatentCodec) -> None:
    network = _awake(_adapted(fresh, people, codec))
    condition = null_conditions(_condition(network, people, codec), torch.tensor([True, False]))
    other = replace(
        condition,
        reference_latent=condition.reference_latent.flip(0),
        clothing=condition.clothing.flip(0),  # type: ignore[union-attr]
        actions=condition.actions.flip(0),  # type: ignore[union-attr]
    )
    a, b = _run(network, condition), _run(network, other)
    torch.testing.assert_close(a[0], b[0], rtol=0, atol=1e-6)
    assert (a[1] - b[1]).abs().max() > 1e-4


def test_pose_maps_have_the_channels_that_are_asked_for(people: list[TrainingClip], codec: LatentCodec) -> None:
    batch = _store(people, codec).batch([(0, 0, [3])], np.random.default_rng(0))
    for channels, count in (("skeleton", 3), ("densepose", 3), ("both", 6)):
        config = replace(TINY, pose=replace(TINY.pose, channels=channels))  # type: ignore[arg-type]
        network = fresh_network(config)
        pose = condition_of(network, batch).pose
        assert pose.shape == (1, count, *SIZE)
        assert network.made_of.pose_net(pose).shape == (1, 16, 8, 8)
    assert torch.equal(pose[:, :3], batch.pose)
    assert torch.equal(pose[:, 3:], batch.signals.densepose)
    with pytest.raises(UserError, match="extract `densepose`"):
        condition_of(network, replace(batch, signals=Signals()))


# --- stages ----------------------------------------------------------------------------------------------------------


def _grown(stage: str, people: list[TrainingClip], codec: LatentCodec) -> Hfca:
    torch.manual_seed(0)
    network = fresh_network(TINY)
    if stage != "stage_1":
        network = _adapted(network, people, codec)
    return add_temporal(network) if stage == "stage_2" else network


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        ("stage_1", {"denoising_unet", "reference_net", "pose_net", "reference_hint"}),
        ("stage_1b", {"clothing_prototypes", "action_attention", "pose_net"}),
        ("stage_2", {"temporal_layers"}),
    ],
)
def test_only_the_listed_parameters_get_gradients(stage: str, parts: set[str], people: list[TrainingClip], codec: LatentCodec) -> None:
    network = _awake(_grown(stage, people, codec))
    chosen = network.trainable(stage)
    assert {name.split(".")[0] for name in chosen} == parts
    settings = TINY.stage(stage)
    loss = StageLoss(network, _store(people, codec, stage), settings, 0, condition_of)
    loss.of(loss.batch(0), torch.Generator().manual_seed(0), 0.5).backward()
    for part, module in network.parts().items():
        for name, parameter in module.named_parameters():
            trained = f"{part}.{name}" in chosen
            assert (parameter.grad is not None) == trained, f"{part}.{name}"
    assert all(parameter.grad.abs().max() > 0 for parameter in chosen.values() if parameter.grad is not None)


def test_gradient_checkpointing_gives_the_same_gradients(people: list[TrainingClip], codec: LatentCodec) -> None:
    """Recomputed blocks find the fused tokens in the bank, not the writer's."""
    found = []
    for checkpointed in (False, True):
        network = _awake(_grown("stage_1b", people, codec)).train()
        parameters = network.trainable("stage_1b")
        loss = StageLoss(network, _store(people, codec), TINY.stage_1b, 0, condition_of)
        if checkpointed:
            checkpoint_gradients(network)
        with network.bank.held():
            loss.of(loss.batch(0), torch.Generator().manual_seed(0), 0.0).backward()
        found.append({name: parameter.grad for name, parameter in parameters.items() if parameter.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_prototypes_are_those_of_the_reference_net(people: list[TrainingClip], codec: LatentCodec) -> None:
    network = add_adaptation(fresh_network(TINY), ["Punch"]).eval()
    named = [_named(clip, "Punch") for clip in people]
    store = _store(named, codec)
    learn_prototypes(network, store, [0, 1])
    clothes, actions = network.made_of.clothing_prototypes, network.made_of.action_attention
    assert clothes is not None and actions is not None  # noqa: PT018
    batch = store.batch([(0, 0, [0]), (1, 0, [0])], np.random.default_rng(0))
    tokens = network.reference_tokens(condition_of(network, batch))
    assert [each.shape[-1] for each in tokens] == [site.project.in_features for site in clothes.sites]
    labels = batch.signals.clothing.argmax(dim=-1).tolist()  # type: ignore[union-attr]
    for number, site in enumerate(clothes.sites):
        for label in set(labels):
            own = [tokens[number][row].mean(dim=0) for row in range(2) if labels[row] == label]
            torch.testing.assert_close(site.prototypes[label], torch.stack(own).mean(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actions.prototypes[0], batch.signals.actions.mean(dim=0))  # type: ignore[union-attr]
    assert actions.nearest_class(people[0].keypoints, people[0].scores) == 0


def _named(clip: TrainingClip, action: str) -> Any:
    """A training clip that knows its class."""

    fields = {name: getattr(clip, name) for name in ("clip", "keypoints", "scores", "references", "signals")}
    return SimpleNamespace(**fields, action_class=action)


def test_adaptation_mixes_two_data_sets_one_to_one(people: list[TrainingClip], everyone: list[TrainingClip], codec: LatentCodec) -> None:
    own, domain = sides_of(everyone, TINY.stage_1b)
    assert (own, domain) == ([0, 1], [2, 3])
    assert sides_of(everyone[2:], TINY.stage_1b) == ([0, 1], [0, 1])  # trained on the domain itself
    assert sides_of(people, replace(TINY.stage_1b, dataset=None, samples=1)) == ([0, 1], [0])
    with pytest.raises(UserError, match="adapts to data set acts"):
        sides_of(people, TINY.stage_1b)
    chosen: list[int] = []

    class Noting(ClipStore):
        def batch(self, triples: Any, rng: Any) -> Any:
            chosen.extend(index for index, *_ in triples)

    for references in (1, 2, 3):
        chosen.clear()
        loss = MixedLoss(fresh_network(TINY), Noting(everyone, SIZE, codec), replace(TINY.stage_1b, references=references), 0, condition_of)
        loss.sides = (own, domain)
        for step in range(20):
            loss.batch(step)
        assert sum(index in domain for index in chosen) == 10 * references
        assert set(chosen) == {0, 1, 2, 3}


IDENTITY = {"checkpoint_id": "x", "method": "hfca", "variant": "tiny", "dataset": "tests"}


def _stage_run(stage: str, out: Path, parent: Path | None) -> StageRun:
    return StageRun(stage=stage, out=out, seed=0, parent=parent, identity=IDENTITY, config=TINY.as_dict(), additions=additions_of(TINY))


@pytest.fixture(scope="module")
def trained(everyone: list[TrainingClip], codec: LatentCodec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of the three stages."""
    torch.set_num_threads(1)
    folder, made = tmp_path_factory.mktemp("hfca"), dict[str, Path]()
    parent = None
    for stage in TINY.stages:
        out = folder / stage
        clips = everyone if stage == "stage_1b" else everyone[:2]
        records = train_stage(_stage_run(stage, out, parent), clips, TINY, codec)
        assert [record.step for record in records if record.loss is not None] == [1, 2, 3]
        made[stage] = parent = out
    return made


def test_stages_are_trained_one_after_the_other(trained: dict[str, Path]) -> None:
    assert list(trained) == ["stage_1", "stage_1b", "stage_2"]
    before, adapted, last = (load_network(TINY, folder) for folder in trained.values())
    assert set(last.parts()) - set(before.parts()) == {"clothing_prototypes", "action_attention", "temporal_layers"}
    assert _equal(before.made_of.denoising_unet, last.made_of.denoising_unet)
    assert _equal(adapted.made_of.clothing_prototypes, last.made_of.clothing_prototypes)
    assert not _equal(before.made_of.pose_net, adapted.made_of.pose_net)
    assert adapted.made_of.clothing_prototypes.counts.sum() == 2  # type: ignore[union-attr]
    assert last.made_of.temporal_layers.layers[0].to_out.weight.any()  # type: ignore[union-attr]
    manifest = read_manifest(trained["stage_2"])
    assert {"random recogniser", "random style network", "fusion of predictions instead of frames"} <= set(manifest["additions"])


def test_the_share_of_each_gradient_is_noted(trained: dict[str, Path]) -> None:
    noted = json.loads(trained["stage_1"].with_name("stage_1.gradient_shares.json").read_text())
    assert set(noted) == {"face", "style"}
    assert all(0 < facts["median"] <= facts["largest"] for facts in noted.values())


def _equal(a: nn.Module | None, b: nn.Module | None) -> bool:
    assert a is not None and b is not None  # noqa: PT018
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_run_that_was_cut_off_goes_on_with_the_same_losses(
    everyone: list[TrainingClip], codec: LatentCodec, trained: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(TINY, stage_1b=replace(TINY.stage_1b, loop=replace(TINY.stage_1b.loop, save_every_s=0.0)))

    def stop(record: Any) -> None:
        if record.step == 2:
            raise KeyboardInterrupt

    run = replace(_stage_run("stage_1b", tmp_path / "again", trained["stage_1"]))
    with pytest.raises(KeyboardInterrupt):
        train_stage(replace(run, on_record=stop), everyone, config, codec)
    torch.rand(3)
    train_stage(run, everyone, config, codec)
    assert read_manifest(tmp_path / "again")["files"] == read_manifest(trained["stage_1b"])["files"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage_1", "stage_1b", "stage_2"])
def test_one_clip_is_fitted(stage: str, people: list[TrainingClip], codec: LatentCodec) -> None:
    """Each stage's own parameters lower the loss of one batch with fixed noise."""
    network = _grown(stage, people, codec)
    if stage != "stage_1":
        network = _awake(network)
    loss = StageLoss(network, _store(people[:1], codec, stage), TINY.stage(stage), 0, condition_of)
    parameters = network.trainable(stage)
    batch, optimizer = loss.batch(0), torch.optim.AdamW(parameters.values(), lr=5e-3)
    values = []
    for _ in range(60):
        value = loss.of(batch, torch.Generator().manual_seed(0), 0.0)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert min(values[-5:]) < {"stage_1": 0.6, "stage_1b": 0.97, "stage_2": 0.97}[stage] * values[0]


# --- sampling --------------------------------------------------------------------------------------------------------


def _reference(clip: TrainingClip) -> Reference:
    rng = np.random.default_rng(0)
    points = clip.keypoints[0] * 32 / 48
    image = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    return Reference(image=image, points=points, scores=clip.scores[0], signals=Signals(clothing=torch.full((1, 12), 1 / 12)))


def _driving(clip: TrainingClip, frames: int) -> Driving:
    chosen = [i % clip.clip.num_frames for i in range(frames)]
    iuv = torch.rand(frames, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    signals = Signals(densepose=iuv, actions=torch.zeros(1, TOKENS, CHANNELS))
    return Driving(points=clip.keypoints[chosen] * 32 / 48, scores=clip.scores[chosen], signals=signals)


@pytest.mark.parametrize("fusion", ["eps", "pixel"])
@pytest.mark.parametrize("frames", [1, 3, 5, 9])  # windows of 4 that share 2
def test_clips_of_any_length_are_made(
    trained: dict[str, Path], people: list[TrainingClip], codec: LatentCodec, fusion: Any, frames: int
) -> None:
    config = replace(TINY, sampling=replace(TINY.sampling, fusion=fusion))
    network, calls = load_network(config, trained["stage_2"]).eval(), list[int]()
    inputs = (_reference(people[0]), _driving(people[1], frames), 0)
    made = np.concatenate(list(animate(network, codec, config, *inputs, advance=lambda: calls.append(1))))
    assert made.shape == (frames, *SIZE, 3)
    assert made.dtype == np.uint8
    assert len(calls) == config.sampling.steps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReferenceBank, "remembering", lambda bank: nullcontext())  # the reference anew for every window and step
        assert np.array_equal(made, np.concatenate(list(animate(network, codec, config, *inputs))))


def test_both_fusions_agree_on_a_single_window(trained: dict[str, Path], people: list[TrainingClip], codec: LatentCodec) -> None:
    made = []
    for fusion in ("eps", "pixel"):
        config = replace(TINY, sampling=replace(TINY.sampling, fusion=fusion))  # type: ignore[arg-type]
        network = load_network(config, trained["stage_2"]).eval()
        made.append(np.concatenate(list(animate(network, codec, config, _reference(people[0]), _driving(people[1], 4), 0))))
    assert np.abs(made[0].astype(int) - made[1]).max() <= 1


def test_fusing_in_order_is_fusing_at_once() -> None:
    for frames in (3, 4, 5, 9, 23):
        windows = uniform_windows(frames, 4, 2)
        values, weights = torch.randn(len(windows), len(windows[0]), 2, 3), gaussian_weights(len(windows[0]), 1.3)
        pieces = list(fuse_in_order(windows, weights, lambda window, w=windows, v=values: v[w.index(window)]))  # type: ignore[misc]
        at_once = fuse_windows(zip(windows, values, strict=True), weights, torch.empty(frames, 2, 3))
        torch.testing.assert_close(torch.cat(pieces), at_once)


def test_context_weights_are_the_documented_ones() -> None:
    """24 frames, 4 shared, sigma 4: the later half of an overlap has shares .867, .651, .349, .133 of the earlier window."""
    windows, weights = uniform_windows(120, 24, 4), gaussian_weights(24, PAPER.sampling.sigma)
    assert [window[0] for window in windows] == [0, 20, 40, 60, 80, 96]
    seen = torch.cat(list(fuse_in_order(windows[:2], weights, lambda window: torch.full((24,), float(window[0] == 0)))))
    np.testing.assert_allclose(seen[20:24].numpy(), [0.867, 0.651, 0.349, 0.133], atol=5e-4)


def test_equal_windows_are_not_changed_by_fusion(fresh: Hfca, people: list[TrainingClip], codec: LatentCodec) -> None:
    """Without temporal layers frames are independent: windows and their weights make no difference."""
    from models.clip_sampling import with_poses

    network = _awake(fresh)
    one = _condition(network, people, codec, each=7).of_reference(0, 7)
    whole, parts = (
        fused_latents(network, with_poses(one, one.pose), replace(TINY.sampling, window=window, overlap=0), 0) for window in (7, 3)
    )
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-4)


def test_progress_counts_whole_steps() -> None:
    calls: list[int] = []
    tick = one_in(3, lambda: calls.append(1))
    assert tick is not None
    for _ in range(12):
        tick()
    assert len(calls) == 4


def test_motion_comes_from_the_source_that_is_named(fresh: Hfca, people: list[TrainingClip], codec: LatentCodec) -> None:
    network = add_adaptation(fresh, ["Punch"])
    store = _store([_named(clip, "Punch") for clip in people], codec)
    learn_prototypes(network, store, [0, 1])
    seen, unseen = _driving(people[0], 4), replace(_driving(people[0], 4), signals=Signals())
    bank = network.made_of.action_attention.prototypes  # type: ignore[union-attr]
    for source in ("auto", "driving"):
        assert motion_of(network, seen, source) is seen.signals.actions  # type: ignore[arg-type]
    for driving, source in ((unseen, "auto"), (unseen, "prototype"), (seen, "prototype")):
        assert torch.equal(motion_of(network, driving, source), bank[:1])  # type: ignore[arg-type]
    assert motion_of(network, seen, "null") is None
    with pytest.raises(UserError, match="extract `actions`"):
        motion_of(network, unseen, "driving")
    empty = add_adaptation(fresh_network(TINY), [])
    assert motion_of(empty, unseen, "auto") is None
    with pytest.raises(UserError, match="no prototype of any action"):
        motion_of(empty, unseen, "prototype")
    assert motion_of(fresh_network(TINY), seen, "auto") is None


def test_a_reference_without_clothing_is_refused(trained: dict[str, Path], people: list[TrainingClip], codec: LatentCodec) -> None:
    network = load_network(TINY, trained["stage_2"])
    bare = replace(_reference(people[0]), signals=Signals())
    with pytest.raises(UserError, match="extract `clothing`"):
        list(animate(network, codec, TINY, bare, _driving(people[0], 2), 0))


def test_retargeted_densepose_follows_the_body(people: list[TrainingClip]) -> None:
    from models.hfca.pose_maps import ClipPoseMaps, moved_images, scale_and_shift

    driving = _driving(people[0], 3)
    moved = replace(driving, points=driving.points * np.array([0.5, 2], np.float32) + np.array([8, -4], np.float32))
    scale, shift = scale_and_shift(driving.points, moved.points, driving.scores)
    torch.testing.assert_close(scale, torch.tensor([0.5, 2.0]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(shift, torch.tensor([8.0, -4.0]), rtol=1e-2, atol=5e-2)
    dot = torch.zeros(1, 3, *SIZE)
    dot[0, :, 10, 12] = 0.5
    there = moved_images(dot, torch.ones(2), torch.tensor([3.0, -2.0]))
    assert there[0, 0, 8, 15] == 0.5
    assert there.count_nonzero() == 3
    same = ClipPoseMaps("densepose", driving, driving, SIZE, TINY.sampling.hand)
    assert torch.equal(same[[2, 0]], driving.signals.densepose[[2, 0]])  # type: ignore[index]


# --- configuration ---------------------------------------------------------------------------------------------------


def test_the_paper_size_has_the_structure_of_stable_diffusion() -> None:
    """Without weights: 16 sites of reference attention, six channels in, temporal layers behind the four down blocks, 256 tokens of 512."""
    config = replace(PAPER, base_unet=None, image_encoder=None)
    with torch.device("meta"):
        network = add_temporal(add_adaptation(fresh_network(config), ["Archery"] * 101))
        features = network.made_of.pose_net(torch.empty(1, 6, 640, 640))
        assert features.shape == (1, 320, 80, 80)
        corrected = network.made_of.action_attention(features, torch.empty(1, 256, 512), torch.zeros(1, dtype=torch.bool))  # type: ignore[misc]
        assert corrected.shape == features.shape
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in network.parts().items()}
    assert round(count["denoising_unet"] / 1e6, 1) == round(count["reference_net"] / 1e6, 1) == 859.5  # as Stable Diffusion 1.5
    widths = [site.project.in_features for site in network.made_of.clothing_prototypes.sites]  # type: ignore[union-attr]
    assert widths == [320] * 2 + [640] * 2 + [1280] * 6 + [640] * 3 + [320] * 3
    assert count["clothing_prototypes"] == sum(width * width + 2 * width for width in widths)
    assert count["temporal_layers"] == sum(4 * width * width + 3 * width for width in (320, 640, 1280, 1280))
    assert count["action_attention"] == 2 * 320 * 320 + 2 * 512 * 320 + 320 + 256 * 512
    assert network.made_of.action_attention.prototypes.shape == (101, 256, 512)  # type: ignore[union-attr]


def test_the_paper_variant_has_the_numbers_of_the_paper() -> None:
    assert PAPER.size == (640, 640)
    assert (PAPER.stage_2.window, PAPER.sampling.window, PAPER.sampling.overlap) == (24, 24, 4)
    assert (PAPER.dsao.categories, PAPER.dsao.motion_tokens, PAPER.stage_1b.samples, PAPER.stage_1b.dataset) == (12, 256, 3200, "ucf101")
    assert (PAPER.sampling.fusion, PAPER.noise.objective, PAPER.pose.in_channels) == ("pixel", "epsilon", 6)
    assert not PAPER.additions.said()
    assert PAPER.shape.channels == (320, 640, 1280, 1280)


def test_every_switch_has_a_variant_of_each_size() -> None:
    for base, config in (("demo", DEMO), ("brief", BRIEF), ("paper", PAPER)):
        for switch in ABLATIONS:
            assert VARIANTS[f"{base}-{switch}"] != config
    assert VARIANTS["demo-no_dsao"].stages == ("stage_1", "stage_2")
    assert VARIANTS["demo-no_stode"].stages == ("stage_1", "stage_1b")
    assert VARIANTS["demo-temporal_only"].scheduled.overlap == 0
    assert VARIANTS["demo-temporal_only"].scheduled.hand.apply_to == "none"
    assert VARIANTS["demo"].scheduled == DEMO.sampling


def test_ablations_share_the_stages_before_them() -> None:
    def shaped(switch: str, stage: str) -> dict[str, Any]:
        return stage_config(VARIANTS[f"demo-{switch}"], stage)

    for switch in ("no_dsao", "no_stode", "temporal_only", "no_hand", "no_context", "other_fusion", "literal_temporal", "hard_cloth"):
        assert shaped(switch, "stage_1") == stage_config(DEMO, "stage_1")
    for switch in ("no_stode", "temporal_only", "no_hand", "literal_temporal"):
        assert shaped(switch, "stage_1b") == stage_config(DEMO, "stage_1b")
    assert shaped("temporal_only", "stage_2") == stage_config(DEMO, "stage_2")
    for switch, stage in (("no_ipm", "stage_1"), ("no_cloth", "stage_1b"), ("literal_temporal", "stage_2"), ("skeleton_only", "stage_1")):
        assert shaped(switch, stage) != stage_config(DEMO, stage)
    json.dumps(stage_config(PAPER, "stage_2"))


def test_the_method_says_what_it_needs() -> None:
    assert HFCA.stages_of("demo") == ("stage_1", "stage_1b", "stage_2")
    assert HFCA.companions("demo", "stage_1b") == ("performers_actions",)
    assert HFCA.companions("paper", "stage_1b") == ("ucf101",)
    assert HFCA.companions("demo", "stage_1") == HFCA.companions("brief", "stage_1b") == ()
    assert companions(TINY, "stage_2") == ()
    for config in VARIANTS.values():
        for stage in config.stages:
            assert set(needs_of(config, stage)) <= set(HFCA.needs)
    root = Path(__file__).parents[2]
    assert all((root / path).is_file() for path in (*HFCA.sampling_code, *HFCA.training_code))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="window=9 is longer"):
        replace(TINY, stage_2=replace(TINY.stage_2, window=9))
    with pytest.raises(ValueError, match=r"dsao\.heads=3 does not divide"):
        replace(TINY, dsao=replace(TINY.dsao, heads=3))
    with pytest.raises(ValueError, match="overlap=4"):
        Sampling(window=4, overlap=4)
