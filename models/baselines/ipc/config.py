"""Sizes, steps and rates of IPC; [P] HFCA's paper, [D] our default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from models import clip_sampling
from models.controlled_unet import FRESH, TINY_FAMILY, BaseNetworks
from models.ddim import STABLE_DIFFUSION
from models.finetuned_baseline import FinetunedConfig
from models.loop_config import paper_loop
from models.noise import NoiseConfig
from models.prompted_denoiser import PromptedNetworks
from models.stage_config import PairStage, WindowStage, check_windows
from models.training_loop import LoopConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Temporal:
    """MagicVideo's temporal layers (models/causal_temporal.py)."""

    causal: bool = True  # a frame sees itself and those before it; off: all frames
    adaptor: bool = True  # a scale and a shift for each frame and channel
    heads: int = 8  # [D]
    frames: int = 24  # the longest window


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling(clip_sampling.Sampling):
    """DDIM, eta 0."""

    steps: int = 25  # [D] HFCA's
    guidance_scale: float = 7.5  # [D] the habit of IP-Adapter and ControlNet
    windows: Literal["gaussian", "uniform"] = "gaussian"  # how overlapping windows are weighted; gaussian: HFCA's own, for a fair table
    sigma: float = 4.0  # of the Gaussian weights, frames


@dataclass(frozen=True, kw_only=True, slots=True)
class IpcConfig(FinetunedConfig):
    """One variant."""

    size: tuple[int, int] = (640, 640)  # height, width: HFCA's [P]
    autoencoder: str = "stabilityai/sd-vae-ft-mse"
    networks: PromptedNetworks = field(default_factory=lambda: PromptedNetworks(base=BaseNetworks()))
    temporal: Temporal = field(default_factory=Temporal)
    noise: NoiseConfig = STABLE_DIFFUSION
    # HFCA's steps and batches
    stage_1: PairStage = field(default_factory=lambda: PairStage(loop=paper_loop(30_000, accumulation=4), references=16, flip=0.5))
    stage_2: WindowStage = field(default_factory=lambda: WindowStage(loop=paper_loop(10_000), flip=0.5))
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        check_windows("temporal.frames", self.temporal.frames, stage_2=self.stage_2.window, sampling=self.sampling.window)


PAPER = IpcConfig()  # expects TikTok FVD 412.73, FID-VID 77.20; TED 381.28, 56.27 (HFCA, Table 2)

_LOOP = LoopConfig(steps=120, learning_rate=1e-3, warmup_steps=10, decay="cosine", probes=8, pictures=1)

# The tiny family in the place of the published weights. Its base predicts v.
DEMO = IpcConfig(
    size=(128, 128),
    autoencoder="demo",
    networks=PromptedNetworks(base=TINY_FAMILY, ip_adapter="demo", image_encoder="demo"),
    temporal=Temporal(heads=4),
    noise=NoiseConfig(),
    stage_1=PairStage(loop=_LOOP, references=4, targets=3, augment=False, distance=8),
    stage_2=WindowStage(loop=replace(_LOOP, steps=40, warmup_steps=5), batch=1, window=12, stride=1, augment=False),
    sampling=Sampling(steps=10, guidance_scale=2.0, window=12, overlap=4, sigma=2.0, retarget="none"),
)

# A few steps from scratch: shows that a data set trains, animates and scores; its pictures mean nothing.
BRIEF = replace(
    DEMO,
    networks=PromptedNetworks(base=FRESH, ip_adapter=None, image_encoder=None),
    stage_1=replace(DEMO.stage_1, references=2, targets=1, loop=replace(_LOOP, steps=6, warmup_steps=1, probes=2)),
    stage_2=replace(DEMO.stage_2, loop=replace(_LOOP, steps=4, warmup_steps=1, probes=2)),
    sampling=replace(DEMO.sampling, steps=4),
)


def _temporal(**changes: Any) -> Callable[[IpcConfig], IpcConfig]:
    return lambda config: replace(config, temporal=replace(config.temporal, **changes))


ABLATIONS: dict[str, Callable[[IpcConfig], IpcConfig]] = {
    "untrained": lambda config: replace(config, train="none"),
    "not_causal": _temporal(causal=False),
    "no_adaptor": _temporal(adaptor=False),
    "uniform_windows": lambda config: replace(config, sampling=replace(config.sampling, windows="uniform")),
}

_BASES = {"demo": DEMO, "brief": BRIEF, "paper": PAPER}

VARIANTS: dict[str, IpcConfig] = {
    **_BASES,
    **{f"{base}-{switch}": change(config) for base, config in _BASES.items() for switch, change in ABLATIONS.items()},
}
