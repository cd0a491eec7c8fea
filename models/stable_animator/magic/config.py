"""Sizes, steps and rates of the MagicAnimate rows; each number says where it comes from ([R] MagicAnimate's released code, [D] our default)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from models import clip_sampling
from models.hia.config import UNWARPED as HIA_DEMO
from models.hia.config import HiaConfig, MotionBlur, Regional
from models.noise import NoiseConfig
from models.stable_animator.config import NetworkConfig
from models.stable_animator.face_optimisation import PAPER_HJB, Hjb
from models.stable_animator.variants import BRIEF, UNWARPED
from models.stage_config import PairStage, StagedConfig, WindowStage
from models.training_loop import LoopConfig
from pipelines.retarget import Retarget


@dataclass(frozen=True, kw_only=True, slots=True)
class MagicSampling(clip_sampling.Sampling):
    """DDIM, eta 0, with faces optimised on its x0."""

    steps: int = 25  # [R]
    guidance_scale: float = 7.5  # [R]
    window: int = 16  # [R]
    overlap: int = 4  # [R]
    shared_noise: bool = True  # [R]
    retarget: Retarget = "linear"  # [D] as StableAnimator
    hjb: Hjb = field(default_factory=Hjb)


def _plain(config: HiaConfig) -> HiaConfig:
    """HIA's network as MagicAnimate had it."""
    return replace(
        config,
        fusion="midup",
        blur=MotionBlur(enabled=False),
        regional=Regional(enabled=False),
        noise=replace(config.noise, shift_gamma=1.0),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MagicConfig(StagedConfig):
    """One row of Table 5. backbone: its networks, schedule and size (its stages and sampling are not used). faces: of these the face fields."""

    backbone: HiaConfig = field(default_factory=lambda: _plain(replace(HiaConfig(), size=(512, 512))))  # [R]
    faces: NetworkConfig = field(default_factory=lambda: NetworkConfig(face_method="ours"))
    recogniser: str | None = "face_recogniser"
    stage_1: PairStage = field(default_factory=lambda: PairStage(loop=LoopConfig(steps=30_000, learning_rate=1e-5, ema_decay=None)))  # [D]
    stage_2: WindowStage = field(
        default_factory=lambda: WindowStage(loop=LoopConfig(steps=10_000, learning_rate=1e-5, ema_decay=None), window=16)
    )  # [D]
    sampling: MagicSampling = field(default_factory=MagicSampling)

    def __post_init__(self) -> None:
        if self.backbone.additions.residual:
            raise ValueError("faces are optimised on latents; with additions.residual x0 is a difference: switch it off")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what it makes."""
        return self.backbone.size

    @property
    def autoencoder(self) -> str:
        """Of the backbone."""
        return self.backbone.autoencoder


_PAPER = MagicConfig(sampling=MagicSampling(hjb=PAPER_HJB))

_DEMO = MagicConfig(
    backbone=_plain(HIA_DEMO),
    faces=UNWARPED.network,
    recogniser="face_recogniser_tiny",
    stage_1=replace(HIA_DEMO.stage_1, flip=0.0),
    stage_2=replace(HIA_DEMO.stage_3, size=None, flip=0.0),
    sampling=MagicSampling(steps=10, guidance_scale=1.5, window=12, overlap=3, retarget="none", hjb=UNWARPED.sampling.hjb),
)

_SHORT = LoopConfig(steps=4, learning_rate=1e-3, probes=5, pictures=1)
_BRIEF = replace(
    _DEMO,
    backbone=replace(
        _DEMO.backbone,
        base_unet=None,
        controlnet=None,
        motion_adapter=None,
        noise=NoiseConfig(objective="epsilon", zero_terminal_snr=False, min_snr_gamma=None, noise_offset=0.0, schedule="linear"),
    ),
    recogniser=None,
    stage_1=replace(_DEMO.stage_1, references=2, targets=1, loop=_SHORT),
    stage_2=replace(_DEMO.stage_2, window=4, loop=_SHORT),
    sampling=replace(_DEMO.sampling, steps=2, hjb=BRIEF.sampling.hjb),
)


def _row(config: MagicConfig, faces: dict[str, Any], optimised: bool) -> MagicConfig:
    hjb = replace(config.sampling.hjb, enabled=optimised)
    return replace(config, faces=replace(config.faces, **faces), sampling=replace(config.sampling, hjb=hjb))


_NONE: dict[str, Any] = {"face_method": "none"}
_IP: dict[str, Any] = {"face_method": "ip_adapter", "face_encoder": False, "align": "add"}
_OURS: dict[str, Any] = {"face_method": "ours"}

ROWS = {
    "magic_ip": (_IP, False),  # FVD 836.33, CSIM .541
    "magic_opt": (_NONE, True),  # 381.61, .480
    "magic_ip_opt": (_IP, True),  # 754.34, .624
    "magic_fe_id": (_OURS, False),  # 376.43, .775
    "magic_fe_id_opt": (_OURS, True),  # 355.23, .798
}

MAGIC_VARIANTS: dict[str, MagicConfig] = {
    f"{base}-{row}": _row(config, *settings)
    for base, config in {"demo": _DEMO, "unwarped": _DEMO, "brief": _BRIEF, "paper": _PAPER}.items()
    for row, settings in ROWS.items()
}
