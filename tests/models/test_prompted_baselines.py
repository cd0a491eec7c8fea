"""SD-2V and IPC: their shared network, what each stage trains, variants without training, and the whole way from clip to clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.animator import Driving, Reference
from models.baselines.ipc import config as ipc_config
from models.baselines.ipc.config import IpcConfig
from models.baselines.ipc.method import IPC
from models.baselines.ipc.network import Ipc, add_temporal
from models.baselines.ipc.network import fresh_network as fresh_ipc
from models.baselines.ipc.network import load_network as load_ipc
from models.baselines.ipc.stages import condition_of as ipc_condition
from models.baselines.ipc.stages import train_stage as train_ipc
from models.baselines.sd_2v import config as sd_2v_config
from models.baselines.sd_2v.config import Sd2vConfig
from models.baselines.sd_2v.method import SD_2V
from models.baselines.sd_2v.stages import add_motion, load_network, off_the_shelf, trainable
from models.baselines.sd_2v.stages import condition_of as sd_2v_condition
from models.baselines.sd_2v.stages import train_stage as train_sd_2v
from models.checkpoint import verify
from models.clip_dataset import ClipStore, TrainingClip
from models.diffusion_method import DiffusionMethod
from models.gradient_checkpointing import checkpoint_gradients
from models.guidance import Condition, null_conditions
from models.image_prompt_attention import cross_sites
from models.latents import LatentCodec
from models.prompted_denoiser import PromptedDenoiser, fresh_denoiser
from models.stage_config import PairStage, WindowStage
from models.stage_loss import StageLoss
from models.stage_training import StageRun
from models.training_loop import LoopConfig
from pipelines.errors import UserError

SIZE = (32, 32)
_LOOP = LoopConfig(steps=2, learning_rate=1e-3, probes=2, pictures=1)
_STAGES: dict[str, Any] = {
    "size": SIZE,
    "stage_1": PairStage(loop=_LOOP, references=2, targets=2, augment=False, distance=3),
    "stage_2": WindowStage(loop=_LOOP, batch=1, window=4, stride=1, augment=False),
}


def _small(config: Any) -> Any:
    base = replace(
        config.networks.base,
        guider_widths=(4, 8, 8),
        shape=replace(config.networks.base.shape, latent_channels=16, motion_heads=2, motion_frames=8),
    )
    sampling = replace(config.sampling, steps=2, window=4, overlap=1)
    return replace(config, networks=replace(config.networks, base=base), sampling=sampling, **_STAGES)


SD_2V_TINY: Sd2vConfig = _small(sd_2v_config.BRIEF)
IPC_TINY: IpcConfig = replace(_small(ipc_config.BRIEF), temporal=ipc_config.Temporal(heads=2, frames=8))


@pytest.fixture
def spatial() -> PromptedDenoiser:
    torch.manual_seed(0)
    return fresh_denoiser(SD_2V_TINY.networks, SD_2V_TINY.noise).eval()


def _awake(network: nn.Module) -> Any:
    """Random values in what starts at zero, so that every input is heard; the encoders stay as they are."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.abs().max() == 0 and ".tower." not in name and ".eye." not in name:
                parameter.normal_(std=0.2)
    return network.eval()


def _condition(references: int = 1, each: int = 4) -> Condition:
    torch.manual_seed(2)
    return Condition(
        reference_latent=torch.zeros(references, 16, 8, 8),
        image_tokens=torch.randn(references, 1, 32),
        pose=torch.rand(references * each, 3, *SIZE),
        dropped=torch.zeros(references, dtype=torch.bool),
    )


def _noisy(references: int = 1, each: int = 4) -> Tensor:
    return torch.randn(references, each, 16, 8, 8, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def _predict(network: Any, noisy: Tensor, condition: Condition) -> Tensor:
    out: Tensor = network(noisy, torch.tensor([700]).expand(len(noisy)), condition)
    return out


# --- the network -------------------------------------------------------------------------------------------------


def test_a_fresh_adapter_and_controlnet_change_nothing(spatial: PromptedDenoiser) -> None:
    condition = _condition()
    before = _predict(spatial, _noisy(), condition)
    other = replace(condition, image_tokens=torch.randn_like(condition.image_tokens), pose=torch.rand_like(condition.pose))
    torch.testing.assert_close(_predict(spatial, _noisy(), other), before, rtol=0, atol=1e-6)
    awake = _awake(spatial)
    assert not torch.allclose(_predict(awake, _noisy(), other), _predict(awake, _noisy(), condition), atol=1e-3)


def test_the_null_picture_is_the_projection_of_nothing(spatial: PromptedDenoiser) -> None:
    """Not zero tokens: the LayerNorm of the bias, in training and in sampling alike; the pose stays."""
    network, condition = _awake(spatial), _condition()
    null = null_conditions(condition, torch.tensor([True]))
    seen = list[Tensor]()
    handle = network.denoiser.register_forward_pre_hook(lambda _, __, given: seen.append(given["encoder_hidden_states"]), with_kwargs=True)
    _predict(network, _noisy(), null)
    handle.remove()
    torch.testing.assert_close(seen[0][:1, -4:], network.prompts.null(1))
    assert seen[0][:, -4:].abs().max() > 0
    other = replace(null, pose=torch.rand_like(null.pose))
    assert not torch.allclose(_predict(network, _noisy(), null), _predict(network, _noisy(), other), atol=1e-4)


def test_the_controlnet_sees_the_text_alone(spatial: PromptedDenoiser) -> None:
    seen = list[Tensor]()
    spatial.controlnet.register_forward_pre_hook(lambda _, __, given: seen.append(given["encoder_hidden_states"]), with_kwargs=True)
    _predict(spatial, _noisy(), _condition())
    assert isinstance(spatial.wordless, Tensor)
    assert torch.equal(seen[0], spatial.wordless.expand(4, -1, -1))


def test_motion_modules_leave_the_adapter_where_it_was(spatial: PromptedDenoiser) -> None:
    condition, before = _condition(), _predict(_awake(spatial), _noisy(), _condition())
    temporal = add_motion(SD_2V_TINY, spatial).eval()
    torch.testing.assert_close(_predict(temporal, _noisy(), condition), before, rtol=0, atol=1e-5)
    assert all(type(temporal.denoiser.attn_processors[name]).__name__ == "ImagePromptAttention" for name in cross_sites(temporal.denoiser))


def test_ipc_frames_see_the_past_alone() -> None:
    torch.manual_seed(0)
    network = _awake(add_temporal(fresh_ipc(IPC_TINY)))
    condition = _condition()
    other = replace(condition, pose=torch.cat([condition.pose[:2], 1 - condition.pose[2:3], condition.pose[3:]]))
    change = (_predict(network, _noisy(), other) - _predict(network, _noisy(), condition)).abs().amax(dim=(0, 2, 3, 4))
    assert change[:2].max() == 0
    assert (change[2:] > 1e-6).all()


def test_fresh_causal_layers_change_nothing() -> None:
    torch.manual_seed(0)
    spatial = _awake(fresh_ipc(IPC_TINY))
    before = _predict(spatial, _noisy(), _condition())
    assert torch.equal(_predict(add_temporal(spatial).eval(), _noisy(), _condition()), before)


# --- what trains ---------------------------------------------------------------------------------------------------


def _gradients(network: Any, loss: Tensor) -> set[str]:
    loss.backward()
    return {f"{part}.{name}" for part, module in network.parts().items() for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("stage", ["stage_1", "stage_2"])
def test_sd_2v_trains_adapter_and_controlnet_then_motion(
    spatial: PromptedDenoiser, clips: list[TrainingClip], codec: LatentCodec, stage: str
) -> None:
    network = _awake(spatial if stage == "stage_1" else add_motion(SD_2V_TINY, spatial))
    chosen = trainable(SD_2V_TINY, network, stage)
    loss = StageLoss(network, ClipStore(clips, SIZE, codec), SD_2V_TINY.stage(stage), 0, sd_2v_condition)
    assert _gradients(network, loss(0, torch.Generator().manual_seed(0))) == set(chosen)
    if stage == "stage_1":
        assert {name.split(".")[0] for name in chosen} == {"denoising_unet", "controlnet", "image_prompts"}
        assert all("_ip." in name for name in chosen if name.startswith("denoising_unet."))
        whole = set(trainable(replace(SD_2V_TINY, train_unet=True), network, "stage_1"))
        assert {name.split(".")[0] for name in whole - set(chosen)} == {"denoising_unet"}
    else:
        assert all("motion_modules" in name for name in chosen)


@pytest.mark.parametrize("stage", ["stage_1", "stage_2"])
def test_ipc_trains_adapter_and_controlnet_then_causal_layers(clips: list[TrainingClip], codec: LatentCodec, stage: str) -> None:
    torch.manual_seed(0)
    network: Ipc = fresh_ipc(IPC_TINY) if stage == "stage_1" else add_temporal(fresh_ipc(IPC_TINY))
    chosen = network.trainable(stage)
    _awake(network)
    loss = StageLoss(network, ClipStore(clips, SIZE, codec), IPC_TINY.stage(stage), 0, ipc_condition)
    graded = _gradients(network, loss(0, torch.Generator().manual_seed(0)))
    assert graded == set(chosen)
    assert {name.split(".")[0] for name in chosen} == (
        {"causal_temporal"} if stage == "stage_2" else {"denoising_unet", "controlnet", "image_prompts"}
    )


def test_recomputed_activations_give_the_same_gradients(clips: list[TrainingClip], codec: LatentCodec) -> None:
    """Gradient checkpointing runs the hooked layers twice: they must do the same both times."""
    torch.manual_seed(0)
    network = add_temporal(fresh_ipc(IPC_TINY))
    chosen = network.trainable("stage_2")
    _awake(network).train()
    loss = StageLoss(network, ClipStore(clips, SIZE, codec), IPC_TINY.stage("stage_2"), 0, ipc_condition)
    gradients = []
    for again in (False, True):
        if again:
            assert checkpoint_gradients(network) > 0
        network.zero_grad(set_to_none=True)
        loss(0, torch.Generator().manual_seed(0)).backward()
        gradients.append({name: p.grad for name, p in chosen.items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


# --- from clips to a clip --------------------------------------------------------------------------------------------


def _run(method: str, stage: str, out: Path, parent: Path | None, config: Any) -> StageRun:
    identity = {"checkpoint_id": "0" * 16, "method": method, "variant": "tiny", "dataset": "tests"}
    return StageRun(stage=stage, out=out, seed=0, parent=parent, identity=identity, config=config.as_dict(), additions=[])


def _moved(clips: list[TrainingClip]) -> tuple[Reference, Driving]:
    points, scores = clips[0].keypoints * (SIZE[0] / 48), clips[0].scores
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    return Reference(image=image, points=points[0], scores=scores[0]), Driving(points=points, scores=scores)


@pytest.mark.parametrize(
    ("method", "config", "train", "load"),
    [(SD_2V, SD_2V_TINY, train_sd_2v, load_network), (IPC, IPC_TINY, train_ipc, load_ipc)],
    ids=["sd_2v", "ipc"],
)
def test_two_stages_make_an_animator(
    method: DiffusionMethod,
    config: Any,
    train: Callable[..., Any],
    load: Callable[..., Any],
    tmp_path: Path,
    codec: LatentCodec,
    clips: list[TrainingClip],
) -> None:
    parent = None
    for stage in config.stages:
        records = train(_run(method.name, stage, tmp_path / stage, parent, config), clips, config, codec)
        assert records[-1].step == 2
        parent = tmp_path / stage
        verify(parent)
    network = load(config, parent).eval()
    assert network.temporal
    made = list(method.pieces(network, codec, config, *_moved(clips), 0, None))
    assert [len(part) for part in made] == [8, 4]
    again = list(method.pieces(load(config, parent).eval(), codec, config, *_moved(clips), 0, None))
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))


def test_variants_without_training_have_no_stage() -> None:
    assert SD_2V.stages_of("paper-off_the_shelf") == ()
    assert IPC.stages_of("paper-untrained") == ()
    window = SD_2V.chosen("paper-off_the_shelf").sampling
    assert (window.window, window.overlap) == (16, 4)  # what AnimateDiff's modules were trained on
    assert SD_2V.chosen("paper").sampling.window == 24
    with pytest.raises(UserError, match="has no stage"):
        SD_2V.train("stage_1", variant="paper-off_the_shelf", clips=[], parent=None, out=Path("x"), seed=0, identity={})


def test_without_training_no_checkpoint_is_needed(clips: list[TrainingClip]) -> None:
    """At the brief variant's size, with the shipped autoencoder."""
    animator = SD_2V.load("brief-off_the_shelf", None)
    assert {"weights", "networks"} <= set(animator.sampler)
    with pytest.raises(UserError, match="trains nothing"):
        SD_2V.load("brief-off_the_shelf", Path("somewhere"))
    with pytest.raises(UserError, match="needs a checkpoint"):
        SD_2V.load("brief", None)
    with pytest.raises(UserError, match="needs a checkpoint"):
        IPC.load("brief", None)


def test_fresh_parts_are_the_same_every_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    first, second = off_the_shelf(SD_2V_TINY), off_the_shelf(SD_2V_TINY)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


@pytest.mark.parametrize("variants", [sd_2v_config, ipc_config], ids=["sd_2v", "ipc"])
def test_every_switch_has_its_variant_at_every_size(variants: Any) -> None:
    assert set(variants.VARIANTS) == {
        name for base in ("paper", "demo", "brief") for name in (base, *(f"{base}-{switch}" for switch in variants.ABLATIONS))
    }


def test_variants_of_ipc_share_what_they_do_not_change() -> None:
    assert IPC.stage_config("demo", "stage_1") == IPC.stage_config("demo-no_adaptor", "stage_1")
    assert IPC.stage_config("demo", "stage_2") != IPC.stage_config("demo-no_adaptor", "stage_2")
    assert IPC.stage_config("demo", "stage_2") == IPC.stage_config("demo-uniform_windows", "stage_2")
