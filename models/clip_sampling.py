"""How clips are made by a denoiser: poses drawn for the window that asks, guidance, windows, and decoding in pieces."""

# F = frames of the clip, S = frames of a window

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from models.animator import Driving, Reference
from models.clip_dataset import Batch, Points, PoseStyle, draw_poses, to_frames, to_signed, to_unit
from models.demo_additions import anchor_of
from models.guidance import Condition, guide, null_conditions
from models.latents import LatentCodec
from models.limb_warp import LimbWarp
from models.noise import make_scheduler
from models.on_device import device_of, on_device
from models.reference_attention import ReferenceBank
from models.sampling_loop import Predict, WeightsOf, WindowsAt, sample_windows
from models.stage_loss import Denoiser
from models.training_loop import generator_for
from models.windows import flat_weights, uniform_windows
from pipelines.clip import Frames
from pipelines.heap import give_back_freed_pages
from pipelines.masks import pack_array, unpack_array
from pipelines.retarget import Retarget, retarget

_STYLE = PoseStyle()
DECODED_AT_ONCE = 8  # frames; what a long clip holds in memory as pictures

AnyCondition = TypeVar("AnyCondition", bound=Condition)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """DDIM, eta 0.

    noise_std: standard deviation of the initial noise. A network that is trained for minutes makes noise of what it cannot explain; below 1 its
    samples come closer to their mean (the reduced temperature of Kingma and Dhariwal 2018, Sec. 6). No paper here does so.
    """

    steps: int = 20
    guidance_scale: float = 3.5
    window: int = 24
    overlap: int = 4
    retarget: Retarget = "limb"
    shared_noise: bool = False
    noise_std: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.window:
            raise ValueError(f"overlap={self.overlap} must be at least 0 and smaller than window={self.window}")
        if not 0 <= self.noise_std <= 1:
            raise ValueError(f"noise_std={self.noise_std} is not in 0..1")

    def said(self) -> list[str]:
        """What no paper here does, in words, for manifests and reports."""
        cool = f"initial noise of standard deviation {self.noise_std:g}"
        return [name for name, used in {"shared noise over frames": self.shared_noise, cool: self.noise_std != 1}.items() if used]


class DrawnPoses:
    """Pose images [F, 3, H, W] in [0, 1] of a long clip, drawn for the window that asks first and kept packed.

    Lines on black pack to a hundredth of their pixels (0.6 KB at 128x128, 5 KB at 768x768), and unpack in a fiftieth of the time that they take to
    draw. They lie one behind the other: small objects kept among large ones that come and go would leave holes in the heap.
    """

    def __init__(self, points: Points, scores: Points, size: tuple[int, int], style: PoseStyle = _STYLE) -> None:
        self._points, self._scores, self._size, self._style = points, scores, size, style
        self._packed = bytearray()
        self._places: dict[int, slice] = {}  # frame -> where its picture lies

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, frames: list[int]) -> Tensor:
        return to_unit(np.stack([self._image(frame) for frame in frames]))

    def _image(self, frame: int) -> Frames:
        if frame not in self._places:
            [drawn] = draw_poses(self._points[frame : frame + 1], self._scores[frame : frame + 1], self._size, self._style)
            packed, _, _ = pack_array(drawn)
            self._places[frame] = slice(len(self._packed), len(self._packed) + len(packed))
            self._packed += packed
            return drawn
        image: Frames = unpack_array(bytes(self._packed[self._places[frame]]), (*self._size, 3), "uint8")
        return image


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipCondition(Generic[AnyCondition]):
    """The condition of a whole clip: what holds for every frame, and what each window's frames add.

    still: a Condition of one reference, with the warped latents of all frames where there are some; of(still, frames): the same with the pose
    (and a method's other fields) of those frames.
    """

    still: AnyCondition
    frames: int
    of: Callable[[AnyCondition, list[int]], AnyCondition]

    def at(self, frames: list[int]) -> AnyCondition:
        """The condition of a window's frames."""
        return self.of(self._still_of(frames), frames)

    def near(self, device: torch.device) -> ClipCondition[AnyCondition]:
        """The same with what holds for every frame on `device`, so that each window sees the same tensors."""
        alone = replace(self.still, warped=None)
        return replace(self, still=replace(on_device(alone, device), warped=self.still.warped))

    def part(self, frames: list[int]) -> ClipCondition[AnyCondition]:
        """The condition of some frames as a clip of its own."""
        of = self.of
        return ClipCondition(
            still=self._still_of(frames), frames=len(frames), of=lambda here, slots: of(here, [frames[slot] for slot in slots])
        )

    def _still_of(self, frames: list[int]) -> AnyCondition:
        warped = self.still.warped
        return self.still if warped is None else replace(self.still, warped=warped[frames])


def with_poses(still: AnyCondition, poses: Tensor | DrawnPoses) -> ClipCondition[AnyCondition]:
    """A clip's condition of which only the poses [F, 3, H, W] differ between frames."""
    return ClipCondition(still=still, frames=len(poses), of=lambda condition, frames: replace(condition, pose=poses[frames]))


def posed_clip(
    config: Any, reference: Reference, driving: Driving, still: AnyCondition, warp: LatentCodec | None = None
) -> ClipCondition[AnyCondition]:
    """A clip's condition: the driving poses on the reference's skeleton, as `config.sampling.retarget` says, drawn at `config.size`.

    warp: encodes the reference carried to those poses, for a network with DemoAdditions.warp.
    """
    moved = followed(config.sampling.retarget, reference, driving)
    if warp is not None:
        still = replace(still, warped=warped_latents(warp, reference, moved).to(still.reference_latent))
    return with_poses(still, DrawnPoses(moved.points, moved.scores, config.size))


def warped_latents(codec: LatentCodec, reference: Reference, moved: Driving) -> Tensor:
    """[F, C, h, w] latents of the reference carried to every pose, a few pictures at a time."""
    carried = LimbWarp(reference.image, reference.points, reference.scores)
    poses = list(zip(moved.points, moved.scores, strict=True))
    parts = [poses[start : start + DECODED_AT_ONCE] for start in range(0, len(poses), DECODED_AT_ONCE)]
    return torch.cat([codec.encode(to_signed(np.stack([carried(*pose) for pose in part]))) for part in parts])


Guide = Callable[[Callable[[], Tensor], Tensor], Tensor]
"""(how to get the unconditional prediction, the conditional one) -> the guided one."""


def usual_guidance(scale: float) -> Guide:
    """e_u + w (e_c - e_u); w = 1 never runs the unconditional branch. The branches run one after the other."""
    return lambda unconditional, conditional: conditional if scale == 1.0 else guide(unconditional(), conditional, scale)


def predictor(network: Denoiser, condition: ClipCondition[Any], guided: Guide, null: Callable[[Any], Any] | None = None) -> Predict:
    """Guided prediction of one window. null: the unconditional condition of one; default: its reference dropped, its pose kept."""
    nothing = null or (lambda here: null_conditions(here, torch.ones_like(here.dropped)))

    def predict(latents: Tensor, window: list[int], timestep: int) -> Tensor:
        here = on_device(condition.at(window), latents.device)
        times = torch.tensor([timestep], device=latents.device)
        return guided(lambda: network(latents[None], times, nothing(here))[0], network(latents[None], times, here)[0])

    return predict


def initial_noise(frames: int, shape: Sequence[int], seed: int, *, shared: bool, std: float = 1.0) -> Tensor:
    """[F, C, h, w] Gaussian noise, independent or the same for every frame."""
    drawn = torch.randn(1 if shared else frames, *shape, generator=generator_for(seed, 0)).mul_(std)
    return drawn.expand(frames, *shape).clone() if shared else drawn  # a long clip's noise is held once


@torch.no_grad()
def generate_latents(
    network: Denoiser,
    condition: ClipCondition[Any],
    sampling: Sampling,
    seed: int,
    *,
    advance: Callable[[], None] | None = None,
    windows_at: WindowsAt | None = None,
    weights_of: WeightsOf = flat_weights,
    guided: Guide | None = None,
    null: Callable[[Any], Any] | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """[F, C, h, w] latents, in the codec's units, of one reference and F frames.

    Defaults: uniform windows with equal weights, the usual guidance, and `initial_noise`. `noise` is overwritten.
    """
    latent = condition.still.reference_latent
    if noise is None:
        noise = initial_noise(condition.frames, latent.shape[1:], seed, shared=sampling.shared_noise, std=sampling.noise_std).to(latent)
    fixed = uniform_windows(condition.frames, sampling.window, sampling.overlap)
    bank = getattr(network, "bank", None)
    with bank.remembering() if isinstance(bank, ReferenceBank) else nullcontext():
        made = sample_windows(
            predictor(network, condition.near(noise.device), guided or usual_guidance(sampling.guidance_scale), null),
            noise,
            make_scheduler(network.noise),
            sampling.steps,
            windows_at or (lambda _: fixed),
            weights_of,
            advance,
        )
    return network.additions.restored(made[None], anchor_of(condition.still))[0]


def generate_batch(make: Callable[[Any], Tensor], codec: LatentCodec, whole: Condition, batch: Batch) -> Tensor:
    """[R, K, 3, H, W] in [-1, 1] for a training batch, for the periodic pictures.

    whole: the batch's condition; make: latents [K, C, h, w] of the condition of one reference and its K poses.
    """
    references, each = batch.latents.shape[:2]
    return torch.stack([codec.decode(make(whole.of_reference(i, each))) for i in range(references)])


def decoded_pieces(codec: LatentCodec, latents: Tensor) -> Iterator[Frames]:
    """uint8 [<= 8, H, W, 3] pieces of latents [F, C, h, w], in order; only the latents' memory grows with the clip."""
    give_back_freed_pages()  # the holes that sampling left are too small for a decoder's activations, and the more the longer the clip
    for part in latents.split(DECODED_AT_ONCE):
        yield to_frames(codec.decode(part))


def followed(rule: Retarget, reference: Reference, driving: Driving) -> Driving:
    """The driving motion on the reference's skeleton."""
    points = retarget(rule, driving.points, driving.scores, reference.points, reference.scores)
    return replace(driving, points=points)


@torch.no_grad()
def still_of(network: Any, codec: LatentCodec, image: Frames) -> dict[str, Tensor]:
    """The fields of a Condition of one reference image uint8 [H, W, 3], without poses."""
    device = device_of(network)
    signed = to_signed(image[None]).to(device)
    return {
        "reference_latent": codec.encode(signed).to(device),
        "image_tokens": network.image_tokens(signed),
        "pose": signed.new_empty(0, *signed.shape[1:]),
        "dropped": torch.zeros(1, dtype=torch.bool, device=device),
    }
