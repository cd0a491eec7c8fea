"""Signals of a photograph and of a video that are in no lake: the extractors that a method needs, run on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.canvas import Pose
from models.checkpoint import read_manifest
from models.chosen_checkpoint import Chosen
from models.clip_signals import ClipSignals
from models.signal_rows import TABLE_OF, signals_of_rows
from models.signals import SignalName
from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.extract import Extractor
from pipelines.extractors.hands import hands_of
from pipelines.extractors.registry import EXTRACTORS, extractors_named

OF_THE_PERSON: tuple[SignalName, ...] = ("hands", "faces", "body_mask", "densepose", "clothing", "caption")  # what a photograph shows

_USUAL: Mapping[SignalName, str] = {
    "faces": "scrfd",
    "body_mask": "body_mask",
    "densepose": "densepose",
    "clothing": "clothing",
    "actions": "action",
    "caption": "caption",
}
_FULL_SIZE = "paper"  # variants of this family see real networks; the others those of the tiny family

Say = Callable[[str], None]


@dataclass
class SpotSignals:
    """Runs the extractors of one method; each is loaded when it is first used. Hands come from the poses that are followed anyway."""

    extractors: Mapping[SignalName, Extractor]
    sharpness_p99: float | None
    embedding_size: int = 0  # of the face embeddings seen so far
    _loaded: dict[str, Callable[[Clip, Frames], Any]] = field(default_factory=dict)

    def of(self, names: Sequence[SignalName], clip: Clip, frames: Frames, pose: Pose, what: str) -> ClipSignals:
        """Signals of [T, H, W, 3] with poses [T, 133, 2] and [T, 133]. what: these frames in words. Raises UserError."""
        rows: dict[SignalName, list[dict[str, Any]]] = {
            name: hands_of(frames, *pose, clip.width, clip.height) if name == "hands" else self._rows(name, clip, frames, what)
            for name in names
        }
        signals = signals_of_rows(clip, rows, sharpness_p99=self.sharpness_p99, embedding_size=self.embedding_size)
        if signals.faces is not None:
            self.embedding_size = signals.faces.embeddings.shape[1]
        return signals

    def of_photograph(self, needs: Sequence[SignalName], clip: Clip, image: Frames, pose: Pose, what: str) -> ClipSignals:
        """Signals of one picture [H, W, 3] with its pose [133, 2] and [133]. Raises UserError where a face is needed and none is seen."""
        names = [name for name in needs if name in OF_THE_PERSON]
        signals = self.of(names, clip, image[None], (pose[0][None], pose[1][None]), what)
        if signals.faces is not None and not signals.faces.embeddings.any():
            maker = self.extractors["faces"].name
            raise UserError(
                f"no face in the {what} that {maker} can tell apart, and this method needs one; take one that shows the face larger, "
                f"or name another extractor of faces with --signals"
            )
        return signals

    def _rows(self, name: SignalName, clip: Clip, frames: Frames, what: str) -> list[dict[str, Any]]:
        extractor = self.extractors[name]
        if extractor.name not in self._loaded:
            self._loaded[extractor.name] = extractor.load("cpu")
        try:
            rows: list[dict[str, Any]] = self._loaded[extractor.name](clip, frames)[TABLE_OF[name]]
        except ClipError as error:
            raise UserError(f"{name} of the {what} by {extractor.name}: {error.cause}; give another one, or other --signals") from None
        return rows


def spot_signals(chosen: Chosen, needs: Sequence[SignalName], named: Sequence[str], say: Say) -> SpotSignals:
    """For the method's needs: the extractors that were named, else those that the checkpoint was trained with, else the usual ones.

    Raises UserError for a name that fills none of the tables that are needed; MissingWeightsError where weights are not at hand.
    """
    manifest = read_manifest(chosen.folder) if chosen.folder is not None and needs else {}
    trained: Mapping[str, Mapping[str, Any]] = json.loads(manifest.get("signals", "{}"))
    extractors: dict[SignalName, Extractor] = {}
    for name in needs:
        if name != "hands":
            extractors[name] = _extractor(name, named, trained, chosen.variant)
    _require_used(named, extractors)
    for name, extractor in extractors.items():
        digest, known = extractor.weights_digest(), trained.get(name)
        if known is not None and (extractor.name, digest) != (known["extractor"], known["weights_digest"]):
            say(f"{name} by {extractor.name}, not as in training ({known['extractor']} with other weights or by another name)")
    return SpotSignals(extractors=extractors, sharpness_p99=_scale(manifest, chosen) if "hands" in needs else None)


def _extractor(name: SignalName, named: Sequence[str], trained: Mapping[str, Mapping[str, Any]], variant: str) -> Extractor:
    able = [extractor for extractor in extractors_named(list(named)) if TABLE_OF[name] in extractor.tables] if named else []
    if able:
        return able[0]
    if name in trained:
        return extractors_named([trained[name]["extractor"]])[0]
    usual = _USUAL[name] if variant.startswith(_FULL_SIZE) else f"{_USUAL[name]}_tiny"
    return extractors_named([usual])[0]


def _require_used(named: Sequence[str], extractors: Mapping[SignalName, Extractor]) -> None:
    used = {extractor.name for extractor in extractors.values()}
    idle = [name for name in named if name not in used]
    if idle:
        able = sorted(other.name for other in EXTRACTORS.values() if {TABLE_OF[name] for name in extractors} & set(other.tables))
        raise UserError(
            f"--signals {idle[0]} is of no use to this method, which needs {', '.join(extractors) or 'no signals'}"
            + (f"; those that help: {', '.join(able)}" if able else "; leave the option out")
        )


def _scale(manifest: Mapping[str, Any], chosen: Chosen) -> float:
    if "hand_sharpness_p99" not in manifest:
        raise UserError(
            f"the checkpoint of {chosen.method}:{chosen.variant} does not say how sharp the hands of its training were (hand_sharpness_p99 in "
            f"{chosen.folder}/manifest.json), so the motion-blur map has no scale; train it again, or take another checkpoint"
        )
    return float(manifest["hand_sharpness_p99"])
