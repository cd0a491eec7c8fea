"""Sizes, steps and rates; each number says where it comes from ([P] paper, [D] our default: the paper names few)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from models import clip_sampling
from models.autoencoders import DEMO_CHANNELS
from models.demo_additions import DemoAdditions
from models.identity_loss import L2On
from models.loop_config import paper_loop
from models.noise import NoiseConfig
from models.pose_guider import Variant
from models.stage_config import PairStage, StagedConfig, WindowStage, check_windows
from models.training_loop import LoopConfig
from models.unet_shape import UnetShape

Region = Literal["clothing", "person", "full"]
ActionSource = Literal["auto", "driving", "prototype", "null"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PoseNet:
    """The pose maps and the network that reads them. The paper extracts both kinds; its Eq. 7 calls p a tensor of key points ([D]: both)."""

    channels: Literal["skeleton", "densepose", "both"] = "both"
    widths: tuple[int, ...] = (16, 32, 96, 256)  # [D] AnimateAnyone's pose guider, as ControlNet's embedding
    variant: Variant = "controlnet"  # [D]

    @property
    def in_channels(self) -> int:
        """Of a pose map."""
        return 6 if self.channels == "both" else 3


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityPreservation:
    """IPM (Sec. 3.1): L = L_diffusion + face L_face + style L_style. The paper gives neither the weights nor where the images come from."""

    enabled: bool = True  # off: Table 3
    face: float = 0.1  # [D] weight of Eq. 1; 0 = none
    style: float = 0.1  # [D] weight of Eq. 3; 0 = none
    l2_weight: float = 1e-3  # [D] lambda of Eq. 1, for raw embeddings; .1 with l2_on="unit"
    l2_on: L2On = "raw"  # [D]
    region: Region = "clothing"  # [P] "clothing attributes"; [D] the body without face and hands
    t_max: int = 250  # [D] a one-step x0 is too blurred above
    least_face_px: float = 48.0  # [D] side of a face that the recogniser can judge
    crop_margin: int = 4  # [D] latent pixels around the decoded crops
    body_px: int = 256  # [D] longest side at which the body is compared
    gradient_share: float = 0.2  # [D] each loss pulls at the prediction with at most this share of the diffusion loss's gradient there
    recogniser: str | None = "face_recogniser"  # role of its weights (glintr100); None = a fixed random stand-in
    perceptual: str | None = "vgg19"  # role of its weights; None = a fixed random stand-in


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainAdaptation:
    """DSAO (Sec. 3.2)."""

    enabled: bool = True  # off: Table 4
    cloth: bool = True  # clothing prototypes, Eq. 4
    action: bool = True  # action cross-attention, Eq. 5
    assign: Literal["soft", "hard"] = "soft"  # [D] mixture over the twelve categories, or the likeliest one
    categories: int = 12  # [P]
    motion_tokens: int = 256  # [P] the sum of Eq. 5
    token_channels: int = 512  # C3D conv5b
    heads: int = 8  # [D] the formula has one

    @property
    def clothes(self) -> bool:
        """Whether there are clothing prototypes."""
        return self.enabled and self.cloth

    @property
    def actions(self) -> bool:
        """Whether there is an action attention."""
        return self.enabled and self.action


@dataclass(frozen=True, kw_only=True, slots=True)
class TemporalLayers:
    """The temporal layers behind the downsampling blocks (Sec. 3.3). Their heads and longest window are those of the network's shape."""

    pre_norm: bool = True  # [D] the formula has no normalisation
    update_skip: bool = True  # [D] the skip connection takes the layer's result, too


@dataclass(frozen=True, kw_only=True, slots=True)
class HandDetail:
    """Hand-detail enhancement (Sec. 3.3, Eq. 6). The paper gives the form of the kernel and no number: all are [D]."""

    apply_to: Literal["frames", "pose", "both", "none"] = "frames"  # the paper leaves open which
    threshold: float = 0.15  # tau_d, in diagonals of the hand's box
    radius: float = 0.25  # k_r: of the disk, in distances of the finger tips
    width: float = 0.08  # k_w: of the line, in distances of the finger tips
    line_axis: Literal["gap", "tips"] = "gap"  # "tips": as the formula is written, across the gap
    strength: float = 0.6  # beta: how much of the result is blended in
    least_score: float = 0.3  # mean of the hand's key points
    least_px: float = 32.0  # shorter side of the hand's box
    fist: float = 0.25  # a hand whose tips are all this near to the palm (in diagonals) is left alone
    working_px: int = 128  # shorter side at which a smaller hand is worked on
    least_contrast: float = 4.0  # grey levels between fingers and gap


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling(clip_sampling.Sampling):
    """DDIM, eta 0. The paper names no sampler ([D])."""

    steps: int = 25  # [D]
    guidance_scale: float = 3.5  # [D] AnimateAnyone's public reproduction
    window: int = 24  # [P]
    overlap: int = 4  # [P]
    sigma: float = 4.0  # [D] frames; the paper's Gaussian weights have no width
    fusion: Literal["pixel", "eps"] = "pixel"  # [P] generated frames are fused; "eps": predictions, at every step
    action_source: ActionSource = "auto"  # [D] driving video, else the nearest class's prototype, else the null tokens
    hand: HandDetail = field(default_factory=HandDetail)


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainStage(PairStage):
    """Stage 1b: adaptation to another data set, mixed 1:1 with the character videos ([D], so that its small frames blur nothing)."""

    dataset: str | None = "ucf101"  # [P]; None = the clips at hand, when there is no other data set
    samples: int = 3200  # [P] at most so many of its clips


@dataclass(frozen=True, kw_only=True, slots=True)
class HfcaConfig(StagedConfig):
    """One variant of the method."""

    size: tuple[int, int] = (640, 640)  # height, width [P]
    autoencoder: str = "stabilityai/sd-vae-ft-mse"
    base_unet: str | None = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # [P]; None = from scratch
    image_encoder: str | None = "lambdalabs/sd-image-variations-diffusers"  # CLIP [P]; None = the pooled stand-in
    shape: UnetShape = field(default_factory=UnetShape)
    additions: DemoAdditions = field(default_factory=DemoAdditions)
    noise: NoiseConfig = field(
        default_factory=lambda: NoiseConfig(objective="epsilon", zero_terminal_snr=False, min_snr_gamma=None, noise_offset=0.0)
    )  # Eq. 7 [P]; scaled linear [D]
    pose: PoseNet = field(default_factory=PoseNet)
    ipm: IdentityPreservation = field(default_factory=IdentityPreservation)
    dsao: DomainAdaptation = field(default_factory=DomainAdaptation)
    stode: Literal["off", "temporal_only", "full"] = "full"  # Table 5: frames alone; temporal layers; those, context fusion and hands
    temporal: TemporalLayers = field(default_factory=TemporalLayers)
    stage_1: PairStage = field(
        default_factory=lambda: PairStage(loop=paper_loop(30_000, accumulation=4), references=16, flip=0.5)
    )  # [D] as AnimateAnyone
    stage_1b: DomainStage = field(default_factory=lambda: DomainStage(loop=paper_loop(5_000), references=16, flip=0.5))  # [D]
    stage_2: WindowStage = field(default_factory=lambda: WindowStage(loop=paper_loop(10_000), flip=0.5))  # K = 24 [P], the rest [D]
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        self.additions.check(self.noise.objective)
        if self.shape.channels[0] % self.dsao.heads:
            raise ValueError(f"dsao.heads={self.dsao.heads} does not divide the {self.shape.channels[0]} channels of the pose features")
        longest = self.shape.motion_frames
        check_windows("the temporal layers' motion_frames", longest, stage_2=self.stage_2.window, sampling=self.sampling.window)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that this variant trains, first to last."""
        adapts = self.dsao.clothes or self.dsao.actions
        return ("stage_1", *(("stage_1b",) if adapts else ()), *(() if self.stode == "off" else ("stage_2",)))

    @property
    def scheduled(self) -> Sampling:
        """How clips are made: without context fusion and hand enhancement unless `stode` is full."""
        if self.stode == "full":
            return self.sampling
        return replace(self.sampling, overlap=0, hand=replace(self.sampling.hand, apply_to="none"))


PAPER = HfcaConfig()  # expects TikTok PSNR 30.27, SSIM .763, LPIPS .187, FID 43.12, FID-VID 39.57, FVD 168.27 (Table 1)

_LOOP = LoopConfig(steps=120, learning_rate=2e-3, warmup_steps=10, decay="cosine", probes=5, pictures=1)

# The tiny family in the place of the published weights. It predicts v: so does this variant. Faces and hands of its 128 px are smaller
# than what the paper's sizes judge, so the least sizes are, too.
DEMO = HfcaConfig(
    size=(128, 128),
    autoencoder="demo",
    base_unet="demo",
    image_encoder=None,
    shape=UnetShape(channels=(48, 88), layers=1, heads=4, token_dim=96, norm_groups=8, latent_channels=DEMO_CHANNELS, motion_heads=4, motion_frames=32),
    additions=DemoAdditions(hint=True, residual=True, warp=True, residual_scale=0.33, skip_std=0.15),  # AnimateAnyone's demo
    noise=NoiseConfig(),
    pose=PoseNet(widths=(8, 16, 32, 48)),
    ipm=IdentityPreservation(least_face_px=8.0, recogniser="face_recogniser_tiny", perceptual="vgg_tiny"),
    dsao=DomainAdaptation(token_channels=64, heads=4),
    stage_1=PairStage(loop=_LOOP, references=4, targets=2, augment=False, distance=8),
    stage_1b=DomainStage(
        loop=replace(_LOOP, steps=30, learning_rate=1e-3), references=4, targets=1, augment=False, distance=8, dataset="performers_actions"
    ),
    stage_2=WindowStage(loop=replace(_LOOP, steps=40, warmup_steps=5), batch=1, window=12, stride=1, augment=False, shared_noise=True),
    sampling=Sampling(
        steps=10, guidance_scale=1.2, window=12, overlap=4, sigma=2.0, retarget="none", shared_noise=True, noise_std=0.5, fusion="eps",
        hand=HandDetail(least_px=12.0),
    ),
)  # fmt: skip

# What the ablations are held against: a warped reference shows all of them what only some may see.
UNWARPED = replace(DEMO, additions=replace(DEMO.additions, warp=False, residual_scale=0.55), sampling=replace(DEMO.sampling, noise_std=1.0))

# Half an hour instead of minutes: what the project ships a checkpoint of. Rates and averages are AnimateAnyone's.
LONG = replace(
    DEMO,
    sampling=replace(DEMO.sampling, noise_std=0.7),
    stage_1=replace(DEMO.stage_1, loop=LoopConfig(steps=800, learning_rate=1e-3, warmup_steps=50, decay="cosine", ema_decay=0.998)),
    stage_1b=replace(DEMO.stage_1b, loop=LoopConfig(steps=120, learning_rate=5e-4, warmup_steps=10, decay="cosine", ema_decay=0.98)),
    stage_2=replace(DEMO.stage_2, loop=LoopConfig(steps=240, learning_rate=1e-3, warmup_steps=10, decay="cosine", ema_decay=0.98)),
)

# A few steps from scratch: shows that a data set trains, animates and scores; its pictures mean nothing. Recogniser and style network
# are fixed random stand-ins, and the data set adapts to itself.
BRIEF = replace(
    UNWARPED,
    base_unet=None,
    ipm=replace(DEMO.ipm, recogniser=None, perceptual=None),
    stage_1=replace(DEMO.stage_1, references=2, targets=1, loop=replace(_LOOP, steps=10, warmup_steps=1, probes=6, pictures=1)),
    stage_1b=replace(DEMO.stage_1b, references=2, loop=replace(_LOOP, steps=4, warmup_steps=1, probes=2, pictures=1), dataset=None),
    stage_2=replace(DEMO.stage_2, loop=replace(_LOOP, steps=4, warmup_steps=1, probes=2, pictures=1)),
    sampling=replace(DEMO.sampling, steps=4),
)

Change = Callable[[HfcaConfig], HfcaConfig]


def _ipm(**changes: Any) -> Change:
    return lambda config: replace(config, ipm=replace(config.ipm, **changes))


def _dsao(**changes: Any) -> Change:
    return lambda config: replace(config, dsao=replace(config.dsao, **changes))


def _pose(channels: Any) -> Change:
    return lambda config: replace(config, pose=replace(config.pose, channels=channels))


def _temporal(**changes: Any) -> Change:
    return lambda config: replace(config, temporal=replace(config.temporal, **changes))


def _sampled(**changes: Any) -> Change:
    return lambda config: replace(config, sampling=replace(config.sampling, **changes))


def _hand(**changes: Any) -> Change:
    return lambda config: replace(config, sampling=replace(config.sampling, hand=replace(config.sampling.hand, **changes)))


def _other_fusion(config: HfcaConfig) -> HfcaConfig:
    return replace(config, sampling=replace(config.sampling, fusion="eps" if config.sampling.fusion == "pixel" else "pixel"))


ABLATIONS: dict[str, Change] = {
    "no_ipm": _ipm(enabled=False),  # Table 3
    "no_face_loss": _ipm(face=0.0),
    "no_style_loss": _ipm(style=0.0),
    "unit_l2": _ipm(l2_on="unit", l2_weight=0.1),
    "style_person": _ipm(region="person"),
    "style_full": _ipm(region="full"),
    "no_dsao": _dsao(enabled=False),  # Table 4
    "no_cloth": _dsao(cloth=False),
    "no_action": _dsao(action=False),
    "hard_cloth": _dsao(assign="hard"),
    "no_stode": lambda config: replace(config, stode="off"),  # Table 5, row 1
    "temporal_only": lambda config: replace(config, stode="temporal_only"),  # Table 5, row 2
    "no_context": _sampled(overlap=0),
    "other_fusion": _other_fusion,  # eps where the base fuses pixels, pixels where it fuses eps
    "no_hand": _hand(apply_to="none"),
    "hand_on_pose": _hand(apply_to="pose"),
    "hand_on_both": _hand(apply_to="both"),
    "hand_line_of_tips": _hand(line_axis="tips"),
    "literal_temporal": _temporal(pre_norm=False),
    "no_skip_update": _temporal(update_skip=False),
    "skeleton_only": _pose("skeleton"),
    "densepose_only": _pose("densepose"),
}

_BASES = {"demo": DEMO, "unwarped": UNWARPED, "brief": BRIEF, "paper": PAPER}

VARIANTS: dict[str, HfcaConfig] = {
    **_BASES,
    "long": LONG,
    **{f"{base}-{switch}": change(config) for base, config in _BASES.items() for switch, change in ABLATIONS.items()},
}
