"""Sizes, steps and rates; each number says where it comes from ([P] paper, [R] released code, [D] our default)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from models.demo_additions import DemoAdditions
from models.stable_animator.edm import SigmaConfig
from models.stable_animator.face_optimisation import Hjb
from models.stable_animator.id_adapter import Align, StatDims
from models.stable_animator.sampler import Churn
from models.stage_config import StagedConfig
from models.training_loop import LoopConfig
from pipelines.retarget import Retarget

FaceMethod = Literal["none", "ip_adapter", "ours"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """Shape of the UNet where it is not loaded, and of what is added to it."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)  # SVD
    layers: int = 2  # SVD
    heads: tuple[int, ...] = (5, 10, 20, 20)  # SVD
    token_dim: int = 1024  # CLIP ViT-H image embedding
    time_dim: int = 256  # SVD, of each of its three micro-conditions
    pose_widths: tuple[int, ...] = (16, 32, 64, 128)  # [R]
    pose_drawing: Literal["binary", "confidence"] = "confidence"  # [R] colours times scores
    face_dim: int = 512  # numbers of the recogniser (ArcFace R100)
    face_tokens: int = 4  # [R]
    face_layers: int = 4  # [R]
    face_heads: int = 16  # [R]
    face_head_dim: int = 64  # [R]
    face_method: FaceMethod = "ours"  # Table 3; a face swapper's clips come in as predictions
    face_encoder: bool = True  # Table 2; off: the projected embedding goes straight to the adapter
    zero_init: Literal["linear", "post_norm_gain"] = "linear"  # [R]; the other one spares the last layer a gradient 300 times as large
    align: Align = "adain"  # Eq. 2; Table 4: "add", "norm"
    stat_dims: StatDims = "token_channel"  # [R]; the paper leaves the axes open
    zero_face_passthrough: bool = True  # [D]
    time_ids: tuple[float, float, float] = (
        6.0,
        127.0,
        0.02,
    )  # [R] frames per second less one, motion bucket, deviation of the reference's noise


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage1:
    """The one stage: clips at two sizes. 20 epochs over 3,000 videos on 4 A100, one clip each (Sec. 4.1)."""

    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            steps=15_000,
            learning_rate=1e-5,
            warmup_steps=500,
            accumulation=4,
            ema_decay=None,
            precision="bfloat16",
            gradient_checkpointing=True,
        )
    )  # [P]; warm-up [R]; clipping, precision [D]
    sizes: tuple[tuple[int, int], ...] = ((512, 512), (1024, 576))  # height, width [R]; one is drawn for each micro-step
    batch: int = 1  # clips per micro-batch [P]
    window: int = 16  # frames [R]
    stride: int = 4  # [R]
    augment: bool = False  # [D]
    flip: float = 0.0  # probability of mirroring picture, pose and signals [D]; a face has two sides
    trainable: Literal["attentions", "all"] = "attentions"  # [R]; the paper trains the whole UNet
    face_mask: bool = True  # Table 2
    mask_power: Literal[1, 2] = 1  # [R]; 2 is Eq. 13 read literally
    no_face: Literal["zeros", "ones"] = "zeros"  # [D]; [R] ones
    drop_probability: float = 0.1  # p of the image token and of the reference latent, each in 2 p of the samples, both in p [R]
    drop_face_with_image: bool = False  # [D] addition: the face tokens go where the image token goes
    drop_pose: float = 0.0  # [D] addition
    sample_posterior: bool = True  # of the reference latent [R]; sampling takes the mode
    shared_noise: bool = False  # [D] addition: all frames of a clip have the same noise

    def __post_init__(self) -> None:
        if not 0 <= self.drop_probability <= 1 / 3:
            raise ValueError(f"drop_probability={self.drop_probability} must be in 0..1/3: the image token and the reference share 3 p")
        if not self.sizes:
            raise ValueError("sizes is empty; give at least one (height, width)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Algorithm 1 over anchored windows."""

    sampler: Literal["heun", "euler"] = "heun"  # [P]; [R] euler
    churn: Churn | None = field(default_factory=Churn)  # [P] "pre-defined values of EDM"; None: no noise is added, as [R]
    steps: int = 25  # [R]
    sigma_min: float = 0.002  # SVD
    sigma_max: float = 700.0  # SVD
    guidance_scale: float = 3.0  # [R], the same for every frame
    window: int = 16  # [R]
    overlap: int = 4  # [R]
    anchor_reference_pose: bool = True  # [D], as MimicMotion
    noise: Literal["tile", "independent", "shared"] = "tile"  # [R] one window's noise, repeated; shared [D]: one frame's
    noise_std: float = 1.0  # [D] of the initial noise, in units of sigma_max (clip_sampling.Sampling)
    retarget: Retarget = "linear"  # [R]
    decode_chunk: int = 4  # frames that the decoder sees together [R]
    hjb: Hjb = field(default_factory=Hjb)

    def __post_init__(self) -> None:
        if not 1 <= self.overlap < self.window:
            raise ValueError(f"overlap={self.overlap} must be at least 1 (the anchor) and smaller than window={self.window}")


@dataclass(frozen=True, kw_only=True, slots=True)
class StableAnimatorConfig(StagedConfig):
    """One variant. Networks are named by their roles in pipelines/weights_table.py."""

    size: tuple[int, int] = (1024, 576)  # height, width of what it makes [P]
    autoencoder: str = "svd_vae"
    base_unet: str | None = "svd_unet"  # None = from scratch
    image_encoder: str | None = "svd_image_encoder"  # None = a fixed projection of the pooled image
    recogniser: str | None = "face_recogniser"  # what faces are optimised by (glintr100); None = a small one of fixed random weights
    network: NetworkConfig = field(default_factory=NetworkConfig)
    additions: DemoAdditions = field(default_factory=DemoAdditions)
    sigmas: SigmaConfig = field(default_factory=SigmaConfig)
    stage_1: Stage1 = field(default_factory=Stage1)
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        self.additions.check("v")  # F of EDM's preconditioning is v
        if self.additions.hint:
            raise ValueError("the reference latent stands beside the noisy ones as it is; use additions.hint=False")
