"""Held-out clips animated from a reference frame and driving poses: mp4 files and a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from models.animator import Animator, Driving, Reference
from models.checkpoint import read_manifest as read_checkpoint
from models.clip_dataset import Points, SignalReader
from models.clip_signals import fit_signals
from models.cross_driving import LONG_CLIP_BYTES, OF_MOTION, cross_pairs, retargeted_signals, without_retargeting
from models.fitting import centre_box, fit_frames, fit_points
from models.methods import method_named
from models.model_key import ModelKey
from models.shipped_checkpoint import SHIPPED, shipped_folder
from models.signal_rows import makers_json, readers
from models.signals import SignalName, Signals
from models.train import current_checkpoint
from models.training_loop import settle_threads
from models.training_rows import ANIMATED_SPLITS, Signalled, signalled_clips, trained_sharpness
from models.written_clip import write_pieces
from pipelines.clip import Clip, Frames
from pipelines.code_version import code_version
from pipelines.errors import ClipError
from pipelines.lake import Lake
from pipelines.prediction_manifest import DrivenBy, PredictedClip, PredictionManifest, predicted_clip, write_manifest
from pipelines.progress import Progress
from pipelines.retarget import Retarget, retarget
from pipelines.sources.registry import Dataset
from pipelines.video import decode_frames, probe

REFERENCE_FRAME = 0  # as the literature, which takes the first frame of each video since DisCo (Wang et al. 2024)
SIGNAL_CODE = tuple(
    f"models/{name}.py" for name in ("clip_signals", "signal_rows", "signals", "motion_blur_map", "face_warp", "densepose_image")
)
CROSS_RETARGET: Retarget = "limb"  # of another person's motion (AnimateAnyone Sec. 4.1)

Poses = Mapping[str, tuple[Points, Points]]
"""Clip id -> (keypoints [T, 133, 2] in px of the clip, scores [T, 133])."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """A folder of generated clips; `reused` of them were there already, `failures` maps clip ids to reasons.

    left_out: how many held-out clips lack each signal that the method needs.
    """

    folder: Path
    manifest: PredictionManifest
    reused: int
    failures: Mapping[str, str]
    left_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What clips are made from. read: a clip -> what reads its signals; needs: which ones."""

    poses: Poses
    read: Callable[[Clip], SignalReader]
    needs: tuple[SignalName, ...]

    def signals(self, clip: Clip, size: tuple[int, int], frames: list[int] | None = None) -> Signals:
        """The clip's signals in its centred crop, all frames or some."""
        if not self.needs:
            return Signals()
        box = centre_box(clip.width, clip.height, size)
        return fit_signals(self.read(clip)(self.needs), box, size, frames, in_memory=LONG_CLIP_BYTES)


def sampling_code(method: str, driving: DrivenBy = "self") -> str:
    """Code version of what turns a checkpoint into clips: another one makes new predictions."""
    known = method_named(method)
    signals = SIGNAL_CODE if known.needs else ()
    crossed = ("models/cross_driving.py", "pipelines/retarget.py") if driving == "cross" else ()
    return code_version("models/generate.py", "models/fitting.py", "models/clip_dataset.py", *signals, *crossed, *known.sampling_code)


def generate(lake: Lake, dataset: Dataset, key: ModelKey, driving: DrivenBy = "self") -> Generated:
    """Animate every held-out clip of the data set; finished clips are kept. Raises UserError when there is none to animate.

    driving: "self" follows the clip's own motion; "cross" that of a held-out clip of somebody else (models/cross_driving.py), brought to
    the person of the reference. Then a generated clip has the driver's length and rate, and no ground truth.
    """
    method = method_named(key.method)
    found = signalled_clips(lake, dataset, method.needs, ANIMATED_SPLITS, "held-out")
    settle_threads()
    checkpoint = current_checkpoint(lake, dataset, key)
    animator = method.load(key.variant, checkpoint[1] if checkpoint else None)
    scale = _hand_scale(lake, dataset, key, checkpoint[1] if checkpoint else None) if "hands" in method.needs else None
    material = Material(poses=found.poses, read=readers(lake, dataset, found.makers, scale), needs=method.needs)
    pairs = cross_pairs(found.clips) if driving == "cross" else [(clip, clip) for clip in found.clips]
    empty = _empty_manifest(key, dataset, found, animator, checkpoint[0] if checkpoint else "", driving)
    if driving == "cross":
        without_retargeting(animator)
    folder = lake.root / "generated" / dataset.name / f"{str(key).replace(':', '-')}-{empty.prediction_id}"
    folder.mkdir(parents=True, exist_ok=True)
    made = _make_all(animator, pairs, material, folder, key)
    manifest = replace(empty, clips=tuple(made.clips))
    write_manifest(folder, manifest)
    lake.put(folder)
    return Generated(folder=folder, manifest=manifest, reused=made.reused, failures=made.failures, left_out=found.left_out)


def _hand_scale(lake: Lake, dataset: Dataset, key: ModelKey, checkpoint: Path | None) -> float | None:
    """The scale of the blur map that the network was trained with: its checkpoint says, the training rows where there is none that does."""
    folder = shipped_folder(key.method) if key.variant == SHIPPED else checkpoint
    said = read_checkpoint(folder).get("hand_sharpness_p99") if folder else None
    return trained_sharpness(lake, dataset, key.method) if said is None else float(said)


def _empty_manifest(
    key: ModelKey, dataset: Dataset, found: Signalled, animator: Animator, checkpoint_id: str, driving: DrivenBy
) -> PredictionManifest:
    """All that identifies the clips, before there are any."""
    sampler = {**animator.sampler, "code": sampling_code(key.method, driving)}
    sampler |= {"signals": json.loads(makers_json(found.makers))} if found.makers else {}
    sampler |= {"retarget": CROSS_RETARGET} if driving == "cross" else {}
    return PredictionManifest(
        method=key.method,
        variant=key.variant,
        seed=key.seed,
        checkpoint_id=checkpoint_id,
        sampler=json.dumps(sampler, sort_keys=True),
        dataset=dataset.name,
        split=str(found.clips[0].split),
        clips=(),
        driving=driving,
    )


@dataclass(kw_only=True, slots=True)
class _Made:
    clips: list[PredictedClip]
    failures: dict[str, str]
    reused: int = 0


def _make_all(animator: Animator, pairs: list[tuple[Clip, Clip]], material: Material, folder: Path, key: ModelKey) -> _Made:
    """One mp4 per (reference clip, driving clip); what is there is kept."""
    made = _Made(clips=[], failures={})
    given_sharpness = bool(getattr(animator, "truth_sharpness", False))
    with closing(Progress(len(pairs), "clips", f"generate {key}")) as bar:
        for clip, driver in pairs:
            path = folder / f"{clip.clip_id}.mp4"
            made.reused += path.is_file()
            try:
                if not path.is_file():
                    _animate_clip(animator, clip, driver, material, path, key)
                entry = predicted_clip(
                    path,
                    clip_id=clip.clip_id,
                    frames=probe(path).frames,
                    reference_frame=REFERENCE_FRAME,
                    truth_sharpness=given_sharpness and driver is clip,
                )
                made.clips.append(entry if driver is clip else replace(entry, driving_clip_id=driver.clip_id))
            except ClipError as error:
                made.failures[clip.clip_id] = str(error)
            bar.update(1)
    return made


def _animate_clip(animator: Animator, clip: Clip, driver: Clip, material: Material, path: Path, key: ModelKey) -> None:
    image = decode_frames(clip, [REFERENCE_FRAME])
    size = animator.size or _even(image.shape[1], image.shape[2])
    reference = reference_of(clip, image, material, size)
    driving = own_driving(clip, material, size) if driver is clip else cross_driving(clip, driver, material, reference, size)
    comment = f"synthetic: generated by Rotoscope with {key}, not a recording"
    write_pieces(path, animator.in_pieces(reference, driving, key.seed), driver.num_frames, driver.fps, comment)


def reference_of(clip: Clip, image: Frames, material: Material, size: tuple[int, int]) -> Reference:
    """The first frame [1, H, W, 3] of a clip with its pose and signals, at `size` (height, width)."""
    box = centre_box(clip.width, clip.height, size)
    points, scores = material.poses[clip.clip_id]
    return Reference(
        image=fit_frames(image, box, size)[0],
        points=fit_points(points[REFERENCE_FRAME], box, size),
        scores=scores[REFERENCE_FRAME],
        signals=material.signals(clip, size, [REFERENCE_FRAME]),
    )


def own_driving(clip: Clip, material: Material, size: tuple[int, int]) -> Driving:
    """The clip's own motion, where it is."""
    points, scores = material.poses[clip.clip_id]
    fitted = fit_points(points, centre_box(clip.width, clip.height, size), size)
    return Driving(points=fitted, scores=scores, fps=float(clip.fps), signals=material.signals(clip, size))


def cross_driving(clip: Clip, driver: Clip, material: Material, reference: Reference, size: tuple[int, int]) -> Driving:
    """Another person's motion on the reference's body. Raises ClipError where the two share no visible joint."""
    points, scores = material.poses[driver.clip_id]
    try:
        followed = retarget(CROSS_RETARGET, points, scores, reference.points, reference.scores)
        signals = Signals()
        if material.needs:
            read = material.read(driver)([name for name in material.needs if name in OF_MOTION])
            signals = retargeted_signals(read, range(driver.num_frames), points, followed, scores, size, faces="faces" in material.needs)
    except ValueError as error:
        raise ClipError("no_person", clip.clip_id, f"driven by {driver.clip_id}: {error}", "leave the clip out") from None
    return Driving(points=followed, scores=scores, fps=float(driver.fps), signals=signals)


def _even(height: int, width: int) -> tuple[int, int]:
    """H.264 in yuv420p needs even sizes."""
    return height // 2 * 2, width // 2 * 2
