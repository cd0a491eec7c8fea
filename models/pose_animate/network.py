"""What runs: Stable Diffusion under the OpenPose ControlNet, whose attention processors are plain until sampling sets them going."""

# N = rows (frames), C h w = latent channels, height, width, S T = tokens of a prompt and their width

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from models.controlled_unet import ControlledUnet, load_base
from models.ddim import DdimSchedule
from models.gradient_checkpointing import checkpoint_gradients
from models.on_device import device_at_hand
from models.pose_animate.config import PoseAnimateConfig
from models.pose_animate.dual_consistency import DualConsistency, use_dual_consistency
from models.pose_animate.mask_decoupling import CharacterMaps, record_maps
from models.text_tokens import TextTokens


class PoseAnimate(ControlledUnet):
    """Frozen: only embeddings are ever optimised. `consistency` and `maps` are the switches of its attention processors."""

    def __init__(self, config: PoseAnimateConfig, unet: object, controlnet: object, text: TextTokens) -> None:
        super().__init__(unet, controlnet, DdimSchedule.of(config.noise, config.sampling.steps))
        self.config, self.text = config, text
        self.consistency = DualConsistency(config.dcam.weights, config.mgdm.mask)
        self.maps = CharacterMaps()
        use_dual_consistency(unet, self.consistency)
        record_maps(unet, self.maps, config.mgdm.map_scale)
        if config.checkpointing:
            checkpoint_gradients(self.unet, self.controlnet)

    def step(self, latents: Tensor, noise: Tensor, level: int) -> Tensor:
        """Latents of `level` one level down."""
        return self.schedule.move(latents, noise, level, level - 1)


@lru_cache(maxsize=1)
def network_of(config: PoseAnimateConfig) -> PoseAnimate:
    """The networks of a variant, loaded once per process: what the workers of a pool hold on to between frames.

    Raises MissingWeightsError, and UserError where weights do not fit.
    """
    return PoseAnimate(config, *load_base(config.networks)).to(device_at_hand())
