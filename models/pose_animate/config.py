"""Settings; each number says where it comes from ([P] paper, [R] null-text inversion's public code, [D] our default)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from models.controlled_unet import FRESH, TINY_FAMILY, BaseNetworks
from models.ddim import STABLE_DIFFUSION
from models.noise import NoiseConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Pata:
    """Pose Alignment Transition Algorithm. Off: the desired poses as they are, and no transition."""

    enabled: bool = True
    interp: Literal["linear", "angle"] = "linear"  # [D] "angle" keeps limbs from shrinking as they turn
    transitions: int | None = None  # None: as many as the largest joint displacement asks for, 2 … 8 [D]
    displacement_share: float = 0.06  # of the picture's height, per transition pose [D]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pacm:
    """Pose-Aware Control Module. Off: the prompt's embedding, from the inverted latent."""

    enabled: bool = True
    optimize: Literal["cond", "uncond"] = "cond"  # Sec. 3.2 says conditional, Fig. 2 unconditional
    inner_steps: int = 5  # Adam steps of Eq. 6 at each level [P]
    embed_steps: int = 1  # updates of Alg. 1 at each level [P]; more drag the pose back to the source's
    learning_rate: float = 1e-2  # falls to half over the levels [R]
    early_stop: float | None = 1e-5  # Eq. 6 at the noisiest level [R]; None = never
    early_stop_slope: float = 2e-5  # more for each level after it [R]
    freeze_padding: bool = False  # start token and padding stay as they are, so that cross-attention keeps its words [D]

    def __post_init__(self) -> None:
        if self.freeze_padding and self.optimize == "uncond":
            raise ValueError("freeze_padding leaves nothing of the empty prompt to optimise; use optimize='cond'")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dcam:
    """Dual Consistency Attention in the up blocks. Off: self-attention."""

    enabled: bool = True
    weights: tuple[float, float, float] = (0.7, 0.15, 0.15)  # frame 0, the frame before, the frame itself [P]

    def __post_init__(self) -> None:
        if abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights={self.weights} must sum to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mgdm:
    """Mask-Guided Decoupling Module. Off: attention over all places. It has no effect without dcam."""

    enabled: bool = True
    mask: Literal["neg_inf", "zero"] = "neg_inf"  # what masked keys get: no attention [D], or Eq. 9 as printed
    bootstrap: Literal["pose_hull", "off"] = "pose_hull"  # [D]
    bootstrap_share: float = 0.2  # of the levels [D]
    areas: tuple[float, float] = (0.02, 0.9)  # of the picture; a mask outside of it is the pose's hull [D]
    dilation: float = 0.08  # of the hull's longer side [D]
    threshold: float = 0.3  # of a map over its maximum [R] LocalBlend
    map_scale: int = 4  # latent pixels per pixel of the maps: 16x16 of 64x64 [R]
    without_mask: Literal["error", "pose_hull"] = "error"  # what stands in for a reference without a body mask


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """DDIM, eta 0. `frames` are denoised at a time, besides the source."""

    steps: int = 50  # [P]
    guidance_scale: float = 7.5  # [P]
    frames: int = 16  # [P]

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ValueError(f"frames={self.frames} must be at least 2")


@dataclass(frozen=True, kw_only=True, slots=True)
class PoseAnimateConfig:
    """One variant of the method."""

    size: tuple[int, int] = (512, 512)  # height, width [P]
    autoencoder: str = "stabilityai/sd-vae-ft-mse"
    networks: BaseNetworks = field(default_factory=BaseNetworks)  # Stable Diffusion 1.5 and the OpenPose ControlNet [P]
    noise: NoiseConfig = STABLE_DIFFUSION
    prompt: str = ""  # where the reference has no caption
    character: str = ""  # where the caption names nobody: the word of the prompt for the person
    checkpointing: bool = True  # activations are computed again for gradients
    pata: Pata = field(default_factory=Pata)
    pacm: Pacm = field(default_factory=Pacm)
    dcam: Dcam = field(default_factory=Dcam)
    mgdm: Mgdm = field(default_factory=Mgdm)
    sampling: Sampling = field(default_factory=Sampling)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for manifests and digests."""
        return asdict(self)


# In the wild: LPIPS .247, CLIP-I .948, FC 97.33, WE .0384 (Table 1). TikTok FVD 286.33, TED 168.02 (Table 2).
PAPER = PoseAnimateConfig()

# The tiny family in Stable Diffusion's place. Its base predicts v. By the cost model a clip of 24 frames takes 40 s of one core: an evaluation
# 0.03 s, with its gradient 0.06 s.
DEMO = PoseAnimateConfig(
    size=(128, 128),
    autoencoder="demo",
    networks=TINY_FAMILY,
    noise=NoiseConfig(),
    checkpointing=False,
    mgdm=Mgdm(map_scale=1),
    sampling=Sampling(steps=10, guidance_scale=2.0),
)

# Fresh networks and two levels: shows that poses, embeddings, masks and frames find each other; its pictures mean nothing.
BRIEF = replace(
    DEMO,
    networks=FRESH,
    prompt="a person",
    character="person",
    pacm=Pacm(inner_steps=1),
    mgdm=Mgdm(map_scale=1, without_mask="pose_hull"),
    sampling=Sampling(steps=2, guidance_scale=2.0, frames=8),
)


def ablations(base: PoseAnimateConfig) -> dict[str, PoseAnimateConfig]:
    """Figure 5's modules off one at a time, and the paper's other readings, by the switch's name."""
    return {
        "no_pata": replace(base, pata=replace(base.pata, enabled=False)),
        "no_pacm": replace(base, pacm=replace(base.pacm, enabled=False)),
        "no_dcam": replace(base, dcam=replace(base.dcam, enabled=False)),
        "no_mgdm": replace(base, mgdm=replace(base.mgdm, enabled=False)),
        "angle": replace(base, pata=replace(base.pata, interp="angle")),
        "uncond": replace(base, pacm=replace(base.pacm, optimize="uncond")),
        "zero_mask": replace(base, mgdm=replace(base.mgdm, mask="zero")),
    }


BASES: dict[str, PoseAnimateConfig] = {"demo": DEMO, "brief": BRIEF, "paper": PAPER}
VARIANTS: dict[str, PoseAnimateConfig] = {
    **BASES,
    **{f"{name}-{switch}": config for name, base in BASES.items() for switch, config in ablations(base).items()},
}
