"""How clips are made: DDIM with the picture as the guided condition, windows fused as HFCA fuses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor

from models.animator import Driving, Reference
from models.baselines.ipc.config import IpcConfig
from models.baselines.ipc.network import Ipc
from models.clip_dataset import Batch
from models.clip_sampling import ClipCondition, decoded_pieces, generate_batch, generate_latents, posed_clip, still_of, with_poses
from models.finetuned_baseline import condition_of
from models.guidance import Condition
from models.latents import LatentCodec
from models.windows import flat_weights, gaussian_weights
from pipelines.clip import Frames


def make_latents(network: Ipc, condition: ClipCondition[Condition], seed: int, advance: Callable[[], None] | None = None) -> Tensor:
    """[F, C, h, w] latents of one reference and F frames."""
    sampling = network.config.sampling
    weights = partial(gaussian_weights, sigma=sampling.sigma) if sampling.windows == "gaussian" else flat_weights
    return generate_latents(network, condition, sampling, seed, advance=advance, weights_of=weights)


def pieces(
    network: Ipc,
    codec: LatentCodec,
    config: IpcConfig,
    reference: Reference,
    driving: Driving,
    seed: int,
    advance: Callable[[], None] | None = None,
) -> Iterator[Frames]:
    """One clip in order, uint8 [<= 8, H, W, 3] at a time."""
    condition = posed_clip(config, reference, driving, Condition(**still_of(network, codec, reference.image)))
    yield from decoded_pieces(codec, make_latents(network, condition, seed, advance))


def animate_batch(network: Ipc, codec: LatentCodec, batch: Batch, seed: int) -> Tensor:
    """[R, K, 3, H, W] in [-1, 1] for a training batch, for the periodic pictures."""
    return generate_batch(lambda one: make_latents(network, with_poses(one, one.pose), seed), codec, condition_of(network, batch), batch)
