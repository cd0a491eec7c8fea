"""How clips are made: DDIM with the picture as the guided condition, windows of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from models.animator import Driving, Reference
from models.baselines.sd_2v.config import Sd2vConfig
from models.clip_dataset import Batch
from models.clip_sampling import decoded_pieces, generate_batch, generate_latents, posed_clip, still_of, with_poses
from models.finetuned_baseline import condition_of
from models.guidance import Condition
from models.latents import LatentCodec
from models.prompted_denoiser import PromptedDenoiser
from pipelines.clip import Frames


def pieces(
    network: PromptedDenoiser,
    codec: LatentCodec,
    config: Sd2vConfig,
    reference: Reference,
    driving: Driving,
    seed: int,
    advance: Callable[[], None] | None = None,
) -> Iterator[Frames]:
    """One clip in order, uint8 [<= 8, H, W, 3] at a time."""
    condition = posed_clip(config, reference, driving, Condition(**still_of(network, codec, reference.image)))
    yield from decoded_pieces(codec, generate_latents(network, condition, config.sampling, seed, advance=advance))


def animate_batch(config: Sd2vConfig, network: PromptedDenoiser, codec: LatentCodec, batch: Batch, seed: int) -> Tensor:
    """[R, K, 3, H, W] in [-1, 1] for a training batch, for the periodic pictures."""

    def make(one: Condition) -> Tensor:
        return generate_latents(network, with_poses(one, one.pose), config.sampling, seed)

    return generate_batch(make, codec, condition_of(network, batch), batch)
