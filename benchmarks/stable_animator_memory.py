"""StableAnimator's sampler, face optimisation included: `python -m benchmarks.stable_animator_memory`.

16 frames of 576 x 1024 with random weights of SVD-XT's size in half precision, against the 12.5 GB of the paper's Table 1. On a GPU it gives
peak memory and time. Without one it runs at a reduced size, says so, and gives the process's own memory, which stands for nothing else.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import nn

from benchmarks.memory import peak_mb
from models.animator import Driving, Reference
from models.gradient_checkpointing import checkpoint_gradients
from models.iresnet import R100, WIDTHS, IResNet
from models.stable_animator.config import NetworkConfig, StableAnimatorConfig
from models.stable_animator.face_optimisation import PAPER_HJB, PUBLIC_HJB, Hjb
from models.stable_animator.network import StableAnimator, fresh_network
from models.stable_animator.sampling import animate
from models.stable_animator.temporal_codec import TemporalCodec
from models.stable_animator.variants import PAPER
from pipelines.keypoints import FACE, Points, Scores

_GATE_GB = 12.5  # Table 1, 16 frames of 576 x 1024
_HJB = {"ours": Hjb(decode="face", chunk=2, checkpointing=True), "public": PUBLIC_HJB, "paper": PAPER_HJB}
_REDUCED = NetworkConfig(
    channels=(32, 64), layers=1, heads=(2, 2), token_dim=64, time_dim=32, face_dim=64, face_layers=1, face_heads=2, face_head_dim=16
)


@dataclass(frozen=True, slots=True)
class Scale:
    """What is run."""

    config: StableAnimatorConfig
    decoder: tuple[int, ...]
    decoder_layers: int
    frames: int


def scale_of(full: bool, hjb: Hjb, sampler: str, steps: int) -> Scale:
    """The paper's size, or one for a CPU."""
    # 16 frames as Table 1 counts them: without the reference's own pose in front, which would be a 17th. The faces are always moved.
    hjb = replace(hjb, stop_cosine=None, stop_growth=None)
    sampling = replace(PAPER.sampling, sampler=sampler, steps=steps, hjb=hjb, anchor_reference_pose=False, retarget="none", decode_chunk=2)
    config = replace(PAPER, base_unet=None, image_encoder=None, recogniser=None, sampling=sampling)
    if full:
        return Scale(config, (128, 256, 512, 512), 2, 16)
    return Scale(replace(config, size=(128, 64), network=_REDUCED), (32, 32, 32, 32), 1, 4)


def scene(scale: Scale) -> tuple[Reference, Driving]:
    """A head of a fifth of the width that moves across the picture."""
    height, width = scale.config.size
    points, scores = np.zeros((scale.frames, 133, 2), np.float32), np.ones((scale.frames, 133), np.float32)
    points[:] = (width / 3, height / 4)
    points[:, FACE] += np.random.default_rng(0).uniform(-width / 10, width / 10, (68, 2)).astype(np.float32)
    points[..., 0] += np.linspace(0, width / 4, scale.frames, dtype=np.float32)[:, None]
    image = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Reference(image=image, points=_first(points), scores=_first(scores)), Driving(points=points, scores=scores)


def _first(values: Points | Scores) -> Points:
    return values[0]


def networks(scale: Scale, device: str) -> tuple[StableAnimator, TemporalCodec, nn.Module]:
    """Random weights on the device; half precision on a GPU."""
    with torch.device(device):
        network = fresh_network(scale.config, 4).eval().requires_grad_(False)
        autoencoder: Any = AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=scale.decoder, layers_per_block=scale.decoder_layers
        )
        recogniser = IResNet(R100, WIDTHS) if device == "cuda" else IResNet((1, 1, 1, 1), (8, 8, 16, 16, 16), size=64)
    if device == "cuda":
        network.unet.half()
        autoencoder.half()
    codec = TemporalCodec(autoencoder)
    codec.to(torch.device(device))
    if scale.config.sampling.hjb.checkpointing:
        checkpoint_gradients(codec.autoencoder)
    return network, codec, recogniser


def run(scale: Scale, device: str) -> tuple[float, int]:
    """(seconds, frames) of one clip; the networks are made before the clock starts."""
    network, codec, recogniser = networks(scale, device)
    started = time.monotonic()
    made = np.concatenate(list(animate(network, codec, scale.config, recogniser, *scene(scale), seed=0)))
    assert made.shape == (scale.frames, *scale.config.size, 3)
    return time.monotonic() - started, len(made)


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hjb", choices=sorted(_HJB), default="ours", help="how faces are optimised")
    parser.add_argument("--sampler", choices=("euler", "heun"), default="euler")
    parser.add_argument("--steps", type=int, default=25)
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scale = scale_of(device == "cuda", _HJB[asked.hjb], asked.sampler, asked.steps)
    what = f"{scale.frames} frames of {scale.config.size[1]}x{scale.config.size[0]}, {asked.steps} {asked.sampler} steps, hjb {asked.hjb}"
    if device == "cuda":
        seconds, _ = run(scale, device)
        peak = torch.cuda.max_memory_allocated() / 2**30
        verdict = "below" if peak < _GATE_GB else "ABOVE"
        print(
            f"stable_animator_memory: {what}: peak {peak:.2f} GB on {torch.cuda.get_device_name()}, {verdict} {_GATE_GB} GB; {seconds:.1f} s"
        )
        return
    with peak_mb() as peak_of_process:
        seconds, _ = run(scale, device)
    print(
        f"stable_animator_memory: REDUCED SIZE, no GPU here: {what}: peak {peak_of_process[0]:.0f} MB of the process, {seconds:.1f} s; "
        f"says nothing about the paper's {_GATE_GB} GB at 576x1024"
    )


if __name__ == "__main__":
    main()
