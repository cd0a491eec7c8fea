"""Sizes, steps and rates; each number says where it comes from ([P] paper, [R] public reproduction, [D] our default)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from models.noise import NoiseConfig
from models.training_loop import LoopConfig
from pipelines.retarget import Retarget


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Shape of the two UNets, the pose guider and the temporal layers."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)  # SD 1.5
    layers: int = 2  # SD 1.5
    heads: int = 8  # SD 1.5
    token_dim: int = 768  # CLIP ViT-L/14 image embedding
    norm_groups: int = 32  # SD 1.5
    latent_channels: int = 4  # SD 1.5
    guider_widths: tuple[int, ...] = (16, 32, 96, 256)  # [R] ControlNet's embedding
    guider_variant: Literal["controlnet", "paper_k4"] = "controlnet"
    motion_heads: int = 8  # AnimateDiff v2
    motion_frames: int = 32  # AnimateDiff v2: longest window
    hint: bool = False  # demo addition, see the package's docstring
    hint_from_stem: bool = False  # demo addition: the hint is a 3x3 convolution that begins as the base's own stem
    residual: bool = False  # demo addition
    residual_scale: float = 1.0  # standard deviation of those differences, so that what is diffused has unit variance
    skip_std: float | None = None  # demo addition: the network learns what noise.linear_estimate at this deviation leaves; None = all of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage1:
    """Single frames: both UNets and the pose guider train. 4 A100, 30 000 steps of 64 (Sec. 4.1)."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=30_000, learning_rate=1e-5, accumulation=4, ema_decay=None))  # [P]
    references: int = 4  # per micro-batch
    targets: int = 1  # per reference
    distance: int = 30  # frames between reference and target, where the clip has them [R]
    drop_probability: float = 0.1  # classifier-free guidance [R]
    augment: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage2:
    """Windows of frames: only the temporal layers train. 10 000 steps of 4 clips of 24 frames (Sec. 4.1)."""

    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=10_000, learning_rate=1e-5, ema_decay=None))  # [P]
    batch: int = 4  # clips per micro-batch [P]
    window: int = 24  # frames [P]
    stride: int = 4  # [R]
    drop_probability: float = 0.1  # [R]
    augment: bool = True
    shared_noise: bool = False  # the same initial noise for all frames of a window, in training as in sampling


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """DDIM, eta 0."""

    steps: int = 20  # [P]
    guidance_scale: float = 3.5  # [R], the paper is silent
    window: int = 24  # [P]
    overlap: int = 4  # [R]
    retarget: Retarget = "limb"  # [P] the driving skeleton's length is rescaled to the reference's
    shared_noise: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.window:
            raise ValueError(f"overlap={self.overlap} must be at least 0 and smaller than window={self.window}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnimateAnyoneConfig:
    """One variant of the method."""

    size: tuple[int, int] = (768, 768)  # height, width [P]
    autoencoder: str = "stabilityai/sd-vae-ft-mse"
    base_unet: str | None = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # None = from scratch
    image_encoder: str | None = "lambdalabs/sd-image-variations-diffusers"  # None = the pooled stand-in
    motion_adapter: str | None = "guoyww/animatediff-motion-adapter-v1-5-2"  # None = from scratch
    network: NetworkConfig = field(default_factory=NetworkConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    stage_1: Stage1 = field(default_factory=Stage1)
    stage_2: Stage2 = field(default_factory=Stage2)
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.network.skip_std is not None and self.noise.objective != "v":
            raise ValueError("skip_std is worked out for v-prediction; use objective='v' or skip_std=None")
        for name, window in (("stage_2", self.stage_2.window), ("sampling", self.sampling.window)):
            if window > self.network.motion_frames:
                raise ValueError(f"{name}.window={window} is longer than the motion modules' motion_frames={self.network.motion_frames}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for manifests and digests."""
        return asdict(self)


PAPER = AnimateAnyoneConfig()  # expects UBC SSIM .932, PSNR (overflow) 38.47, LPIPS .041, FVD 81.5 (Table 1)

_DEMO_NETWORK = NetworkConfig(
    channels=(48, 96),
    layers=1,
    heads=4,
    token_dim=64,
    norm_groups=8,
    latent_channels=16,
    guider_widths=(8, 16, 32, 48),
    motion_heads=4,
    motion_frames=32,
    hint=True,
    residual=True,
    residual_scale=0.43,  # measured on frames ten apart of the demo's training clips
    skip_std=0.15,  # most of a clip's picture does not move
)

DEMO = AnimateAnyoneConfig(
    size=(128, 128),
    autoencoder="demo",
    base_unet=None,
    image_encoder=None,
    motion_adapter=None,
    network=_DEMO_NETWORK,
    stage_1=Stage1(
        loop=LoopConfig(steps=300, learning_rate=2e-3, warmup_steps=15, decay="cosine"), references=4, targets=3, augment=False, distance=8
    ),
    stage_2=Stage2(
        loop=LoopConfig(steps=40, learning_rate=2e-3, warmup_steps=5, decay="cosine"),
        batch=1,
        window=12,
        stride=1,
        augment=False,
        shared_noise=True,
    ),
    sampling=Sampling(steps=10, guidance_scale=1.2, window=12, overlap=2, retarget="none", shared_noise=True),
)

# The demo from the tiny family's trained networks. With a base, channels, tokens and latents are those of the base's own config: here they say what
# `rotoscope tiny train base_unet` builds (88 rather than 96 channels keep it under 2.2 million parameters; tokens as wide as the tiny text tower).
DEMO_BASE = replace(
    DEMO,
    base_unet="demo",
    motion_adapter="demo",
    network=replace(_DEMO_NETWORK, channels=(48, 88), token_dim=96),
)

# A few steps of the demo's network: shows that a data set trains, animates and scores; its pictures mean nothing.
BRIEF = replace(
    DEMO,
    stage_1=replace(DEMO.stage_1, references=2, loop=replace(DEMO.stage_1.loop, steps=10, probes=6, pictures=1)),
    stage_2=replace(DEMO.stage_2, batch=1, loop=replace(DEMO.stage_2.loop, steps=6, warmup_steps=1, probes=6, pictures=1)),
    sampling=replace(DEMO.sampling, steps=4),
)

VARIANTS: dict[str, AnimateAnyoneConfig] = {"demo": DEMO, "demo_base": DEMO_BASE, "brief": BRIEF, "paper": PAPER}
