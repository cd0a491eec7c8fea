"""The method protocol for HFCA."""

from __future__ import annotations

from models.checkpoint import WEIGHTS
from models.diffusion_method import SHARED_SAMPLING_CODE, SHARED_TRAINING_CODE, DiffusionMethod
from models.hfca.config import VARIANTS, HfcaConfig
from models.hfca.network import load_network
from models.hfca.sampling import animate
from models.hfca.stages import NEEDS, additions_of, companions, stage_config, stages_of, train_stage, weight_files
from models.pretrained_networks import base_unet_folder
from models.shipped_checkpoint import Bases


class HfcaMethod(DiffusionMethod):
    """With a stage that is trained on clips of a second data set, too."""

    def companions(self, variant: str, stage: str) -> tuple[str, ...]:
        """Data sets whose training clips `train` wants behind those of the data set itself."""
        return companions(self.chosen(variant), stage)


def _files(*names: str) -> tuple[str, ...]:
    return tuple(f"models/{name}.py" for name in names)


_NETWORK = _files(
    "hfca/network", "hfca/clothing_prototypes", "hfca/action_attention", "hfca/pose_descriptor", "hfca/pose_maps", "downsampling_temporal",
    "reference_attention", "pose_guider", "image_tokens", "stem", "unet_shape", "densepose_image",
)  # fmt: skip
_LOSSES = _files("hfca/identity_preservation", "hfca/judges", "identity_loss", "style_loss", "region_loss", "face_warp", "lean_decoding")


def bases(config: HfcaConfig) -> Bases:
    """Both UNets began from the base."""
    unet = [base_unet_folder("demo") / WEIGHTS] if config.base_unet == "demo" else []
    return {"denoising_unet": unet, "reference_net": unet}


HFCA = HfcaMethod(
    name="hfca",
    variants=VARIANTS,
    default_variant="demo",
    needs=NEEDS,
    stages_in=stages_of,
    shaping=stage_config,
    train_stage=train_stage,
    load_network=load_network,
    pieces=animate,
    additions=additions_of,
    weight_files=weight_files,
    bases=bases,
    shipped_from="long",
    sampling_code=(*_files("hfca/sampling", "hfca/hand_gaps", "hfca/hand_morphology"), *_NETWORK, *SHARED_SAMPLING_CODE),
    training_code=(*_files("hfca/stages"), *_LOSSES, *_NETWORK, *SHARED_TRAINING_CODE),
)
