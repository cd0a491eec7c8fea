"""How clips are made: retarget, encode the reference once, denoise in windows with guidance, decode in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from models.animate_anyone.config import AnimateAnyoneConfig
from models.animate_anyone.network import AnimateAnyone, ReferenceCondition
from models.animate_anyone.stages import condition_of
from models.animator import Driving, Reference
from models.clip_dataset import Batch, to_signed
from models.clip_sampling import (
    ClipCondition,
    Sampling,
    decoded_pieces,
    generate_batch,
    generate_latents,
    posed_clip,
    still_of,
    with_poses,
)
from models.latents import LatentCodec
from models.windows import uniform_windows
from pipelines.clip import Frames


def animate(
    network: AnimateAnyone,
    codec: LatentCodec,
    config: AnimateAnyoneConfig,
    reference: Reference,
    driving: Driving,
    seed: int,
    advance: Callable[[], None] | None = None,
) -> Iterator[Frames]:
    """One clip in order, uint8 [<= 8, H, W, 3] at a time: only the latents' memory grows with its length. `advance` is called after every step."""
    still = ReferenceCondition(**still_of(network, codec, reference.image), reference_image=to_signed(reference.image[None]))
    condition = posed_clip(config, reference, driving, still, codec if network.additions.warp else None)
    yield from decoded_pieces(codec, animate_latents(network, condition, config.sampling, seed, advance))


def animate_latents(
    network: AnimateAnyone,
    condition: ClipCondition[ReferenceCondition],
    sampling: Sampling,
    seed: int,
    advance: Callable[[], None] | None = None,
) -> Tensor:
    """[F, C, h, w] latents of one clip."""
    # without temporal layers frames are independent, and windows only bound the memory
    windows = uniform_windows(condition.frames, sampling.window, sampling.overlap if network.temporal else 0)
    return generate_latents(network, condition, sampling, seed, advance=advance, windows_at=lambda _: windows)


def animate_batch(network: AnimateAnyone, codec: LatentCodec, batch: Batch, seed: int) -> Tensor:
    """[R, K, 3, H, W] in [-1, 1] for a training batch, for the periodic pictures."""
    sampling = network.config.sampling

    def make(one: ReferenceCondition) -> Tensor:
        return animate_latents(network, with_poses(one, one.pose), sampling, seed)

    return generate_batch(make, codec, condition_of(network, batch), batch)
