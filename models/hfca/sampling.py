"""How clips are made (Sec. 3.3): context windows of 24 frames, Gaussian fusion of what they share, and hands enhanced last."""

# F = frames of the clip, W = windows, S = frames of a window

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.animator import Driving, Reference
from models.clip_dataset import Batch, to_frames
from models.clip_sampling import (
    ClipCondition,
    decoded_pieces,
    followed,
    generate_batch,
    generate_latents,
    initial_noise,
    still_of,
    warped_latents,
    with_poses,
)
from models.hfca.config import ActionSource, HandDetail, HfcaConfig, Sampling
from models.hfca.hand_morphology import enhance_hands
from models.hfca.network import Hfca, HfcaCondition
from models.hfca.pose_maps import ClipPoseMaps
from models.hfca.stages import condition_of
from models.latents import LatentCodec
from models.windows import Windows, gaussian_weights, uniform_windows
from pipelines.clip import Frames
from pipelines.errors import UserError

Advance = Callable[[], None] | None


def animate(
    network: Hfca, codec: LatentCodec, config: HfcaConfig, reference: Reference, driving: Driving, seed: int, advance: Advance = None
) -> Iterator[Frames]:
    """One clip in order, uint8 [n, H, W, 3] at a time. `advance` is called `sampling.steps` times."""
    sampling = config.scheduled
    moved = followed(sampling.retarget, reference, driving)
    condition = clip_condition(network, codec, config, reference, driving, moved)
    yield from with_hands(_pieces(network, codec, condition, sampling, seed, advance), moved, sampling.hand)


def _pieces(
    network: Hfca, codec: LatentCodec, condition: ClipCondition[Any], sampling: Sampling, seed: int, advance: Advance
) -> Iterator[Frames]:
    """The clip before its hands are enhanced."""
    if network.temporal and sampling.fusion == "pixel":
        return (to_frames(part) for part in fused_frames(network, codec, condition, sampling, seed, advance))
    return decoded_pieces(codec, fused_latents(network, condition, sampling, seed, advance))


def clip_condition(
    network: Hfca, codec: LatentCodec, config: HfcaConfig, reference: Reference, driving: Driving, moved: Driving
) -> ClipCondition[HfcaCondition]:
    """The condition of a clip. moved: the driving motion on the reference's skeleton. Raises UserError for a signal that is missing."""
    parts, sampling = network.made_of, config.scheduled
    if parts.clothing_prototypes is not None and reference.signals.clothing is None:
        raise UserError("hfca asks what the reference wears, and nobody says so: extract `clothing`, or use a variant with no_cloth")
    still = HfcaCondition(
        **still_of(network, codec, reference.image),
        clothing=reference.signals.clothing if parts.clothing_prototypes is not None else None,
        actions=motion_of(network, driving, sampling.action_source),
        warped=warped_latents(codec, reference, moved) if network.additions.warp else None,
    )
    maps = ClipPoseMaps(config.pose.channels, driving, moved, config.size, sampling.hand)
    return ClipCondition(still=still, frames=len(maps), of=lambda condition, frames: replace(condition, pose=maps[frames]))


def motion_of(network: Hfca, driving: Driving, source: ActionSource) -> Tensor | None:
    """[1, 256, C'] motion tokens: the driving video's; else the prototype of the class whose poses are nearest; else None, the null tokens.

    A source that is named is used or missing. Raises UserError.
    """
    attention = network.made_of.action_attention
    if attention is None or source == "null":
        return None
    if source != "prototype" and driving.signals.actions is not None:
        return driving.signals.actions
    if source == "driving":
        raise UserError("hfca takes the action from the driving video, and there is none: extract `actions`, or use action_source='auto'")
    nearest = attention.nearest_class(driving.points, driving.scores)
    if nearest is None and source == "prototype":
        raise UserError("hfca has no prototype of any action: its stage_1b saw no clip with an action label; use action_source='auto'")
    return None if nearest is None else attention.prototypes[nearest][None]


def context_windows(network: Hfca, frames: int, sampling: Sampling) -> Windows:
    """F_0..23, F_20..43, ...; the last one right-aligned. Without temporal layers windows only bound the memory."""
    return uniform_windows(frames, sampling.window, sampling.overlap if network.temporal else 0)


def fused_latents(network: Hfca, condition: ClipCondition[Any], sampling: Sampling, seed: int, advance: Advance = None) -> Tensor:
    """[F, C, h, w] latents; the windows' predictions are fused at every step, with Gaussian weights ("eps": ours, for no ghosts appear)."""
    windows = context_windows(network, condition.frames, sampling)
    return generate_latents(
        network,
        condition,
        sampling,
        seed,
        advance=advance,
        windows_at=lambda _: windows,
        weights_of=lambda n: gaussian_weights(n, sampling.sigma),
    )


def fused_frames(
    network: Hfca, codec: LatentCodec, condition: ClipCondition[Any], sampling: Sampling, seed: int, advance: Advance = None
) -> Iterator[Tensor]:
    """[n, 3, H, W] in [-1, 1] in order: I_t = sum_k w_k(t) I_t(k) over windows that are generated one by one, as the paper writes it.

    Windows that know nothing of each other show ghosts where they are fused: here they at least begin with the same noise in the same frame.
    """
    windows = context_windows(network, condition.frames, sampling)
    latent = condition.still.reference_latent
    noise = initial_noise(condition.frames, latent.shape[1:], seed, shared=sampling.shared_noise, std=sampling.noise_std).to(latent)
    tick = one_in(len(windows), advance)

    def make(window: list[int]) -> Tensor:
        return codec.decode(generate_latents(network, condition.part(window), sampling, seed, advance=tick, noise=noise[window]))

    yield from fuse_in_order(windows, gaussian_weights(len(windows[0]), sampling.sigma), make)


def fuse_in_order(windows: Windows, weights: Tensor, make: Callable[[list[int]], Tensor]) -> Iterator[Tensor]:
    """Weighted means of what `make` gives for each window, [S, ...], as soon as no later window holds the frame; windows begin one after the other.

    The same as windows.fuse_windows, with no more than two windows' frames in memory.
    """
    sums: dict[int, Tensor] = {}
    totals: dict[int, Tensor] = {}
    done = 0
    for number, window in enumerate(windows):
        for frame, image, weight in zip(window, make(window), weights, strict=True):
            sums[frame] = sums.get(frame, 0) + weight * image
            totals[frame] = totals.get(frame, 0) + weight
        until = windows[number + 1][0] if number + 1 < len(windows) else window[-1] + 1
        yield torch.stack([sums.pop(frame) / totals.pop(frame) for frame in range(done, until)])
        done = until


def one_in(times: int, advance: Advance) -> Advance:
    """`advance` at every so-many-th call: a window of W is a W-th of the way."""
    calls = 0

    def tick() -> None:
        nonlocal calls
        calls += 1
        if advance is not None and calls % times == 0:
            advance()

    return tick


def with_hands(pieces: Iterable[Frames], moved: Driving, hand: HandDetail) -> Iterator[Frames]:
    """The pieces of a clip in order, hands enhanced where they are wanted on frames; nothing comes after this."""
    first = 0
    for piece in pieces:
        rows = slice(first, first + len(piece))
        wanted = hand.apply_to in ("frames", "both")
        yield enhance_hands(piece, moved.points[rows], moved.scores[rows], hand) if wanted else piece
        first += len(piece)


def animate_batch(network: Hfca, codec: LatentCodec, batch: Batch, seed: int) -> Tensor:
    """[R, K, 3, H, W] in [-1, 1] for a training batch, for the periodic pictures."""
    sampling = network.config.scheduled

    def make(one: HfcaCondition) -> Tensor:
        return fused_latents(network, with_poses(one, one.pose), sampling, seed)

    return generate_batch(make, codec, condition_of(network, batch), batch)
