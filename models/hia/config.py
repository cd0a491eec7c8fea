"""Sizes, steps and rates; each number says where it comes from ([P] paper, [R] MagicAnimate's released code, [D] our default where both are silent)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from models import clip_sampling
from models.autoencoders import DEMO_CHANNELS
from models.demo_additions import DemoAdditions
from models.guidance import GuidanceForm
from models.loop_config import paper_loop
from models.noise import NoiseConfig, shift_of_size
from models.reference_attention import Fusion
from models.stage_config import PairStage, StagedConfig, WindowStage, check_windows
from models.training_loop import LoopConfig
from models.unet_shape import UnetShape
from pipelines.retarget import Retarget

T_MAX = 125
"""Timesteps 0 to 124 are supervised in pixels (Sec. 3.3, after ReFL): above, a one-step x0 is too blurred to be compared."""

_GAMMA = shift_of_size(896, 512)  # 0.571: [D], the same in every stage, so that one schedule serves training and sampling


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionBlur:
    """The motion-blur condition (Sec. 3.2)."""

    enabled: bool = True  # off: Table 2, row 3
    mode: Literal["concat", "overlay"] = (
        "concat"  # [D] three channels behind the pose's; "overlay": painted into the pose, the paper's words
    )
    drop_probability: float = 0.1  # [D] so that a clip can be made without it

    @property
    def channels(self) -> int:
        """Of the ControlNet's condition image."""
        return 6 if self.enabled and self.mode == "concat" else 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Regional:
    """Regional supervision (Sec. 3.1): L = L_diffusion + face L_face + hands L_hand + cosine L_cos. The paper names no weights ([D])."""

    enabled: bool = True  # off: Table 2, row 1
    train: Literal["appearance", "all_spatial"] = "appearance"  # [P]; all_spatial: Table 2, row 2
    face: float = 1.0  # Eq. 1, pixels in [-1, 1]
    hands: float = 1.0  # Eq. 1
    cosine: float = 0.1  # Eq. 2
    least_face_px: float = 0.0  # smaller faces are not judged by the recogniser


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling(clip_sampling.Sampling):
    """DDIM, eta 0, with the three techniques of Sec. 3.4. guidance_scale is Eq. 4's w."""

    steps: int = 25  # [R]
    guidance_scale: float = 1.5  # [D] the paper names none; its gain is small (Table 3), so w is near 1
    window: int = 16  # [R]
    overlap: int = 4  # [R]
    retarget: Retarget = "none"  # whoever retargets the skeleton must move the blur map with it: see __post_init__
    acfg: bool = True  # animation-cfg; off: the conditional prediction alone
    acfg_form: GuidanceForm = "usual"
    prompt_travel: bool = True  # windows begin elsewhere at every step; off: always the same ones
    irn: bool = True  # initial reference noise; off: Gaussian noise
    sharpness: Literal["driving", "constant"] = "driving"  # constant: every hand as sharp as `clean_sharpness`
    clean_sharpness: float = 0.69  # of the map, in 0..1: the 75th percentile over 192 hands of the demo's training people

    def __post_init__(self) -> None:
        clip_sampling.Sampling.__post_init__(self)
        if self.retarget != "none":
            raise ValueError(
                f"retarget={self.retarget!r}: a skeleton that moves here leaves its blur map behind; retarget the driving signals "
                "as well, before the sampler (models/cross_driving.py), and keep retarget='none'"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class HiaConfig(StagedConfig):
    """One variant of the method."""

    size: tuple[int, int] = (896, 512)  # height, width [P]
    autoencoder: str = "stabilityai/sd-vae-ft-mse"
    base_unet: str | None = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # None = from scratch
    controlnet: str | None = "lllyasviel/control_v11p_sd15_openpose"  # None = from scratch, on the encoder of the base
    image_encoder: str | None = "lambdalabs/sd-image-variations-diffusers"  # [D] AnimateAnyone's; None = the pooled stand-in
    motion_adapter: str | None = "guoyww/animatediff-motion-adapter-v1-5-2"  # [D]; None = from scratch
    recogniser: str | None = "face_recogniser"  # role of the weights of Eq. 2 (glintr100); None = a fixed random stand-in
    shape: UnetShape = field(default_factory=UnetShape)
    hint_widths: tuple[int, ...] = (16, 32, 96, 256)  # of a ControlNet from scratch
    additions: DemoAdditions = field(default_factory=DemoAdditions)
    fusion: Fusion = "full"  # [D]; MagicAnimate: "midup"
    noise: NoiseConfig = field(
        default_factory=lambda: NoiseConfig(
            objective="epsilon", zero_terminal_snr=False, min_snr_gamma=None, noise_offset=0.0, schedule="linear", shift_gamma=_GAMMA
        )
    )  # Sec. 3.3, Alg. 1; shift_gamma = 1: Table 2, row 4
    blur: MotionBlur = field(default_factory=MotionBlur)
    regional: Regional = field(default_factory=Regional)
    progressive: bool = True  # half resolution before full (Sec. 3.3); off: Figure 6
    stage_1: PairStage = field(default_factory=lambda: _spatial(35_000))  # 70 h on 8 A100 [P]
    stage_2: PairStage = field(default_factory=lambda: _spatial(4_000, timesteps=(0, T_MAX)))  # 8 h [P]
    stage_3: WindowStage = field(default_factory=lambda: _temporal(20_000, size=(448, 256)))  # 24 h [P]
    stage_4: WindowStage = field(
        default_factory=lambda: _temporal(1_000, static=0.2)
    )  # 2 h [P]; static images [D], MagicAnimate's share is not published
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        self.additions.check(self.noise.objective)
        if self.additions.residual and self.sampling.irn:
            raise ValueError(
                "the initial reference noise begins at the reference latent; with additions.residual that is 0: use sampling.irn=False"
            )
        if self.sampling.irn and self.noise.zero_terminal_snr:
            raise ValueError("nothing of the reference is left in the initial noise at zero terminal SNR; use sampling.irn=False")
        if self.stage_2.timesteps is None or self.stage_2.timesteps[1] > T_MAX:
            raise ValueError(
                f"stage_2.timesteps={self.stage_2.timesteps}: x0 is compared in pixels up to t = {T_MAX - 1}; use (0, {T_MAX})"
            )
        windows = {"stage_3": self.stage_3.window, "stage_4": self.stage_4.window, "sampling": self.sampling.window}
        check_windows("the motion modules' motion_frames", self.shape.motion_frames, **windows)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that this variant trains, first to last."""
        skipped = [] if self.regional.enabled else ["stage_2"]
        skipped += [] if self.progressive else ["stage_3"]
        return tuple(stage for stage in ("stage_1", "stage_2", "stage_3", "stage_4") if stage not in skipped)


# What every stage's networks are made of; the rest of a config belongs to single stages or to sampling.
NETWORK_FIELDS = (
    "size", "autoencoder", "base_unet", "controlnet", "image_encoder", "shape", "hint_widths", "additions", "fusion", "noise", "blur",
)  # fmt: skip


def _spatial(steps: int, timesteps: tuple[int, int] | None = None) -> PairStage:
    """Single frames, 32 pairs a step: 8 references in each of 4 micro-batches (the paper leaves open whether its 32 counts them). Adam [P]."""
    return PairStage(loop=paper_loop(steps, accumulation=4, optimizer="adam"), references=8, flip=0.5, timesteps=timesteps)  # flip [P]


def _temporal(steps: int, size: tuple[int, int] | None = None, static: float = 0.0) -> WindowStage:
    """8 clips a step [P] of 16 frames [D]. Adam [P], at a rate that the paper does not name."""
    return WindowStage(loop=paper_loop(steps, optimizer="adam"), batch=8, window=16, flip=0.5, size=size, static=static)


PAPER = HiaConfig()  # expects HumanDance PSNR 20.45, SSIM .799, LPIPS .0740, FID 17.84, FID-VID 4.91, FVD 50.33 (Table 1a)

# A variant that trains all four stages, and makes four clips of 24 frames, stays below three minutes of one core.
_LOOP = LoopConfig(steps=120, learning_rate=1e-3, warmup_steps=10, decay="cosine", optimizer="adam", probes=8, pictures=1)

# The tiny family in the place of the published weights, and what the ablations are held against. It predicts v: so does this variant, at every
# other point as the paper says.
UNWARPED = HiaConfig(
    size=(128, 128),
    autoencoder="demo",
    base_unet="demo",
    controlnet="demo",
    image_encoder=None,
    motion_adapter="demo",
    recogniser="face_recogniser_tiny",
    shape=UnetShape(
        channels=(48, 88), layers=1, heads=4, token_dim=96, norm_groups=8, latent_channels=DEMO_CHANNELS, motion_heads=4, motion_frames=32
    ),
    hint_widths=(8, 16, 32, 48),
    additions=DemoAdditions(hint=True),
    noise=NoiseConfig(objective="v", zero_terminal_snr=False, min_snr_gamma=None, noise_offset=0.0, schedule="linear", shift_gamma=_GAMMA),
    stage_1=PairStage(loop=_LOOP, references=4, targets=2, augment=False, distance=8, flip=0.5),
    stage_2=PairStage(
        loop=replace(_LOOP, steps=24, learning_rate=3e-4),
        references=2,
        targets=1,
        augment=False,
        distance=8,
        flip=0.5,
        timesteps=(0, T_MAX),
    ),
    stage_3=WindowStage(loop=replace(_LOOP, steps=48), batch=1, window=12, stride=1, augment=False, flip=0.5, size=(64, 64)),
    stage_4=WindowStage(
        loop=replace(_LOOP, steps=8, learning_rate=3e-4, warmup_steps=2), batch=1, window=12, stride=1, augment=False, flip=0.5, static=0.2
    ),
    sampling=Sampling(steps=10, window=12, overlap=3),
)

# What learns most in minutes: AnimateAnyone's demo. A warped reference would show all ablations what only some may see, and the initial
# reference noise (Table 3) has no place where the difference to the reference is diffused.
DEMO = replace(
    UNWARPED,
    additions=DemoAdditions(hint=True, residual=True, warp=True, residual_scale=0.33, skip_std=0.15),
    stage_3=replace(UNWARPED.stage_3, shared_noise=True),
    stage_4=replace(UNWARPED.stage_4, shared_noise=True),
    sampling=replace(UNWARPED.sampling, guidance_scale=1.0, irn=False, shared_noise=True, noise_std=0.5),
)

# Half an hour instead of minutes: what the project ships a checkpoint of. Rates and averages are AnimateAnyone's.
_LONG_LOOP = LoopConfig(steps=480, learning_rate=1e-3, warmup_steps=50, decay="cosine", optimizer="adam", ema_decay=0.998)
LONG = replace(
    DEMO,
    sampling=replace(DEMO.sampling, noise_std=0.7),
    stage_1=replace(DEMO.stage_1, loop=_LONG_LOOP),
    stage_2=replace(DEMO.stage_2, loop=replace(_LONG_LOOP, steps=120, learning_rate=3e-4, warmup_steps=10, ema_decay=0.98)),
    stage_3=replace(DEMO.stage_3, loop=replace(_LONG_LOOP, steps=240, warmup_steps=10, ema_decay=0.98)),
    stage_4=replace(DEMO.stage_4, loop=replace(_LONG_LOOP, steps=60, learning_rate=3e-4, warmup_steps=5, ema_decay=0.95)),
)

# A few steps from scratch, with the paper's objective: shows that a data set trains, animates and scores; its pictures mean nothing.
BRIEF = replace(
    UNWARPED,
    base_unet=None,
    controlnet=None,
    motion_adapter=None,
    recogniser=None,
    noise=PAPER.noise,
    stage_1=replace(UNWARPED.stage_1, references=2, targets=1, loop=replace(_LOOP, steps=10, warmup_steps=1, probes=6)),
    stage_2=replace(UNWARPED.stage_2, references=1, loop=replace(_LOOP, steps=4, warmup_steps=1, probes=2)),
    stage_3=replace(UNWARPED.stage_3, loop=replace(_LOOP, steps=4, warmup_steps=1, probes=2)),
    stage_4=replace(UNWARPED.stage_4, loop=replace(_LOOP, steps=3, warmup_steps=1, probes=2)),
    sampling=replace(UNWARPED.sampling, steps=4),
)


def _without_half_resolution(config: HiaConfig) -> HiaConfig:
    """All temporal steps at full resolution, so that what differs is the resolution and not their number."""
    loop = replace(config.stage_4.loop, steps=config.stage_3.loop.steps + config.stage_4.loop.steps)
    return replace(config, progressive=False, stage_4=replace(config.stage_4, loop=loop))


def _sampled(**changes: Any) -> Callable[[HiaConfig], HiaConfig]:
    return lambda config: replace(config, sampling=replace(config.sampling, **changes))


ABLATIONS: dict[str, Callable[[HiaConfig], HiaConfig]] = {
    "no_regional": lambda config: replace(config, regional=replace(config.regional, enabled=False)),  # Table 2, row 1
    "regional_all_spatial": lambda config: replace(config, regional=replace(config.regional, train="all_spatial")),  # row 2
    "no_blur": lambda config: replace(config, blur=replace(config.blur, enabled=False)),  # row 3
    "default_schedule": lambda config: replace(config, noise=replace(config.noise, shift_gamma=1.0)),  # row 4
    "not_progressive": _without_half_resolution,  # Figure 6
    "no_acfg": _sampled(acfg=False),  # Table 3, row 2
    "no_prompt_travel": _sampled(prompt_travel=False),  # row 3
    "no_irn": _sampled(irn=False),  # row 4
    "no_inference_tricks": _sampled(acfg=False, prompt_travel=False, irn=False),  # row 1
}

_BASES = {"demo": DEMO, "unwarped": UNWARPED, "brief": BRIEF, "paper": PAPER}

VARIANTS: dict[str, HiaConfig] = {
    **_BASES,
    "long": LONG,
    **{f"{base}-{switch}": change(config) for base, config in _BASES.items() for switch, change in ABLATIONS.items()},
}
