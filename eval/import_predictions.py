"""score_folder(): clips that another lab made become predictions and are scored like ours.

Frames and strips are rewritten as lossless video (FFV1, RGB) in the lake; videos are copied as they are and flagged lossy.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from eval.foreign_clips import ForeignClip, foreign_clips
from eval.networks import MetricNetworks
from eval.page import write_file
from eval.pairing import Finding, Pairing, pair
from eval.predictions import LOSSLESS_SUFFIX, import_predictions
from eval.protocols import protocol_named
from eval.score import ScoreReport, score
from pipelines.clip import Clip, Frames
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.prediction_manifest import PredictedClip, PredictionManifest, predicted_clip, write_manifest

IMPORTED = "imported"  # variant of clips of which nothing else is said


def pair_folder(lake: Lake, folder: Path, *, dataset: str, split: str, protocol: str, reference_frame: int | None = 0) -> Pairing:
    """The pairing report of a folder; writes nothing. Raises UserError (folder, protocol, data set or split)."""
    clips = lake.clips(dataset, split)
    if not clips:
        raise UserError(f"--dataset {dataset} --split {split}: no usable clips in this lake; see `rotoscope status`")
    return pair(clips, foreign_clips(folder), protocol_named(protocol), reference_frame)


def import_foreign(lake: Lake, folder: Path, *, method: str, dataset: str, split: str, protocol: str, variant: str = IMPORTED,
                   seed: int = 0, reference_frame: int | None = 0, uses_truth_sharpness: bool = False,
                   show: Callable[[str], None] = print, lineage: Mapping[str, Any] | None = None) -> PredictionManifest:  # fmt: skip
    """Pair, show the pairing, and import a folder of clips (layouts: eval/foreign_clips.py).

    reference_frame: of clips without a meta.json; uses_truth_sharpness: the method was given the true clip's sharpness (or
    any other thing measured on it), which is written beside its numbers. Raises UserError, also when no clip can be scored.
    """
    pairing = pair_folder(lake, folder, dataset=dataset, split=split, protocol=protocol, reference_frame=reference_frame)
    show(pairing.text())
    if not pairing.matched:
        raise UserError(f"--predictions {folder}: no clip can be scored on {dataset}/{split}; the lines above say why")
    _require_method(folder, pairing, method)
    named = {"method": method, "dataset": dataset, "split": split, "variant": variant, "seed": seed}
    return _import(lake, pairing, named, uses_truth_sharpness, lineage)


def _require_method(folder: Path, pairing: Pairing, method: str) -> None:
    """Raise UserError where a meta.json says another method."""
    others = sorted(
        {str(foreign.meta["method"]) for _, foreign, _ in pairing.matched.values() if foreign.meta.get("method", method) != method}
    )
    if others:
        raise UserError(f"--method {method}: meta.json in {folder} says {others[0]!r}; name that one, or correct meta.json")


def score_folder(lake: Lake, folder: Path, *, protocol: str, device: str = "cpu", lineage: Mapping[str, Any] | None = None,
                 **named: Any) -> ScoreReport:  # fmt: skip
    """`import_foreign` (same arguments), then scoring. Raises MissingWeightsError before anything is read or written."""
    MetricNetworks(protocol_named(protocol), device)
    made = import_foreign(lake, folder, protocol=protocol, lineage=lineage, **named)
    return score(
        lake, protocol=protocol, dataset=made.dataset, split=made.split, prediction_id=made.prediction_id, device=device, lineage=lineage
    )


def _import(
    lake: Lake, pairing: Pairing, named: Mapping[str, Any], sharpness: bool, lineage: Mapping[str, Any] | None
) -> PredictionManifest:
    metas = [foreign.meta for _, foreign, _ in pairing.matched.values()]
    weights = sorted({" ".join(str(meta[name]) for name in ("weights_id", "commit") if meta.get(name)) for meta in metas})
    sampler = sorted({_sampler(meta, named["seed"]) for meta in metas})
    manifest = PredictionManifest(
        **named, checkpoint_id=", ".join(filter(None, weights)), sampler=", ".join(filter(None, sampler)), clips=()
    )
    folder = lake.root / "generated" / "imported" / manifest.prediction_id
    entries = tuple(_bring(folder, clip, foreign, reference, sharpness) for clip, foreign, reference in pairing.matched.values())
    whole = PredictionManifest(**named, checkpoint_id=manifest.checkpoint_id, sampler=manifest.sampler, clips=entries)
    write_manifest(folder, whole)
    imported = import_predictions(lake, folder, lineage)
    lake.write("predictions", [_refused(imported, finding) for finding in pairing.refused], lineage)
    return imported


def _sampler(meta: Mapping[str, Any], seed: int) -> str:
    """What meta.json says of the sampling; a seed other than the one that names the prediction is part of it."""
    said = {name: meta.get(name) for name in ("steps", "cfg", "seed")}
    return " ".join(f"{name} {value}" for name, value in said.items() if value is not None and (name, value) != ("seed", seed))


def _refused(manifest: PredictionManifest, finding: Finding) -> dict[str, Any]:
    """A row of `predictions` that says why a delivered clip has no numbers."""
    named = {name: getattr(manifest, name) for name in ("prediction_id", "method", "variant", "seed", "checkpoint_id", "sampler", "dataset",
                                                        "split")}  # fmt: skip
    reason = f"{finding.problem}: {finding.detail}"
    return {**named, "clip_id": finding.clip_id, "status": "failed", "code": finding.code, "reason": reason}


def _bring(folder: Path, clip: Clip, foreign: ForeignClip, reference: int | None, sharpness: bool) -> PredictedClip:
    folder.mkdir(parents=True, exist_ok=True)
    if foreign.kind == "video" and not foreign.meta.get("padding"):
        path = folder / f"{clip.clip_id}{foreign.path.suffix.lower()}"
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        shutil.copyfile(foreign.path, partial)
        os.replace(partial, path)
    else:
        path = folder / f"{clip.clip_id}{LOSSLESS_SUFFIX}"
        write_lossless(path, foreign.frames(clip.num_frames), clip.fps)
    if foreign.meta:
        write_file(folder / f"{clip.clip_id}.meta.json", json.dumps(dict(foreign.meta), indent=2) + "\n")
    flags = {"lossy": foreign.lossy, "truth_sharpness": sharpness or bool(foreign.meta.get("uses_truth_sharpness"))}
    return predicted_clip(path, clip_id=clip.clip_id, frames=clip.num_frames, reference_frame=reference, **flags)


def write_lossless(path: Path, frames: Frames, fps: Fraction) -> None:
    """[T, H, W, 3] uint8 RGB of any size as FFV1: decodes to the same bytes. The file appears whole or not at all."""
    import av

    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with av.open(os.fspath(partial), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("ffv1", rate=fps)
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "bgr0"
            for image in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
