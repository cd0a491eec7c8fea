"""The variants: the paper's, the demo's, the tests', and one of each for every row of Tables 2 to 4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from models.demo_additions import DemoAdditions
from models.stable_animator.config import NetworkConfig, Sampling, StableAnimatorConfig, Stage1
from models.stable_animator.face_optimisation import PAPER_HJB, PUBLIC_HJB, Hjb
from models.training_loop import LoopConfig

# expects TikTok FVD 140.62, CSIM .831, SSIM .801, LPIPS .232 (Table 1)
PAPER = StableAnimatorConfig(sampling=Sampling(hjb=PAPER_HJB))

# The tiny family in the place of SVD: clips of 128 px at 24 frames per second, and what the ablations are held against. The reference is
# always there in what its UNet was trained on, so guidance is weak; noise above sigma 80 hides unit latents completely, and nothing was
# learnt there.
UNWARPED = StableAnimatorConfig(
    size=(128, 128),
    autoencoder="svd_vae_tiny",
    base_unet="svd_unet_tiny",
    image_encoder="clip_tiny",
    recogniser="face_recogniser_tiny",
    network=NetworkConfig(
        channels=(32, 64),
        layers=1,
        heads=(2, 4),
        token_dim=64,
        time_dim=32,
        face_dim=128,
        face_layers=2,
        face_heads=4,
        face_head_dim=16,
        pose_drawing="binary",  # a 128 px drawing is too dark for shades of confidence
        time_ids=(23.0, 127.0, 0.02),
    ),
    stage_1=Stage1(
        loop=LoopConfig(steps=300, learning_rate=1e-3, warmup_steps=30, decay="cosine"),
        sizes=((128, 128), (128, 96)),
        window=8,
        stride=1,
        trainable="all",  # [P]; two small levels
        drop_face_with_image=True,
        drop_pose=0.05,
        sample_posterior=False,
    ),
    sampling=Sampling(
        sampler="euler",
        churn=None,
        steps=12,
        sigma_max=80.0,
        guidance_scale=1.5,
        window=12,
        overlap=3,
        retarget="none",
        # the small decoder does not draw the first and last frames of a chunk as those between: with 4 at a time what stands still changes by 0.45 grey
        # levels a frame when true latents are decoded, with 12 by 0.33, with 36 by 0.27 (the truth, as it is compressed, by 0.09)
        decode_chunk=36,
        # at three of the twelve levels: a decoder pass with gradients costs as much as four of the UNet
        hjb=Hjb(steps=2, low=0.2, high=3.0, crop="aligned"),
    ),
)

# What learns most in minutes: AnimateAnyone's demo. A warped reference would show all ablations what only some may see.
DEMO = replace(
    UNWARPED,
    # latents differ from the warped reference's 1.5 times as much as those of the image autoencoder
    additions=DemoAdditions(residual=True, warp=True, residual_scale=0.5, skip_std=0.15),
    stage_1=replace(UNWARPED.stage_1, shared_noise=True),
    sampling=replace(UNWARPED.sampling, guidance_scale=1.0, noise="shared", noise_std=0.5),
)

# Half an hour instead of minutes: what the project ships a checkpoint of.
LONG = replace(
    DEMO,
    stage_1=replace(DEMO.stage_1, loop=LoopConfig(steps=800, learning_rate=1e-3, warmup_steps=50, decay="cosine", ema_decay=0.998)),
)

# A few steps from scratch behind the demo's image autoencoder, which decodes every frame by itself: no temporal decoder is needed.
# Shows that a data set trains, animates and scores; its pictures mean nothing.
BRIEF = replace(
    UNWARPED,
    autoencoder="autoencoder_tiny",
    base_unet=None,
    image_encoder=None,
    recogniser=None,
    stage_1=replace(
        UNWARPED.stage_1,
        loop=replace(UNWARPED.stage_1.loop, steps=6, warmup_steps=1, probes=6, pictures=1),
        window=4,
        sizes=((128, 128), (128, 96)),
    ),
    sampling=replace(UNWARPED.sampling, steps=2, decode_chunk=4, hjb=Hjb(steps=1, sigma_range="paper", crop="aligned", stop_cosine=None)),
)

Change = Callable[[StableAnimatorConfig], StableAnimatorConfig]


def _network(**changes: object) -> Change:
    return lambda config: replace(config, network=replace(config.network, **changes))  # type: ignore[arg-type]


def _no_hjb(config: StableAnimatorConfig) -> StableAnimatorConfig:
    return replace(config, sampling=replace(config.sampling, hjb=replace(config.sampling.hjb, enabled=False)))


def _no_mask(config: StableAnimatorConfig) -> StableAnimatorConfig:
    return replace(config, stage_1=replace(config.stage_1, face_mask=False))


def _no_face(config: StableAnimatorConfig) -> StableAnimatorConfig:
    """ "w/o Face" of Table 3: no face-related strategy at all."""
    return _no_mask(_no_hjb(_network(face_method="none")(config)))


def _ip_adapter(config: StableAnimatorConfig) -> StableAnimatorConfig:
    """IP-Adapter of Table 3 in the place of face encoder, alignment, mask and optimisation."""
    return _no_mask(_no_hjb(_network(face_method="ip_adapter", face_encoder=False, align="add")(config)))


def _in_place_of(own: Hjb, preset: Hjb) -> Hjb:
    """The preset's schedule, with the crop that the variant's recogniser was trained on."""
    return replace(preset, enabled=own.enabled, crop=own.crop, checkpointing=own.checkpointing)


def _public(config: StableAnimatorConfig) -> StableAnimatorConfig:
    """The released code's sampler and schedule of the face optimisation."""
    hjb = _in_place_of(config.sampling.hjb, PUBLIC_HJB)
    return replace(config, sampling=replace(config.sampling, sampler="euler", churn=None, hjb=hjb))


def _stochastic(config: StableAnimatorConfig) -> StableAnimatorConfig:
    """Algorithm 1 as it is printed."""
    hjb = _in_place_of(config.sampling.hjb, PAPER_HJB)
    return replace(config, sampling=replace(config.sampling, sampler="heun", churn=Sampling().churn, hjb=hjb))


SWITCHES: dict[str, Change] = {
    "no_face_mask": _no_mask,  # Table 2, FVD 382.25
    "no_face_encoder": _network(face_encoder=False),  # Table 2, FVD 385.91
    "no_hjb": _no_hjb,  # Table 2, "w/o Optimization", FVD 365.43; trained like its base
    "align_add": _network(align="add"),  # Table 2, "w/o Alignment", and Table 4, FVD 412.52
    "align_norm": _network(align="norm"),  # Table 4, FVD 382.49
    "no_face": _no_face,  # Table 3, FVD 371.38
    "ip_adapter": _ip_adapter,  # Table 3, FVD 484.77
    "public_schedule": _public,
    "algorithm_1": _stochastic,
}

_BASES = {"demo": DEMO, "unwarped": UNWARPED, "brief": BRIEF, "paper": PAPER}

VARIANTS: dict[str, StableAnimatorConfig] = {
    **_BASES,
    "long": LONG,
    **{f"{name}-{switch}": change(config) for name, config in _BASES.items() for switch, change in SWITCHES.items()},
}
