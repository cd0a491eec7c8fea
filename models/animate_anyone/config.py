"""Sizes, steps and rates; each number says where it comes from ([P] paper, [R] public reproduction, [D] our default)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from models.autoencoders import DEMO_CHANNELS
from models.clip_sampling import Sampling
from models.demo_additions import DemoAdditions
from models.loop_config import on_gpu
from models.noise import NoiseConfig
from models.stage_config import PairStage, WindowStage
from models.training_loop import LoopConfig
from models.unet_shape import UnetShape

ImageCondition = Literal["reference_net", "clip_only", "controlnet", "clip_and_controlnet"]
"""Table 4: ReferenceNet and the CLIP token; the token alone; a ControlNet on the reference image instead of both; ControlNet and token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Shape of the two UNets, the pose guider and the temporal layers; and the switches of the paper's ablations."""

    unet: UnetShape = field(default_factory=UnetShape)
    guider_widths: tuple[int, ...] = (16, 32, 96, 256)  # [R] ControlNet's embedding
    guider_variant: Literal["controlnet", "paper_k4", "paper_literal"] = "controlnet"
    image_condition: ImageCondition = "reference_net"  # Table 4
    reference_encoder: Literal["unet", "resnet"] = "unet"  # Table 5: a ResNet-50 instead of the UNet
    reference_fusion: Literal["attention", "concat"] = "attention"  # Table 5: features joined by channels instead of attended to
    resnet_weights: str | None = "ResNet50_Weights.IMAGENET1K_V2"  # of torchvision, for reference_encoder="resnet"; None = random
    temporal: Literal["two_stage", "joint", "none"] = "two_stage"  # Table 6
    additions: DemoAdditions = field(default_factory=DemoAdditions)

    @property
    def reads_reference(self) -> bool:
        """Whether the denoiser sees reference features."""
        return self.image_condition == "reference_net"

    @property
    def controls_reference(self) -> bool:
        """Whether a ControlNet sees the reference image."""
        return self.image_condition in ("controlnet", "clip_and_controlnet")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnimateAnyoneConfig:
    """One variant of the method."""

    size: tuple[int, int] = (768, 768)  # height, width [P]
    autoencoder: str = "stabilityai/sd-vae-ft-mse"
    base_unet: str | None = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # None = from scratch
    image_encoder: str | None = "lambdalabs/sd-image-variations-diffusers"  # None = the pooled stand-in
    motion_adapter: str | None = "guoyww/animatediff-motion-adapter-v1-5-2"  # None = from scratch
    pose_controlnet: str | None = (
        "lllyasviel/control_v11p_sd15_openpose"  # [R] its condition embedding starts the pose guider; None = from scratch
    )
    network: NetworkConfig = field(default_factory=NetworkConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    # Sec. 4.1: 30 000 steps of 64 single frames on 4 A100 [P]
    stage_1: PairStage = field(
        default_factory=lambda: PairStage(loop=on_gpu(LoopConfig(steps=30_000, learning_rate=1e-5, accumulation=4, ema_decay=None)))
    )
    # Table 4's ControlNet on the reference: trained behind a frozen stage 1, as long as it
    stage_1b: PairStage = field(
        default_factory=lambda: PairStage(loop=on_gpu(LoopConfig(steps=30_000, learning_rate=1e-5, accumulation=4, ema_decay=None)))
    )
    # 10 000 steps of 4 clips of 24 frames [P]
    stage_2: WindowStage = field(
        default_factory=lambda: WindowStage(loop=on_gpu(LoopConfig(steps=10_000, learning_rate=1e-5, ema_decay=None)))
    )
    # 20 steps, windows of 24 [P]; guidance 3.5 and overlap 4 [R]; the driving skeleton's length is rescaled to the reference's [P]
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        self.network.additions.check(self.noise.objective)
        for name, window in (("stage_2", self.stage_2.window), ("sampling", self.sampling.window)):
            if window > self.network.unet.motion_frames:
                raise ValueError(
                    f"{name}.window={window} is longer than the motion modules' motion_frames={self.network.unet.motion_frames}"
                )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for manifests and digests."""
        return asdict(self)


PAPER = AnimateAnyoneConfig()  # expects UBC SSIM .932, PSNR (overflow) 38.47, LPIPS .041, FVD 81.5 (Table 1)

_DEMO_NETWORK = NetworkConfig(
    unet=UnetShape(
        channels=(48, 96), layers=1, heads=4, token_dim=64, norm_groups=8, latent_channels=DEMO_CHANNELS, motion_heads=4, motion_frames=32
    ),
    guider_widths=(8, 16, 32, 48),
    resnet_weights=None,
    # residual_scale: measured on frames ten apart of training clips; skip_std: most of a clip's picture does not move
    additions=DemoAdditions(hint=True, residual=True, residual_scale=0.55, skip_std=0.15),
)
# A model of these two stages stays below three minutes of one core. Looked at seldom: ten probes and two pictures a stage were a quarter
# of the demo's training.
_DEMO_PAIRS = PairStage(
    loop=LoopConfig(steps=200, learning_rate=2e-3, warmup_steps=15, decay="cosine", probes=5, pictures=1),
    references=4,
    targets=3,
    augment=False,
    distance=8,
)

# From scratch, with no trained network but the autoencoder.
SCRATCH = AnimateAnyoneConfig(
    size=(128, 128),
    autoencoder="demo",
    base_unet=None,
    image_encoder=None,
    motion_adapter=None,
    pose_controlnet=None,
    network=_DEMO_NETWORK,
    stage_1=_DEMO_PAIRS,
    stage_1b=_DEMO_PAIRS,
    stage_2=WindowStage(
        loop=LoopConfig(steps=30, learning_rate=2e-3, warmup_steps=5, decay="cosine", probes=5, pictures=1),
        batch=1,
        window=12,
        stride=1,
        augment=False,
        shared_noise=True,
    ),
    # no guidance: scales from 1 to 1.2 differ by less than 0.1 dB after minutes of training, and it costs every step twice
    sampling=Sampling(steps=10, guidance_scale=1.0, window=12, overlap=2, retarget="none", shared_noise=True),
)

# Both UNets begin as the tiny family's base, the temporal layers as its motion modules.
# Channels, tokens and latents are then those of the base's own config: here they say what
# `rotoscope tiny train base_unet` builds (88 rather than 96 channels keep it under 2.2 million parameters; tokens as wide as the tiny text tower).
DEMO = replace(
    SCRATCH,
    base_unet="demo",
    motion_adapter="demo",
    network=replace(
        _DEMO_NETWORK,
        unet=replace(_DEMO_NETWORK.unet, channels=(48, 88), token_dim=96),
        # a warped reference differs less from the target than the reference does
        additions=replace(_DEMO_NETWORK.additions, warp=True, residual_scale=0.33),
    ),
    # with the whole noise a minutes-old network draws over what the warp had right: 1.2 dB less after 1,000 steps
    sampling=replace(SCRATCH.sampling, noise_std=0.5),
    # a step takes a third longer, and less is left to learn: with 80 steps 25.71 dB, with 120 25.89, with 200 26.03
    stage_1=replace(_DEMO_PAIRS, loop=replace(_DEMO_PAIRS.loop, steps=54, warmup_steps=8)),
    stage_2=replace(SCRATCH.stage_2, loop=replace(SCRATCH.stage_2.loop, steps=16)),
)
# What the ablations are held against: a warped reference shows all of them what only some may see.
UNWARPED = replace(
    DEMO,
    network=replace(DEMO.network, additions=_DEMO_NETWORK.additions),
    stage_1=_DEMO_PAIRS,
    stage_2=SCRATCH.stage_2,
    sampling=SCRATCH.sampling,
)

# An hour of one core instead of minutes: what the project ships a checkpoint of. A slower rate and a longer average than the demo's.
LONG = replace(
    DEMO,
    motion_adapter=None,  # the checkpoint that is shipped was trained before the family had motion modules
    # trained longer, more of what it draws is right: 0.4 to 0.6 dB above the whole noise, as much as 0.5 of it
    sampling=replace(DEMO.sampling, noise_std=0.7),
    stage_1=replace(_DEMO_PAIRS, loop=LoopConfig(steps=3000, learning_rate=1e-3, warmup_steps=50, decay="cosine", ema_decay=0.998)),
    stage_2=replace(
        SCRATCH.stage_2,
        loop=LoopConfig(steps=240, learning_rate=1e-3, warmup_steps=10, decay="cosine", ema_decay=0.98),
    ),
)

_BRIEF_PAIRS = replace(_DEMO_PAIRS, references=2, loop=replace(_DEMO_PAIRS.loop, steps=10, probes=6, pictures=1))

# A few steps of a network from scratch: shows that a data set trains, animates and scores; its pictures mean nothing.
BRIEF = replace(
    SCRATCH,
    stage_1=_BRIEF_PAIRS,
    stage_1b=_BRIEF_PAIRS,
    stage_2=replace(SCRATCH.stage_2, batch=1, loop=replace(SCRATCH.stage_2.loop, steps=6, warmup_steps=1, probes=6, pictures=1)),
    sampling=replace(SCRATCH.sampling, steps=4),
)


def ablations_of(name: str, config: AnimateAnyoneConfig) -> dict[str, AnimateAnyoneConfig]:
    """The variants of Tables 4, 5 and 6 beside their base.

    Without ReferenceNet the demo has no hint either, which would show the reference all the same.
    """
    blind = replace(config.network.additions, hint=False)
    switches: dict[str, dict[str, Any]] = {
        "clip_only": {"image_condition": "clip_only", "additions": blind},
        "controlnet": {"image_condition": "controlnet", "additions": blind},
        "clip_and_controlnet": {"image_condition": "clip_and_controlnet", "additions": blind},
        "resnet": {"reference_encoder": "resnet"},
        "concat": {"reference_fusion": "concat"},
        "no_temporal": {"temporal": "none"},
        "one_stage": {"temporal": "joint"},
    }
    made = {f"{name}-{switch}": replace(config, network=replace(config.network, **change)) for switch, change in switches.items()}
    # not of the paper: what the pose guider gives
    return {**made, f"{name}-no_pose": replace(config, network=replace(config.network, guider_widths=()))}


def _as_long(config: AnimateAnyoneConfig) -> AnimateAnyoneConfig:
    """A row with other stages than the full method's, with the steps that take about as long: no row of a table trains for more minutes.

    Stage 1 and the ControlNet behind it share the steps. Where everything trains on windows at once, a step takes a fifth longer.
    """
    if config.network.controls_reference:
        return replace(config, stage_1=_pairs(config, 130), stage_1b=_pairs(config, 110))
    return replace(config, stage_1=_pairs(config, 160)) if config.network.temporal == "joint" else config


def _pairs(config: AnimateAnyoneConfig, steps: int) -> PairStage:
    return replace(config.stage_1, loop=replace(config.stage_1.loop, steps=steps))


_BASES = {"demo": DEMO, "demo_scratch": SCRATCH, "unwarped": UNWARPED, "brief": BRIEF, "paper": PAPER}
VARIANTS: dict[str, AnimateAnyoneConfig] = {
    **_BASES,
    "long": LONG,
    **{name: variant for base, config in _BASES.items() for name, variant in ablations_of(base, config).items()},
}
VARIANTS |= {name: _as_long(VARIANTS[name]) for name in ablations_of("unwarped", UNWARPED)}
