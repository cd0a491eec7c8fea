"""The tiny family's generators: they learn, they export diffusers' layouts, and the methods begin from what they export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from models import pretrained_networks
from models.animate_anyone.config import DEMO
from models.animate_anyone.method import ANIMATE_ANYONE
from models.animate_anyone.network import ReferenceCondition, add_motion, fresh_network, load_network
from models.autoencoders import autoencoder_folder, latent_channels
from models.checkpoint import WEIGHTS, load_part, save_checkpoint
from models.clip_dataset import to_signed
from models.latents import LatentCodec
from models.noise import add_noise, alpha_bar, linear_estimate, make_scheduler, target_of
from models.stable_animator.temporal_codec import TemporalCodec, codec_in
from models.tiny import base_unet, clip, controlnet, ip_adapter, motion_module, svd_unet, svd_vae
from models.tiny.job import SHIPPED, TinyJob, run_job
from models.tiny.latent_people import LatentPeople, captions_of, encode_captions, latent_people
from models.tiny.people import Casting, cast
from models.training_loop import flushed_denormals, generator_for
from models.unet_shape import make_unet
from pipelines import weights
from pipelines.errors import MissingWeightsError
from pipelines.packed_weights import whole

SOMEBODY = cast(range(2990, 2992), clips=2, frames=4, every=2, truth=("keypoints", "scores"))  # trained on by nobody, measured by nobody


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """pipelines/tiny with an untrained text tower, and room for what the tests train."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "clip").mkdir()
    torch.manual_seed(0)
    clip.export(clip.make_clip(), root / "clip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "_TINY", root)
        patch.setattr(pretrained_networks, "SHIPPED", root)
        patch.setattr("models.tiny.job.SHIPPED", root)
        yield root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("people")


@pytest.fixture(scope="module")
def people(family: Path, cache: Path) -> LatentPeople:
    return latent_people(SOMEBODY, cache)


@pytest.fixture(scope="module")
def windows_people(family: Path, cache: Path) -> LatentPeople:
    """Two clips of 14 frames."""
    return latent_people(cast(range(2990, 2992), clips=1, frames=14, every=1, size=64, truth=("keypoints", "scores")), cache)


def small(job: TinyJob, casting: Casting = SOMEBODY) -> TinyJob:
    """The job with a few people to learn from and the same ones to be measured with."""
    return replace(
        job, draw=lambda cache: latent_people(casting, cache), measure=lambda folder, cache: {"files": float(len(list(folder.rglob("*"))))}
    )


def learn(network: Any, loss_at: Any, steps: int, rate: float) -> list[float]:
    """Losses of a few plain steps."""
    losses, optimizer = [], torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=rate)
    with flushed_denormals():
        for step in range(steps):
            loss = loss_at(step, generator_for(0, step))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
    return losses


# --- what they learn from ------------------------------------------------------------------------------------


def test_latents_are_those_of_the_frames_and_of_their_mirror_images(people: LatentPeople) -> None:
    codec, frames = LatentCodec.load(autoencoder_folder("demo")), np.array(people.people.frames[3:5])
    assert people.latents.shape == (8, 2, latent_channels(autoencoder_folder("demo")), 16, 16)
    for flip, shown in ((False, frames), (True, frames[:, :, ::-1])):
        drawn = people.drawn(torch.tensor([3, 4]), torch.tensor([flip, flip]))
        torch.testing.assert_close(drawn, codec.encode(to_signed(np.ascontiguousarray(shown))), atol=5e-3, rtol=2e-3)  # float16


def test_people_are_encoded_once_per_autoencoder(people: LatentPeople, cache: Path) -> None:
    (path,) = cache.glob(f"*-latents-{LatentCodec.load(autoencoder_folder('demo')).fingerprint()}/latents.npy")
    stamp = path.stat().st_mtime_ns
    assert np.array_equal(latent_people(SOMEBODY, cache).latents, people.latents)
    assert path.stat().st_mtime_ns == stamp


def test_a_caption_is_that_of_the_clip_as_it_was_drawn(people: LatentPeople, cache: Path) -> None:
    whole = replace(SOMEBODY, truth=("keypoints", "scores"), identities=(2990, 2991))
    assert captions_of(whole, cache) == people.captions[:2]  # clip 0 and 1 of the first identity
    assert all(caption.startswith(("a man in ", "a woman in ")) for caption in people.captions)
    assert len(set(people.captions)) > 1


def test_text_is_as_long_as_the_tower_and_dropped_rows_are_the_empty_caption(people: LatentPeople) -> None:
    assert people.text.shape == (5, 77, 96)
    told = people.told(torch.tensor([0, 7]), torch.tensor([False, True]))
    torch.testing.assert_close(told[0], encode_captions([people.captions[0]])[0])
    torch.testing.assert_close(told[1], encode_captions([""])[0])


# --- the base ------------------------------------------------------------------------------------------------


def test_the_base_keeps_its_budget_and_has_the_latents_channels() -> None:
    unet: Any = base_unet.build()
    assert sum(p.numel() for p in unet.parameters()) <= 2_200_000
    assert unet.config.in_channels == unet.config.out_channels == latent_channels(autoencoder_folder("demo"))
    assert not [module for module in unet.modules() if isinstance(module, torch.nn.modules.batchnorm._NormBase)]


def test_the_best_linear_estimate_of_unit_latents_is_nothing() -> None:
    noisy = torch.randn(2, 4, 3, 3)
    assert float(linear_estimate(noisy, torch.tensor([0.2, 0.9])[:, None, None, None], 1.0).abs().max()) == 0


def test_the_loss_of_the_base_follows_from_its_generator_alone(people: LatentPeople, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_unet, "BATCH", 2)
    torch.manual_seed(0)
    loss_at = base_unet.loss_of(base_unet.build(), people)
    with torch.no_grad():
        first, again, other = (float(loss_at(step, generator_for(0, step))) for step in (3, 3, 4))
    assert first == again != other


def test_the_base_learns_a_few_frames_and_what_their_captions_say(windows_people: LatentPeople, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_unet, "BATCH", 8)
    torch.manual_seed(0)
    unet = make_unet(replace(base_unet.network_config(), channels=(24, 32), heads=2, norm_groups=4))
    torch.nn.init.zeros_(unet.conv_out.weight)
    before = base_unet.scores_of(unet, windows_people)
    learn(unet, base_unet.loss_of(unet, windows_people), 100, 5e-3)
    after = base_unet.scores_of(unet, windows_people)
    assert after["v_loss"] < 0.95 * before["v_loss"]
    assert before["v_loss_t999"] == pytest.approx(before["v_loss_t999_wrong_caption"])
    assert after["v_loss_t999"] < after["v_loss_t999_wrong_caption"]


def test_v_loss_of_the_truth_is_zero(people: LatentPeople) -> None:
    frames, level = torch.arange(4), 500
    clean = people.drawn(frames, torch.zeros(4, dtype=torch.bool))
    noise = torch.randn(clean.shape, generator=generator_for(1, level))
    alpha = alpha_bar(make_scheduler(base_unet.NOISE), torch.full((4,), level), clean)

    class Knows(torch.nn.Module):
        def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, encoder_hidden_states: torch.Tensor) -> Any:
            assert torch.equal(noisy, add_noise(clean, noise, alpha))
            return type("Output", (), {"sample": target_of(clean, noise, alpha, "v")})

    assert base_unet.v_loss(Knows(), people, frames, people.told(frames), level) == 0


@pytest.fixture(scope="module")
def base(family: Path, cache: Path, people: LatentPeople) -> Path:
    """A base of two steps, shipped and unpacked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_unet, "BATCH", 2)
        run_job(small(base_unet.JOB), work=cache.parent / "work", out=family / "base_unet", steps=2)
    return whole(family / "base_unet")


def test_the_base_is_shipped_as_stable_diffusion_is(base: Path, family: Path) -> None:
    assert {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()} == {
        "unet/config.json", f"unet/{WEIGHTS}",
    }  # fmt: skip
    assert {path.name for path in family.joinpath("base_unet").iterdir()} == {"README.md", "card.json", "unet"}
    assert {value.dtype for value in load_file(base / "unet" / WEIGHTS).values()} == {torch.float16}
    assert f"unet/{WEIGHTS}.xz" in (family / "base_unet" / "card.json").read_text()
    assert weights.find_weights("base_unet_tiny") == base
    opened = UNet2DConditionModel.from_pretrained(str(base), subfolder="unet", torch_dtype=torch.float32)
    ours = load_part(UNet2DConditionModel, base / "unet")
    assert all(torch.equal(a, b) for a, b in zip(opened.state_dict().values(), ours.state_dict().values(), strict=True))


def test_both_unets_of_animate_anyone_begin_from_the_base(base: Path) -> None:
    network = fresh_network(DEMO)
    trained = load_file(base / "unet" / WEIGHTS)
    for unet, changed in ((network.made_of.reference_unet, set()), (network.made_of.denoising_unet, {"conv_out.weight", "conv_out.bias"})):
        state = unet.state_dict()
        assert set(state) == set(trained)
        assert {name for name, value in state.items() if not torch.equal(value, trained[name].float())} <= changed
    assert not network.made_of.denoising_unet.conv_out.weight.any()


def test_a_network_from_the_base_goes_forward_and_comes_back_from_its_checkpoint(base: Path, tmp_path: Path) -> None:
    network = fresh_network(DEMO).eval()
    save_checkpoint(tmp_path / "stage_1", network.parts(), {})
    again = load_network(DEMO, tmp_path / "stage_1").eval()
    channels = network.made_of.denoising_unet.config.in_channels
    image = torch.rand(1, 3, 128, 128) * 2 - 1
    condition = ReferenceCondition(
        reference_image=image,
        reference_latent=torch.randn(1, channels, 16, 16),
        image_tokens=network.image_tokens(image),
        pose=torch.rand(2, 3, 128, 128),
        dropped=torch.zeros(1, dtype=torch.bool),
    )
    noisy, times = torch.randn(1, 2, channels, 16, 16), torch.tensor([300, 700])
    with torch.no_grad():
        assert torch.equal(network(noisy, times, condition), again(noisy, times, condition))


# --- what steers the base ------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", [motion_module.JOB, controlnet.JOB, ip_adapter.JOB], ids=lambda job: job.name)
def test_what_is_new_changes_next_to_nothing_before_it_learns_and_alone_learns(
    job: TinyJob, base: Path, people: LatentPeople, windows_people: LatentPeople, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = data_of(job, people, windows_people, monkeypatch)
    torch.manual_seed(0)
    network = job.build()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    first = scores_with(job, network, data)
    losses_before = [value for name, value in first.items() if name.startswith("v_loss")]
    little = 0.01 if job is motion_module.JOB else 1e-5  # motion modules begin a little away from zero
    assert max(losses_before) - min(losses_before) <= little * max(losses_before)
    losses = learn(network, job.loss_of(network, data), 4, 1e-3)
    assert all(np.isfinite(losses))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not changed & frozen
    after = scores_with(job, network, data)
    assert after["v_loss"] != first["v_loss"]


def data_of(job: TinyJob, people: LatentPeople, windows_people: LatentPeople, patch: pytest.MonkeyPatch) -> Any:
    """What the job learns from, in small batches."""
    if job is motion_module.JOB:
        patch.setattr(motion_module, "BATCH", 1)
        return windows_people
    patch.setattr({"controlnet": controlnet, "ip_adapter": ip_adapter}[job.name], "BATCH", 2)
    return ip_adapter.picture_people(people) if job is ip_adapter.JOB else people


def scores_with(job: TinyJob, network: Any, data: Any) -> dict[str, float]:
    """The job's own scores of a network in training."""
    network.eval()
    if job is motion_module.JOB:
        return motion_module.scores_of(controlnet.demo_base(), motion_module.adapter_of(network), data)
    return controlnet.scores_of(controlnet.demo_base(), network, data) if job is controlnet.JOB else ip_adapter.scores_of(network, data)


def test_the_picture_adapter_opens_as_the_published_one_and_says_the_same(base: Path, people: LatentPeople, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data, network = ip_adapter.picture_people(people), ip_adapter.build()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter).half() * 0.1)
    ip_adapter.export(network, tmp_path)
    keys = set(load_file(tmp_path / ip_adapter.FILE))
    assert {"image_proj.proj.weight", "image_proj.norm.weight", "ip_adapter.1.to_k_ip.weight", "ip_adapter.13.to_v_ip.weight"} <= keys
    assert all(int(key.split(".")[1]) % 2 == 1 for key in keys if key.startswith("ip_adapter."))
    ours, theirs = (ip_adapter.scores_of(one.eval(), data) for one in (network, ip_adapter.opened(tmp_path / ip_adapter.FILE)))
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert len(set(ours.values())) == 3  # the picture is heard


def test_the_motion_module_is_a_motion_adapter_with_which_stage_2_begins(base: Path, family: Path) -> None:
    torch.manual_seed(0)
    network = motion_module.build()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("proj_out.weight") and "motion_modules" in name:
                parameter.fill_(0.01)
    (family / "motion_module").mkdir()
    motion_module.export(network, family / "motion_module")
    (family / "motion_module" / "card.json").write_text("{}")
    spatial = fresh_network(DEMO)
    temporal = add_motion(spatial)
    learnt = {
        name: value
        for name, value in temporal.made_of.denoising_unet.state_dict().items()
        if name.endswith("motion_modules.0.proj_out.weight")
    }
    assert len(learnt) >= 4
    assert all(float((value - 0.01).abs().max()) < 1e-4 for value in learnt.values())
    assert torch.equal(
        temporal.made_of.denoising_unet.mid_block.resnets[0].conv1.weight, spatial.made_of.reference_unet.mid_block.resnets[0].conv1.weight
    )
    assert ANIMATE_ANYONE.weights_digest("demo") != ANIMATE_ANYONE.weights_digest("long")  # which has the base, but not the motion modules


def test_windows_stay_within_their_clip_and_share_noise_where_told(windows_people: LatentPeople) -> None:
    chosen = motion_module.windows(windows_people, 40, generator_for(0, 0))
    clips = torch.from_numpy(windows_people.people.clip.copy())[chosen]
    assert (clips == clips[:, :1]).all()
    assert (chosen.diff(dim=1) == 1).all()
    assert len(set(chosen[:, 0].tolist())) > 3
    noise = motion_module.window_noise(torch.Size((2, 4, 12, 3, 3)), torch.tensor([True, False]), generator_for(0, 1))
    assert torch.equal(noise[0], noise[0, :, :1].expand_as(noise[0]))
    assert not torch.equal(noise[1, :, 0], noise[1, :, 1])


def test_a_mirrored_skeleton_is_that_of_the_mirrored_person(people: LatentPeople) -> None:
    frames = torch.tensor([0, 5])
    plain, _ = controlnet.posed(people, frames, torch.tensor([False, False]))
    turned, _ = controlnet.posed(people, frames, torch.tensor([True, True]))
    np.testing.assert_allclose(turned[:, 5, 0], 127 - plain[:, 6, 0], atol=1e-4)  # left shoulder, right shoulder
    np.testing.assert_allclose(turned[:, 5, 1], plain[:, 6, 1], atol=1e-4)
    image = controlnet.skeletons(people, frames, torch.tensor([False, True]))
    assert image.shape == (2, 3, 128, 128)
    assert 0 < float(image.mean()) < 0.5


def test_sampled_frames_hold_the_pose_error_of_a_keypoint_network(
    base: Path, people: LatentPeople, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, _ = controlnet.posed(people, torch.linspace(0, 7, 8).long(), torch.zeros(8, dtype=torch.bool))

    class Sees:
        def __call__(self, frames: Any, boxes: Any) -> Any:
            assert len(frames) == len(boxes) == 8
            return asked + np.array([3.0, 0.0], np.float32), np.ones(asked.shape[:2], np.float32)

    monkeypatch.setattr(controlnet, "SAMPLING_STEPS", 2)
    torch.manual_seed(0)
    errors = controlnet.pose_errors(controlnet.demo_base(), controlnet.build().eval(), people, Sees())  # type: ignore[arg-type]
    points, scores = controlnet.posed(people, torch.arange(8), torch.zeros(8, dtype=torch.bool))
    heights = [np.ptp(p[s >= 1][:, 1]) for p, s in zip(points, scores, strict=True)]
    assert errors["pose_error_percent"] == pytest.approx(float(np.mean([300 / height for height in heights])), rel=1e-3)


# --- the SVD twin --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def temporal(family: Path, windows_people: LatentPeople) -> Path:
    """A temporal autoencoder of a few steps, shipped; with the untrained text and picture towers beside it."""
    torch.manual_seed(0)
    network: Any = svd_vae.build()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svd_vae, "CROP_PX", 32)
        losses = learn(network, svd_vae.loss_of(network, windows_people.people), 12, 3e-3)
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])
    (family / "svd_vae").mkdir()
    svd_vae.export(network.eval(), family / "svd_vae")
    svd_vae.write_scale(network, family / "svd_vae", windows_people.people)
    (family / "svd_vae" / "card.json").write_text("{}")
    return family / "svd_vae"


def test_the_temporal_autoencoder_begins_without_noise_and_its_blocks_pass_everything_on() -> None:
    torch.manual_seed(0)
    network: Any = svd_vae.build()
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        posterior = network.encode(images).latent_dist
        hidden = torch.randn(4, 32, 16, 16)
        block = network.encoder.down_blocks[0].resnets[0]
        torch.testing.assert_close(block(hidden, None), hidden)
    torch.testing.assert_close(posterior.std, torch.full_like(posterior.std, float(np.exp(svd_vae.FIRST_LOG_VARIANCE / 2))))


@pytest.mark.parametrize("length", svd_vae.LENGTHS)
def test_crops_of_a_moment_are_one_window_of_one_clip(windows_people: LatentPeople, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    frames, clip = windows_people.people.frames, windows_people.people.clip
    known = {hash(frames[i][:, ::side].tobytes()): i for i in range(len(frames)) for side in (1, -1)}
    monkeypatch.setattr(svd_vae, "CROP_PX", frames.shape[1])
    chosen = [known[hash(crop.tobytes())] for crop in svd_vae.crops(windows_people.people, 6, length, generator_for(0, 0))]
    assert len(chosen) == 6 * length
    for start in range(0, len(chosen), length):
        moment = chosen[start : start + length]
        assert len(set(clip[moment].tolist())) == 1
        assert np.array_equal(moment, np.arange(length) + moment[0])


def test_the_temporal_autoencoder_opens_in_diffusers_with_latents_of_unit_deviation(temporal: Path, windows_people: LatentPeople) -> None:
    from diffusers import AutoencoderKLTemporalDecoder

    network = load_part(AutoencoderKLTemporalDecoder, temporal).eval()
    images = to_signed(np.array(windows_people.people.frames[:14]))
    with torch.no_grad():
        latents = network.encode(images).latent_dist.mode() * network.config.scaling_factor
    assert latents.shape == (14, svd_vae.LATENT_CHANNELS, 16, 16)
    assert float(latents.std()) == pytest.approx(1, rel=0.2)
    packed = codec_in(temporal)
    torch.testing.assert_close(packed.encode(images), torch.nn.functional.pixel_unshuffle(latents, svd_vae.PACKING))
    torch.testing.assert_close(packed.decode(packed.encode(images)), TemporalCodec(network).decode(latents))
    scores = svd_vae.scores_of(network, windows_people.people)
    assert 5 < scores["psnr_db"] < 40
    assert scores["flicker_ratio"] > 0


def test_svd_says_what_the_published_scheduler_makes_of_it(temporal: Path) -> None:
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(
        num_train_timesteps=1000, prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True, sigma_min=0.002, sigma_max=700.0,
    )  # fmt: skip
    scheduler.set_timesteps(3)
    torch.manual_seed(0)
    noisy, first, v = torch.randn(1, 2, 8, 4, 4), torch.randn(1, 8, 4, 4), torch.randn(1, 2, 8, 4, 4)
    sigma = scheduler.sigmas[1]

    class Says(torch.nn.Module):
        def forward(self, stem: torch.Tensor, timestep: torch.Tensor, **_: Any) -> Any:
            torch.testing.assert_close(stem[:, :, :8], scheduler.scale_model_input(noisy, scheduler.timesteps[1]))
            torch.testing.assert_close(timestep[0], scheduler.timesteps[1])
            return type("Output", (), {"sample": v})

    found = svd_unet.denoised(Says(), noisy, sigma[None], first, torch.zeros(1, 64), torch.zeros(1))
    torch.testing.assert_close(found, scheduler.step(v, scheduler.timesteps[1], noisy).pred_original_sample)


def test_svd_learns_its_first_frame_and_opens_in_diffusers(
    temporal: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from diffusers import UNetSpatioTemporalConditionModel

    monkeypatch.setattr(pretrained_networks, "SHIPPED", temporal.parent)
    data = svd_unet.latent_clips(cast(range(2990, 2992), clips=1, frames=14, every=1, size=64, truth=("keypoints", "scores")), cache)
    assert data.latents.shape == (2, 14, svd_vae.LATENT_CHANNELS * svd_vae.PACKING**2, 8, 8)
    torch.manual_seed(0)
    network = svd_unet.build()
    losses = learn(network, svd_unet.loss_of(network, data), 16, 3e-3)
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    scores = svd_unet.scores_of(network.eval(), data)
    svd_unet.export(network, tmp_path)
    again = svd_unet.scores_of(load_part(UNetSpatioTemporalConditionModel, tmp_path).eval(), data)
    assert again == pytest.approx(scores, rel=0.02)
    assert len(set(scores.values())) == 3


def test_svd_without_its_autoencoder_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pretrained_networks, "SHIPPED", tmp_path)
    with pytest.raises(MissingWeightsError, match="rotoscope tiny train svd_vae"):
        svd_unet.build()


# --- what is not there ----------------------------------------------------------------------------------------


def test_a_base_that_is_not_shipped_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pretrained_networks, "SHIPPED", tmp_path)
    for fails in (lambda: fresh_network(DEMO), lambda: ANIMATE_ANYONE.weights_digest("demo")):
        with pytest.raises(MissingWeightsError, match="rotoscope tiny train base_unet"):
            fails()
    with pytest.raises(MissingWeightsError, match="rotoscope tiny train motion_module"):
        pretrained_networks.motion_adapter_folder("demo")


def test_a_text_tower_that_is_not_shipped_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "_TINY", tmp_path)
    with pytest.raises(MissingWeightsError, match="rotoscope tiny train clip"):
        encode_captions(["a man"])


@pytest.mark.skipif(
    not (SHIPPED / "base_unet" / "card.json").is_file(), reason="the base is not shipped yet: rotoscope tiny train base_unet"
)
def test_the_shipped_base_keeps_its_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.setattr(weights, "_TINY", SHIPPED)  # not `family`, whose text tower is untrained
    stated = json.loads((SHIPPED / "base_unet" / "card.json").read_text())["scores"]
    few = latent_people(replace(base_unet.MEASURED_ON, identities=(3000, 3004), clips=1, truth=("keypoints", "scores")), tmp_path)
    scores = base_unet.scores_of(load_part(UNet2DConditionModel, whole(SHIPPED / "base_unet") / "unet").eval(), few)
    assert scores["v_loss"] == pytest.approx(stated["v_loss"], rel=0.25)
    assert scores["v_loss_t999"] < scores["v_loss_t999_wrong_caption"]
