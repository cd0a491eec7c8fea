"""AnimateAnyone at the smallest size, made of the real classes: the invariants that every method should keep, and the whole way from clip to clip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.animate_anyone.config import VARIANTS, AnimateAnyoneConfig, ablations_of
from models.animate_anyone.method import ANIMATE_ANYONE
from models.animate_anyone.network import AnimateAnyone, ReferenceCondition, add_motion, fresh_network, load_network
from models.animate_anyone.sampling import animate, animate_latents
from models.animate_anyone.stages import additions_of, condition_of, settings_of, stage_config, stages_of, start, train_stage
from models.animator import Driving, Reference
from models.checkpoint import WEIGHTS, read_manifest, verify
from models.clip_dataset import Batch, ClipStore, TrainingClip, fit_points, to_frames, to_signed
from models.clip_sampling import (
    Sampling,
    generate_latents,
    initial_noise,
    posed_clip,
    predictor,
    still_of,
    usual_guidance,
    warped_latents,
    with_poses,
)
from models.guidance import Condition, null_conditions
from models.latents import LatentCodec
from models.reference_attention import spatial_sites
from models.stage_config import Stage
from models.stage_loss import StageLoss
from models.stage_training import StageRun
from models.training_loop import LoopConfig, StepRecord
from pipelines.clip import Frames
from pipelines.errors import UserError

IDENTITY = {"checkpoint_id": "0" * 16, "method": "animate_anyone", "variant": "tiny", "dataset": "tests"}


def _awake(network: AnimateAnyone) -> AnimateAnyone:
    """Random values in what starts at zero, so that every input is heard."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.abs().max() == 0 and "image_tokens" not in name:
                parameter.normal_(std=0.2)
    return network.eval()


def _condition(config: AnimateAnyoneConfig, references: int = 1, each: int = 4) -> ReferenceCondition:
    torch.manual_seed(2)
    return ReferenceCondition(
        reference_image=torch.rand(references, 3, *config.size) * 2 - 1,
        reference_latent=torch.randn(references, 16, 8, 8),
        image_tokens=torch.randn(references, 1, config.network.unet.token_dim),
        pose=torch.rand(references * each, 3, *config.size),
        dropped=torch.zeros(references, dtype=torch.bool),
    )


def _train(
    stage: str,
    config: AnimateAnyoneConfig,
    clips: Sequence[TrainingClip],
    codec: LatentCodec,
    out: Path,
    *,
    parent: Path | None = None,
    seed: int = 0,
    on_record: Callable[[StepRecord], None] | None = None,
) -> list[StepRecord]:
    run = StageRun(
        stage=stage, out=out, seed=seed, parent=parent, identity={**IDENTITY, "checkpoint_id": stage}, config=config.as_dict(),
        additions=additions_of(config), on_record=on_record,
    )  # fmt: skip
    return train_stage(run, clips, config, codec)


def _loss(network: AnimateAnyone, store: ClipStore, stage: Stage, seed: int = 0) -> StageLoss:
    return StageLoss(network, store, stage, seed, condition_of)


def _predict(network: AnimateAnyone, noisy: Tensor, condition: ReferenceCondition) -> Tensor:
    times = torch.full((len(noisy) if network.temporal else noisy.shape[0] * noisy.shape[1],), 700)
    with torch.no_grad():
        return network(noisy, times, condition)


@pytest.fixture
def noisy() -> Tensor:
    return torch.randn(1, 4, 16, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def spatial(tiny: AnimateAnyoneConfig) -> AnimateAnyone:
    torch.manual_seed(0)
    return fresh_network(tiny).eval()


# --- what starts at zero changes nothing -------------------------------------------------------------------


def test_fresh_pose_guider_and_hint_change_nothing(tiny: AnimateAnyoneConfig, spatial: AnimateAnyone, noisy: Tensor) -> None:
    condition = _condition(tiny)
    other = replace(condition, pose=torch.rand_like(condition.pose))
    before = _predict(spatial, noisy, condition)
    assert torch.equal(before, _predict(spatial, noisy, other))
    _awake(spatial)
    assert not torch.equal(_predict(spatial, noisy, condition), _predict(spatial, noisy, other))


def test_fresh_motion_modules_change_nothing(tiny: AnimateAnyoneConfig, spatial: AnimateAnyone, noisy: Tensor) -> None:
    condition = _condition(tiny)
    before = _predict(_awake(spatial), noisy, condition)
    after = _predict(add_motion(spatial).eval(), noisy, condition)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


# --- the bank ----------------------------------------------------------------------------------------------


def test_dropped_references_are_as_if_there_were_none(tiny: AnimateAnyoneConfig, spatial: AnimateAnyone) -> None:
    noisy, condition = torch.randn(2, 4, 16, 8, 8), _condition(tiny, references=2)
    network = _awake(spatial)
    null = null_conditions(condition, torch.tensor([True, False]))
    mixed = _predict(network, noisy, null)
    torch.testing.assert_close(mixed[1], _predict(network, noisy, condition)[1], rtol=0, atol=1e-5)
    elsewhere = replace(null, reference_latent=torch.randn(2, 16, 8, 8))
    torch.testing.assert_close(mixed[0], _predict(network, noisy, elsewhere)[0], rtol=0, atol=1e-5)  # nothing of it is seen
    assert not torch.allclose(mixed[1], _predict(network, noisy, elsewhere)[1], atol=1e-3)


def test_no_reference_stays_behind(tiny: AnimateAnyoneConfig, spatial: AnimateAnyone, noisy: Tensor) -> None:
    network = _awake(spatial)
    _predict(network, noisy, _condition(tiny))
    assert (network.bank.tokens, network.bank.dropped, network.stem._features) == ({}, None, None)
    with pytest.raises(RuntimeError):
        network(noisy[..., :5], torch.full((4,), 700), _condition(tiny))  # sizes do not fit: the forward pass fails half way
    assert (network.bank.tokens, network.stem._features) == ({}, None)


# --- frames -------------------------------------------------------------------------------------------------


def test_without_temporal_layers_frames_are_independent(tiny: AnimateAnyoneConfig, spatial: AnimateAnyone, noisy: Tensor) -> None:
    network, condition, order = _awake(spatial), _condition(tiny), torch.tensor([2, 0, 3, 1])
    straight = _predict(network, noisy, condition)
    permuted = _predict(network, noisy[:, order], replace(condition, pose=condition.pose[order]))
    torch.testing.assert_close(permuted, straight[:, order], rtol=0, atol=1e-5)


def test_with_temporal_layers_frames_see_each_other(tiny: AnimateAnyoneConfig, spatial: AnimateAnyone, noisy: Tensor) -> None:
    network, condition = _awake(add_motion(spatial)), _condition(tiny)
    other = condition.pose.clone()
    other[3] = 0
    change = (_predict(network, noisy, condition) - _predict(network, noisy, replace(condition, pose=other))).abs().amax(dim=(0, 2, 3, 4))
    assert (change > 1e-5).all()  # changing the pose of frame 3 changes frames 0 to 2 too
    assert change.argmax() == 3


# --- what trains ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["stage_1", "stage_2"])
def test_only_listed_parameters_train(
    tiny: AnimateAnyoneConfig, spatial: AnimateAnyone, clips: list[TrainingClip], codec: LatentCodec, stage: str
) -> None:
    settings: Stage = tiny.stage_1 if stage == "stage_1" else tiny.stage_2
    network = spatial if stage == "stage_1" else add_motion(spatial)
    chosen = network.trainable(stage)
    _awake(network).train()
    _loss(network, ClipStore(clips, tiny.size, codec), replace(settings, drop_probability=0.0))(
        0, torch.Generator().manual_seed(0)
    ).backward()
    with_gradient = {
        f"{part}.{name}" for part, module in network.parts().items() for name, p in module.named_parameters() if p.grad is not None
    }
    assert with_gradient == set(chosen)
    assert all(p.grad is None for p in network.image_tokens.parameters())
    if stage == "stage_2":
        assert all("motion_modules" in name for name in chosen)
    else:
        assert {name.split(".")[0] for name in chosen} == {"denoising_unet", "reference_unet", "pose_guider", "reference_hint"}
        assert any(name.startswith("reference_unet.mid_block.attentions.0.transformer_blocks.0.ff") for name in chosen)


def test_a_warped_reference_trains_both_stages_and_animates(
    tiny: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec, tmp_path: Path
) -> None:
    """Every residual, estimate and clip is held against the warped reference: what a network of no opinion makes is that, not the reference."""
    additions = replace(tiny.network.additions, warp=True, residual_scale=1e-4)
    config = replace(tiny, network=replace(tiny.network, additions=additions))
    first, last = tmp_path / "first", tmp_path / "last"
    _train("stage_1", config, clips, codec, first)
    _train("stage_2", config, clips, codec, last, parent=first)
    assert "reference warped limb by limb" in json.loads((last / "manifest.json").read_text())["additions"]
    item = clips[0]
    points, image = item.keypoints * (32 / 48), np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    reference, driving = Reference(image=image, points=points[0], scores=item.scores[0]), Driving(points=points, scores=item.scores)
    network = load_network(config, last).eval()
    still = ReferenceCondition(**still_of(network, codec, image), reference_image=to_signed(image[None]))
    condition = posed_clip(config, reference, driving, still, codec)
    made, warped = animate_latents(network, condition, config.sampling, 0), warped_latents(codec, reference, driving)
    assert (made - warped).abs().mean() < 0.01 < (made - still.reference_latent).abs().mean()
    shown = np.concatenate(list(animate(network, codec, config, reference, driving, 0)))
    assert np.array_equal(shown, to_frames(codec.decode(made)))


# --- learning ------------------------------------------------------------------------------------------------


def test_one_clip_can_be_learnt(tiny: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec, tmp_path: Path) -> None:
    loop = LoopConfig(steps=60, learning_rate=4e-3, probes=20, pictures=0, warmup_steps=5)
    config = replace(tiny, stage_1=replace(tiny.stage_1, loop=loop))
    records = _train("stage_1", config, clips[:1], codec, tmp_path / "one")
    probes = [r.probe_loss for r in records if r.probe_loss is not None]
    assert len(probes) == 20
    assert sum(probes[-4:]) / 4 < 0.7 * probes[0]


def test_the_temporal_layers_alone_can_fit_fixed_noise_and_timesteps(
    tiny: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec
) -> None:
    torch.manual_seed(0)
    network = add_motion(fresh_network(tiny))
    parameters = list(network.trainable("stage_2").values())
    loss = _loss(network, ClipStore(clips[:1], tiny.size, codec), tiny.stage_2)
    batch, optimizer, losses = loss.batch(0), torch.optim.AdamW(parameters, lr=1e-2), []
    for _ in range(60):
        value = loss.of(batch, torch.Generator().manual_seed(1), 0.0)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert sum(losses[-12:]) <= 0.7 * sum(losses[:12])


# --- stages, checkpoints, resume ------------------------------------------------------------------------------


def _stages(
    config: AnimateAnyoneConfig, clips: Sequence[TrainingClip], codec: LatentCodec, folder: Path, seed: int = 0
) -> tuple[Path, Path]:
    first, second = folder / "stage_1", folder / "stage_2"
    for stage, parent, out in (("stage_1", None, first), ("stage_2", first, second)):
        _train(stage, config, clips, codec, out, parent=parent, seed=seed)
    return first, second


@pytest.fixture(scope="module")
def trained(
    tiny: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    torch.set_num_threads(1)
    return _stages(tiny, clips, codec, tmp_path_factory.mktemp("trained"))


def test_a_checkpoint_says_where_it_comes_from(tiny: AnimateAnyoneConfig, trained: tuple[Path, Path]) -> None:
    first, second = (read_manifest(folder) for folder in trained)
    assert (first["parent"], second["parent"]) == (None, "stage_1")
    assert second["config"] == json.loads(json.dumps(tiny.as_dict()))
    assert first["additions"] == additions_of(tiny)
    assert additions_of(VARIANTS["paper"]) == []
    assert {"reference hint at the stem", "residual diffusion"} <= set(first["additions"])
    assert {name.split("/")[0] for name in second["files"]} == {"denoising_unet", "reference_unet", "pose_guider", "reference_hint"}
    for folder in trained:
        verify(folder)
        assert list(folder.with_name(f"{folder.name}.pictures").glob("*.png"))


def test_stage_2_leaves_what_stage_1_learnt(tiny: AnimateAnyoneConfig, trained: tuple[Path, Path]) -> None:
    first, second = (load_network(tiny, folder) for folder in trained)
    before, after = (network.made_of.denoising_unet.state_dict() for network in (first, second))
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert set(after) - set(before) == {name for name in after if "motion_modules" in name}
    assert any(after[name].abs().max() > 0 for name in after if "motion_modules" in name and name.endswith("proj_out.weight"))
    for part in ("reference_unet", "pose_guider", "reference_hint"):
        ours, theirs = first.parts()[part].state_dict(), second.parts()[part].state_dict()
        assert all(torch.equal(theirs[name], value) for name, value in ours.items())


def test_equal_seeds_give_equal_digests_and_others_do_not(
    tiny: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    again = _stages(tiny, clips, codec, tmp_path / "again")
    for ours, same in zip(trained, again, strict=True):
        assert read_manifest(ours)["files"] == read_manifest(same)["files"]
    _train("stage_1", tiny, clips, codec, tmp_path / "other", seed=1)
    assert read_manifest(trained[0])["files"] != read_manifest(tmp_path / "other")["files"]


@pytest.mark.parametrize("stage", ["stage_1", "stage_2"])
def test_a_stage_that_was_cut_off_ends_in_the_same_checkpoint(
    tiny: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec, trained: tuple[Path, Path], tmp_path: Path, stage: str
) -> None:
    loop = replace(tiny.stage_1.loop, save_every_s=0.0)
    config = replace(tiny, stage_1=replace(tiny.stage_1, loop=loop), stage_2=replace(tiny.stage_2, loop=loop))

    def stop(record: StepRecord) -> None:
        if record.step == 4:
            raise KeyboardInterrupt

    parent = trained[0] if stage == "stage_2" else None
    out = tmp_path / "cut"

    def run(on_record: Callable[[StepRecord], None] | None = None) -> list[StepRecord]:
        return _train(stage, config, clips, codec, out, parent=parent, on_record=on_record)

    with pytest.raises(KeyboardInterrupt):
        run(stop)
    assert not out.exists()  # no half checkpoint
    torch.rand(3)  # another state of the global generator
    records = run()
    assert [r.step for r in records] == list(range(7))
    assert read_manifest(out)["files"] == read_manifest(trained[stage == "stage_2"])["files"]


def test_stages_must_be_known_and_in_order(tmp_path: Path) -> None:
    def run(stage: str) -> None:
        ANIMATE_ANYONE.train(stage, variant="brief", clips=[], parent=None, out=tmp_path / "x", seed=0, identity=IDENTITY)

    with pytest.raises(UserError, match="no stage 'stage_3'; it has: stage_1, stage_2"):
        run("stage_3")
    with pytest.raises(UserError, match="stage_2 continues from stage_1"):
        run("stage_2")


def test_half_a_checkpoint_is_refused(tiny: AnimateAnyoneConfig, trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "half"
    shutil.copytree(trained[0], folder)
    weights = load_file(folder / "denoising_unet" / WEIGHTS)
    save_file({name: value for name, value in weights.items() if not name.startswith("conv_in")}, folder / "denoising_unet" / WEIGHTS)
    with pytest.raises(UserError, match=r"missing \['conv_in\.bias', 'conv_in\.weight'\]"):
        load_network(tiny, folder)


# --- guidance and the loss --------------------------------------------------------------------------------------------


def test_guidance_of_scale_one_is_the_conditional_branch(tiny: AnimateAnyoneConfig, spatial: AnimateAnyone, noisy: Tensor) -> None:
    network, condition = _awake(spatial), _condition(tiny)
    window = [0, 1, 2, 3]
    with torch.no_grad():
        conditional = network(noisy, torch.full((4,), 700), condition)[0]
        unconditional = network(noisy, torch.full((4,), 700), null_conditions(condition, torch.tensor([True])))[0]
        clip = with_poses(condition, condition.pose)
        assert torch.equal(predictor(network, clip, usual_guidance(1.0))(noisy[0], window, 700), conditional)
        guided = predictor(network, clip, usual_guidance(2.0))(noisy[0], window, 700)
        torch.testing.assert_close(guided, 2 * conditional - unconditional, rtol=0, atol=1e-5)


def test_the_loss_depends_on_seed_and_step_alone(
    tiny: AnimateAnyoneConfig, spatial: AnimateAnyone, clips: list[TrainingClip], codec: LatentCodec
) -> None:
    def losses(steps: list[int]) -> dict[int, float]:
        at = _loss(spatial, ClipStore(clips, tiny.size, codec), tiny.stage_1)
        return {step: at(step, torch.Generator().manual_seed(step)).item() for step in steps}

    forward, backward = losses([0, 1, 2]), losses([2, 1, 0])
    assert forward == backward
    assert len(set(forward.values())) == 3


def test_a_perfect_network_has_no_loss(
    tiny: AnimateAnyoneConfig, spatial: AnimateAnyone, clips: list[TrainingClip], codec: LatentCodec
) -> None:
    """The prediction that the loss asks for is v of exactly the noise that was added."""
    loss = _loss(spatial, ClipStore(clips, tiny.size, codec), replace(tiny.stage_2, drop_probability=0.0))
    batch: Batch = loss.batch(0)
    clean = batch.latents - batch.reference_latent[:, None]
    seen: dict[str, Tensor] = {}

    class Oracle(torch.nn.Module):
        noise, additions, image_tokens = tiny.noise, tiny.network.additions, spatial.image_tokens

        def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
            alpha = loss.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1, 1)
            noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
            seen["noise"] = noise
            return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    loss.network = Oracle()
    assert loss.of(batch, torch.Generator().manual_seed(0), 0.0).item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(seen["noise"], seen["noise"][:, :1].expand_as(seen["noise"]), rtol=0, atol=1e-2)  # shared over frames


@pytest.mark.parametrize("shared", [False, True])
def test_the_noise_offset_of_a_window_is_one_per_clip_and_channel(
    tiny: AnimateAnyoneConfig, spatial: AnimateAnyone, clips: list[TrainingClip], codec: LatentCodec, shared: bool
) -> None:
    loss = _loss(spatial, ClipStore(clips, tiny.size, codec), replace(tiny.stage_2, shared_noise=shared))
    clean = torch.zeros(2, 5, 4, 8, 8)

    def noise(offset: float) -> Tensor:
        loss.noise = replace(tiny.noise, noise_offset=offset)
        return loss._noise(clean, torch.Generator().manual_seed(0))

    shift = noise(0.5) - noise(0.0)
    torch.testing.assert_close(shift, shift[:, :1, :, :1, :1].expand_as(shift), rtol=0, atol=1e-6)
    assert len(set(shift[:, 0, :, 0, 0].flatten().tolist())) == 8
    assert (noise(0.0)[:, 0] == noise(0.0)[:, 1]).all() == shared


# --- sampling ------------------------------------------------------------------------------------------------------------


def _animate(config: AnimateAnyoneConfig, folder: Path, codec: LatentCodec, clip: TrainingClip, frames: int, seed: int = 0) -> Frames:
    points = fit_points(clip.keypoints, (0, 0, 48, 48), config.size)[:frames]
    image = np.full((*config.size, 3), 128, np.uint8)
    reference = Reference(image=image, points=points[0], scores=clip.scores[0])
    driving = Driving(points=points, scores=clip.scores[:frames])
    return np.concatenate(list(animate(load_network(config, folder).eval(), codec, config, reference, driving, seed)))


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 11])  # windows of 4 that share 1
def test_clips_of_any_length_are_animated(
    tiny: AnimateAnyoneConfig, trained: tuple[Path, Path], codec: LatentCodec, clips: list[TrainingClip], frames: int
) -> None:
    made = _animate(tiny, trained[1], codec, clips[0], frames)
    assert made.shape == (frames, 32, 32, 3)
    assert made.dtype == np.uint8
    assert np.array_equal(made, _animate(tiny, trained[1], codec, clips[0], frames))


def test_seed_and_retargeting_matter(
    tiny: AnimateAnyoneConfig, trained: tuple[Path, Path], codec: LatentCodec, clips: list[TrainingClip]
) -> None:
    made = _animate(tiny, trained[1], codec, clips[0], 5)
    assert not np.array_equal(made, _animate(tiny, trained[1], codec, clips[0], 5, seed=1))
    limb = replace(tiny, sampling=replace(tiny.sampling, retarget="limb"))
    assert _animate(limb, trained[1], codec, clips[0], 5).shape == (5, 32, 32, 3)


def test_a_network_that_predicts_no_difference_copies_the_reference(tiny: AnimateAnyoneConfig, spatial: AnimateAnyone) -> None:
    """Residual diffusion: x0 = 0 is the reference itself. v of x0 = 0 is the noise alone, sqrt(a) eps = sqrt(a / (1 - a)) x_t."""
    from models.noise import make_scheduler

    scheduler, condition = make_scheduler(tiny.noise), _condition(tiny, each=5)

    class NoDifference(torch.nn.Module):
        noise, additions = tiny.noise, tiny.network.additions

        def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
            alpha = scheduler.alphas_cumprod[timesteps[0]]
            return noisy * (alpha / (1 - alpha)).sqrt()

    latents = generate_latents(NoDifference(), with_poses(condition, condition.pose), replace(tiny.sampling, steps=10), seed=0)
    torch.testing.assert_close(latents, condition.reference_latent.expand_as(latents), rtol=0, atol=0.1)


def test_initial_noise_is_shared_or_independent() -> None:
    shared, independent = (initial_noise(6, (4, 8, 8), seed=0, shared=shared) for shared in (True, False))
    assert (shared == shared[:1]).all()
    assert len({frame.sum().item() for frame in independent}) == 6
    assert not torch.equal(shared, initial_noise(6, (4, 8, 8), seed=1, shared=True))


# --- configuration ---------------------------------------------------------------------------------------------------------


def test_the_paper_variant_has_the_numbers_of_the_paper() -> None:
    paper = VARIANTS["paper"]
    assert paper.size == (768, 768)
    assert (paper.stage_1.loop.steps, paper.stage_2.loop.steps) == (30_000, 10_000)
    assert (paper.stage_1.loop.learning_rate, paper.stage_2.loop.learning_rate) == (1e-5, 1e-5)
    assert (paper.stage_2.window, paper.stage_2.batch, paper.sampling.steps) == (24, 4, 20)
    assert not any((*paper.network.additions.said(), paper.stage_2.shared_noise, paper.sampling.shared_noise))
    assert paper.noise.objective == "v"


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_variants_train_as_they_sample(name: str) -> None:
    config = VARIANTS[name]
    assert config.stage_2.shared_noise == config.sampling.shared_noise
    assert config.sampling.window <= config.network.unet.motion_frames
    assert asdict(config) == config.as_dict()


def test_impossible_settings_are_refused(tiny: AnimateAnyoneConfig) -> None:
    with pytest.raises(ValueError, match="window=9 is longer"):
        replace(tiny, stage_2=replace(tiny.stage_2, window=9))
    with pytest.raises(ValueError, match="overlap=4"):
        Sampling(window=4, overlap=4)
    with pytest.raises(ValueError, match=r"noise_std=1\.5 is not in"):
        Sampling(noise_std=1.5)


def test_a_cooler_start_is_the_same_noise_scaled_down_and_is_named() -> None:
    whole, half = (initial_noise(3, (4, 8, 8), seed=2, shared=False, std=std) for std in (1.0, 0.5))
    assert torch.equal(whole * 0.5, half)
    assert Sampling(noise_std=0.5).said() == ["initial noise of standard deviation 0.5"]
    assert Sampling().said() == []


def test_conditions_of_a_batch_drop_nothing(
    spatial: AnimateAnyone, clips: list[TrainingClip], codec: LatentCodec, tiny: AnimateAnyoneConfig
) -> None:
    batch = ClipStore(clips, tiny.size, codec).batch([(0, 0, [3]), (1, 2, [7])], np.random.default_rng(0))
    condition = condition_of(spatial, batch)
    assert not condition.dropped.any()
    assert condition.image_tokens.shape == (2, 1, 16)


# --- the ablations of the paper ----------------------------------------------------------------------------------------


def _variant(config: AnimateAnyoneConfig, **switches: Any) -> AnimateAnyoneConfig:
    return replace(config, network=replace(config.network, **switches))


@pytest.mark.parametrize("base", ["demo", "brief", "paper"])
def test_ablations_change_one_switch_and_train_the_stages_that_they_have(base: str) -> None:
    stages = {name.removeprefix(f"{base}-"): stages_of(config) for name, config in VARIANTS.items() if name.startswith(f"{base}-")}
    two, first = ("stage_1", "stage_2"), ("stage_1",)
    with_control = ("stage_1", "stage_1b", "stage_2")
    assert stages == {
        "clip_only": two, "controlnet": with_control, "clip_and_controlnet": with_control, "resnet": two, "concat": two,
        "no_temporal": first, "one_stage": first, "no_pose": two,
    }  # fmt: skip


def test_variants_that_differ_later_share_stage_1() -> None:
    def shaped(variant: str, stage: str = "stage_1") -> str:
        return json.dumps(stage_config(VARIANTS[variant], stage), sort_keys=True)

    assert shaped("demo") == shaped("demo-no_temporal")
    assert shaped("paper") == shaped("paper-no_temporal")
    assert len({shaped("demo"), shaped("demo-one_stage"), shaped("demo-clip_only"), shaped("demo-concat"), shaped("demo-no_pose")}) == 5
    assert shaped("demo") != shaped("brief")
    assert shaped("demo", "stage_2") != shaped("demo")


SWITCHES: dict[str, dict[str, Any]] = {
    "clip_only": {"image_condition": "clip_only"},
    "controlnet": {"image_condition": "controlnet"},
    "clip_and_controlnet": {"image_condition": "clip_and_controlnet"},
    "resnet": {"reference_encoder": "resnet", "resnet_weights": None},
    "concat": {"reference_fusion": "concat"},
    "one_stage": {"temporal": "joint"},
    "no_pose": {"guider_widths": ()},
}


@pytest.mark.parametrize("switch", list(SWITCHES))
def test_every_ablation_trains_what_it_has_and_animates(
    tiny: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec, tmp_path: Path, switch: str
) -> None:
    plain = replace(tiny.network.additions, hint=False)
    config = _variant(tiny, **SWITCHES[switch], additions=plain)
    loop = LoopConfig(steps=2, learning_rate=1e-3, probes=1, pictures=1)
    pairs = replace(config.stage_1, loop=loop)
    config = replace(config, stage_1=pairs, stage_1b=pairs, stage_2=replace(config.stage_2, loop=loop, batch=1))
    parent = None
    for stage in stages_of(config):
        records = _train(stage, config, clips[:2], codec, tmp_path / stage, parent=parent)
        assert all(record.loss is None or np.isfinite(record.loss) for record in records)
        parent = tmp_path / stage
    assert parent is not None
    assert _animate(config, parent, codec, clips[0], 5).shape == (5, 32, 32, 3)
    temporal = load_network(config, parent).temporal
    assert temporal


def _steps(variant: str) -> int:
    return sum(settings_of(VARIANTS[variant], stage).loop.steps for stage in stages_of(VARIANTS[variant]))


def test_rows_share_a_budget_of_steps_at_the_demos_size_alone() -> None:
    """Three minutes a row: nothing trains for much longer than the full method, which the ControlNet's stage of its own would; the paper's rows are whole."""
    full = _steps("unwarped")
    for switch in ablations_of("unwarped", VARIANTS["unwarped"]):
        assert _steps(switch) <= 1.2 * full, switch
    assert _steps("unwarped-one_stage") < full  # its steps are windows, which take longer
    assert _steps("paper-controlnet") == _steps("paper") + VARIANTS["paper"].stage_1b.loop.steps
    assert _steps("paper-one_stage") == _steps("paper")


@pytest.mark.parametrize("switch", ["clip_only", "controlnet", "clip_and_controlnet", "resnet", "concat", "one_stage", "no_pose"])
def test_only_what_an_ablation_has_gets_gradients(
    tiny: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec, tmp_path: Path, switch: str
) -> None:
    config = _variant(tiny, **SWITCHES[switch])
    run = StageRun(stage="stage_1", out=tmp_path, seed=0, parent=None, identity={}, config={}, additions=[])
    network = _awake(start("stage_1", config, run))
    chosen = network.trainable("stage_1")
    _loss(network, ClipStore(clips, config.size, codec), replace(settings_of(config, "stage_1"), drop_probability=0.0))(
        0, torch.Generator().manual_seed(0)
    ).backward()
    with_gradient = {
        f"{part}.{name}" for part, module in network.parts().items() for name, p in module.named_parameters() if p.grad is not None
    }
    assert with_gradient == set(chosen)
    assert not any(name.startswith("reference_controlnet") for name in chosen)
    assert any("motion_modules" in name for name in chosen) == (switch == "one_stage")


def test_a_fresh_control_on_the_reference_changes_nothing_and_then_trains_alone(tiny: AnimateAnyoneConfig, noisy: Tensor) -> None:
    from models.animate_anyone.network import add_reference_control

    torch.manual_seed(0)
    before = fresh_network(_variant(tiny, image_condition="clip_and_controlnet")).eval()
    condition = _condition(tiny)
    plain = _predict(before, noisy, condition)
    network = add_reference_control(before).eval()
    torch.testing.assert_close(_predict(network, noisy, condition), plain, rtol=0, atol=0)
    assert {name.split(".")[0] for name in network.trainable("stage_1b")} == {"reference_controlnet"}


def test_fresh_concatenation_is_as_if_there_were_no_reference(tiny: AnimateAnyoneConfig, noisy: Tensor) -> None:
    torch.manual_seed(0)
    network = fresh_network(_variant(tiny, reference_fusion="concat")).eval()
    condition = _condition(tiny)
    blind = null_conditions(condition, torch.tensor([True]))
    torch.testing.assert_close(
        _predict(network, noisy, condition), _predict(network, noisy, replace(blind, image_tokens=condition.image_tokens))
    )
    with torch.no_grad():
        for parameter in network.made_of.feature_concat.parameters():  # type: ignore[union-attr]
            parameter.add_(0.1 * torch.randn_like(parameter))
    assert not torch.allclose(_predict(network, noisy, condition), _predict(network, noisy, blind))


def test_the_resnet_gives_every_site_its_grid(tiny: AnimateAnyoneConfig) -> None:
    torch.manual_seed(0)
    network = fresh_network(_variant(tiny, **SWITCHES["resnet"])).eval()
    resnet, denoiser = network.made_of.reference_resnet, network.made_of.denoising_unet
    assert resnet is not None
    tokens = resnet(torch.rand(2, 3, 32, 32), (8, 8))
    seen: dict[str, torch.Size] = {}
    for site in spatial_sites(denoiser):
        layer = denoiser.get_submodule(site.removesuffix(".processor"))
        layer.register_forward_pre_hook(lambda _, args, site=site: seen.update({site: args[0].shape[1:]}))
    denoiser(torch.zeros(2, 16, 8, 8), torch.zeros(2), encoder_hidden_states=torch.zeros(2, 1, 16))
    assert {site: value.shape[1:] for site, value in tokens.items()} == seen
