"""The method protocol for PoseAnimate: no stage, no checkpoint."""

from __future__ import annotations

from models.pose_animate.config import VARIANTS
from models.pose_animate.sampling import animate
from models.training_free_method import TrainingFreeMethod

_FILES = ("sampling", "network", "pose_alignment", "inversion", "frame_embedding", "dual_consistency", "mask_decoupling")

POSE_ANIMATE = TrainingFreeMethod(
    name="pose_animate",
    variants=VARIANTS,
    default_variant="demo",
    needs=("caption", "body_mask"),
    pieces=animate,
    weight_files=lambda config: config.networks.folders(),
    sampling_code=(
        *(f"models/pose_animate/{name}.py" for name in _FILES),
        *(
            f"models/{name}.py"
            for name in ("controlled_unet", "ddim", "frame_passes", "text_tokens", "pose_controlnet", "guidance", "noise", "latents")
        ),
        "pipelines/keypoints.py",
    ),
)
