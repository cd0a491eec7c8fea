"""Every stage of the SD 1.5 methods at the paper's size, with random weights: seconds of a step, images a second, peak memory; and sampling 24 frames.

On a GPU the networks have the papers' sizes and resolutions, bfloat16 autocast and gradient checkpointing, and the line says into which cards it
fits. Elsewhere they run at a reduced size, which shows that every stage runs and nothing about the papers' sizes; the line says so.

python -m benchmarks.paper_scale [--methods animate_anyone hfca hia] [--steps 5] [--reduced]
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from models.clip_dataset import Batch
from models.clip_sampling import generate_latents, with_poses
from models.gradient_checkpointing import checkpoint_gradients
from models.latents import LatentCodec
from models.on_device import device_at_hand, on_device
from models.precision import mixed
from models.signals import Signals
from models.stage_config import PairStage, Stage
from models.stage_loss import StageLoss
from models.stage_training import StageRun
from models.training_loop import generator_for
from models.unet_shape import UnetShape

CARDS = (24, 40, 80)  # GB
REDUCED = UnetShape(channels=(32, 64, 64, 64), heads=4, token_dim=64, norm_groups=8, layers=1)
SAMPLED = 24  # frames
RANDOM: dict[str, Any] = {
    "base_unet": None,
    "image_encoder": None,
    "motion_adapter": None,
}  # networks of the same sizes, not the published weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One stage, ready to take a step; `size` (height, width) of its pictures."""

    method: str
    stage: str
    network: Any
    loss: StageLoss
    size: tuple[int, int]


def sd_codec(reduced: bool) -> LatentCodec:
    """An autoencoder of Stable Diffusion's structure with random weights."""
    from diffusers import AutoencoderKL

    widths = (32, 32, 32, 32) if reduced else (128, 256, 512, 512)
    vae = AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=8 if reduced else 32,
    )
    scale = torch.full((4,), 1 / 0.18215)
    return LatentCodec(vae, torch.zeros(4), scale)


def synthetic_batch(stage: Stage, size: tuple[int, int], seed: int = 0) -> Batch:
    """A batch of the stage's own shape: noise for pictures, and a face, two hands and a body somewhere."""
    references, each = (stage.references, stage.targets) if isinstance(stage, PairStage) else (stage.batch, stage.window)
    generator = torch.Generator().manual_seed(seed)
    rows, (height, width) = references * each, size
    return Batch(
        reference_image=torch.rand(references, 3, *size, generator=generator) * 2 - 1,
        reference_latent=torch.randn(references, 4, height // 8, width // 8, generator=generator),
        latents=torch.randn(references, each, 4, height // 8, width // 8, generator=generator),
        pose=torch.rand(rows, 3, *size, generator=generator),
        target_image=torch.rand(rows, 3, *size, generator=generator) * 2 - 1,
        signals=_signals(rows, references, size),
        reference_signals=_signals(references, references, size),
    )


def _signals(rows: int, clips: int, size: tuple[int, int]) -> Signals:
    height, width = size
    face = torch.tensor([width * 0.4, height * 0.1, width * 0.6, height * 0.3]).expand(rows, 1, 4)
    hand = torch.tensor([width * 0.1, height * 0.5, width * 0.2, height * 0.6])
    scale = 112 / (0.2 * height)
    warp = torch.tensor([[scale, 0.0, -width * 0.4 * scale], [0.0, scale, -height * 0.1 * scale]]).expand(rows, 2, 3)
    return Signals(
        blur=torch.rand(rows, 3, *size),
        hand_boxes=torch.stack([hand, hand + width * 0.5]).expand(rows, 2, 4),
        face_boxes=face,
        face_warps=warp,
        face_found=torch.ones(rows, dtype=torch.bool),
        face_embeddings=torch.randn(rows, 512),
        body_mask=torch.ones(rows, 1, *size),
        densepose=torch.rand(rows, 3, *size),
        clothing=torch.full((clips, 12), 1 / 12),
        actions=torch.randn(clips, 256, 512),
    )


def _run(stage: str) -> StageRun:
    return StageRun(stage=stage, out=Path("unused"), seed=0, parent=None, identity={}, config={}, additions=())


def animate_anyone_cases(reduced: bool, codec: LatentCodec) -> Iterator[Case]:
    from models.animate_anyone.config import PAPER
    from models.animate_anyone.network import add_motion, fresh_network
    from models.animate_anyone.stages import condition_of, settings_of, stages_of

    shape = REDUCED if reduced else UnetShape()
    config = replace(PAPER, **RANDOM, pose_controlnet=None, size=_size(PAPER.size, reduced), network=replace(PAPER.network, unet=shape))
    network = fresh_network(config)
    for stage in stages_of(config):
        network = add_motion(network) if stage == "stage_2" else network
        settings = _small(settings_of(config, stage), reduced)
        yield Case(method="animate_anyone", stage=stage, network=network, size=config.size, loss=_loss(network, settings, condition_of))


def hfca_cases(reduced: bool, codec: LatentCodec) -> Iterator[Case]:
    from models.hfca.config import PAPER
    from models.hfca.identity_preservation import IdentityPreservationLoss
    from models.hfca.judges import perceptual_of, recogniser_of
    from models.hfca.network import add_adaptation, add_temporal, fresh_network
    from models.hfca.stages import condition_of
    from models.lean_decoding import decoder_of

    ipm = replace(PAPER.ipm, recogniser=None, perceptual=None)
    random = {name: None for name in RANDOM if name in PAPER.__dataclass_fields__}
    config = replace(PAPER, **random, ipm=ipm, size=_size(PAPER.size, reduced), shape=REDUCED if reduced else UnetShape())
    network = fresh_network(config)
    for stage in config.stages:
        network = add_adaptation(network, ()) if stage == "stage_1b" else add_temporal(network) if stage == "stage_2" else network
        extra = IdentityPreservationLoss(ipm, decoder_of(codec), recogniser_of(ipm), perceptual_of(ipm)) if stage == "stage_1" else None
        settings = _small(config.stage(stage), reduced)
        yield Case(method="hfca", stage=stage, network=network, size=config.size, loss=_loss(network, settings, condition_of, extra=extra))


def hia_cases(reduced: bool, codec: LatentCodec) -> Iterator[Case]:
    from models.hia.config import PAPER
    from models.hia.network import add_motion, fresh_network
    from models.hia.stages import stage_loss

    small = {stage: _small(PAPER.stage(stage), reduced) for stage in PAPER.stages}
    changed: dict[str, Any] = {**small, **RANDOM, "controlnet": None, "recogniser": None}
    config = replace(PAPER, **changed, size=_size(PAPER.size, reduced), shape=REDUCED if reduced else UnetShape())
    network = fresh_network(config)
    for stage in config.stages:
        network = add_motion(network) if stage == "stage_3" else network
        size = config.stage(stage).size or config.size
        yield Case(method="hia", stage=stage, network=network, size=size, loss=stage_loss(stage, network, [], codec, 0))


CASES: dict[str, Callable[[bool, LatentCodec], Iterator[Case]]] = {
    "animate_anyone": animate_anyone_cases,
    "hfca": hfca_cases,
    "hia": hia_cases,
}


def _size(size: tuple[int, int], reduced: bool) -> tuple[int, int]:
    return (size[0] // 8 // 8 * 8, size[1] // 8 // 8 * 8) if reduced else size


def _small(stage: Stage, reduced: bool) -> Stage:
    """The stage with one micro-batch that a card holds: one reference, or one clip; reduced: few frames, small pictures."""
    if isinstance(stage, PairStage):
        return replace(stage, references=1, targets=1)
    size = None if stage.size is None or not reduced else _size(stage.size, True)
    return replace(stage, batch=1, size=size or stage.size, window=4 if reduced else stage.window)


def _loss(network: Any, settings: Stage, condition_of: Any, **extra: Any) -> StageLoss:
    return StageLoss(network, None, settings, 0, condition_of, **extra)  # type: ignore[arg-type]  # batches are made here


def step_seconds(case: Case, device: torch.device, steps: int) -> tuple[float, float]:
    """(median seconds of an optimiser step, peak GB) after one step that is not counted."""
    parameters = case.network.trainable(case.stage)
    case.network.to(device)
    case.loss.device = device
    checkpoint_gradients(case.network)
    optimizer = torch.optim.AdamW(list(parameters.values()), lr=1e-5)
    batch = on_device(synthetic_batch(case.loss.stage, case.size), device)
    seconds = []
    _reset(device)
    for step in range(steps + 1):
        started = time.perf_counter()
        with case.network.bank.held():
            with mixed("bfloat16" if device.type == "cuda" else "float32", device):
                loss = case.loss.of(batch, generator_for(0, step), 0.0)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds[1:])[steps // 2], _peak(device)


@torch.no_grad()
def sampling_seconds(case: Case, device: torch.device, frames: int) -> tuple[float, float]:
    """(seconds of one denoising step of `frames` frames with guidance, peak GB)."""
    network = case.network.eval()
    batch = on_device(synthetic_batch(PairStage(loop=case.loss.stage.loop, references=1, targets=frames), case.size), device)
    condition = case.loss.condition_of(network, batch)
    sampling = replace(network.config.sampling, steps=2, window=frames, overlap=0)
    _reset(device)
    started = time.perf_counter()
    with mixed("bfloat16" if device.type == "cuda" else "float32", device):
        generate_latents(network, with_poses(condition, condition.pose), sampling, 0)
    _wait(device)
    return (time.perf_counter() - started) / 2, _peak(device)


def _reset(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _peak(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")


def _line(case: Case, images: int, seconds: float, peak: float) -> str:
    fits = ", ".join(f"{card} GB {'yes' if peak < 0.95 * card else 'no'}" for card in CARDS)
    where = f"peak {peak:.1f} GB; fits {fits}" if peak == peak else "reduced size on a CPU: says nothing of the paper's"
    trained = sum(p.numel() for p in case.network.parameters() if p.requires_grad) / 1e6
    return (
        f"{case.method} {case.stage} {case.size[1]}x{case.size[0]}: {images} images a micro-batch, {seconds:.2f} s a step, "
        f"{images / seconds:.2f} images/s, {trained:.0f} M trained; {where}"
    )


def images_of(stage: Stage) -> int:
    """Target pictures of a micro-batch."""
    return stage.references * stage.targets if isinstance(stage, PairStage) else stage.batch * stage.window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--reduced", action="store_true", help="small networks on a GPU, too")
    options = parser.parse_args()
    device = device_at_hand()
    reduced = options.reduced or device.type == "cpu"
    for name in options.methods:
        codec, case = sd_codec(reduced).to(device), None
        for case in CASES[name](reduced, codec):
            seconds, peak = step_seconds(case, device, options.steps)
            print(_line(case, images_of(case.loss.stage), seconds, peak), flush=True)
        assert case is not None
        frames = 4 if reduced else SAMPLED
        seconds, peak = sampling_seconds(case, device, frames)
        print(f"{name} sampling {frames} frames: {seconds:.2f} s a denoising step, peak {peak:.1f} GB", flush=True)


if __name__ == "__main__":
    main()
