"""Signals of a photograph and of a video that are in no lake: the extractors that a method needs, run on the spot.

Whose rows: what the user names (`--signals NAME=EXTRACTOR`, or an extractor alone for all that it gives), else the extractor of the
checkpoint's training, else the usual one of the variant's size. A caption may be written by the user instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.canvas import Pose
from models.checkpoint import read_manifest
from models.chosen_checkpoint import Chosen
from models.clip_signals import ClipSignals
from models.one_subject import is_somebody_else, shares_of
from models.signal_rows import TABLE_OF, signals_of_rows
from models.signals import SignalName
from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, MissingWeightsError, UserError
from pipelines.extract import Extractor
from pipelines.extractors.caption import character_span
from pipelines.extractors.hands import hands_of
from pipelines.extractors.registry import EXTRACTORS, extractors_named
from pipelines.weights import without_downloads

OF_THE_PERSON: tuple[SignalName, ...] = ("hands", "faces", "body_mask", "densepose", "clothing", "caption")  # what a photograph shows

_USUAL: Mapping[SignalName, str] = {
    "faces": "scrfd",
    "body_mask": "body_mask",
    "densepose": "densepose",
    "clothing": "clothing",
    "actions": "action",
    "caption": "caption",
}
_ANNOTATIONS = ("truth", "dataset_annotations")  # only where a data set has them
_FULL_SIZE = "paper"  # variants of this family see real networks; the others those of the tiny family

Say = Callable[[str], None]
Tables = Mapping[str, list[dict[str, Any]]]


@dataclass
class SpotSignals:
    """Runs the extractors of one method; each is loaded when it is first used. Hands come from the poses that are followed anyway.

    caption: a sentence of the user's, in the captioner's place.
    """

    extractors: Mapping[SignalName, Extractor]
    sharpness_p99: float | None
    caption: str | None = None
    say: Say | None = None  # hears where a signal seems to be of somebody else than the poses
    embedding_size: int = 0  # of the face embeddings seen so far
    _loaded: dict[str, Callable[[Clip, Frames], Any]] = field(default_factory=dict)

    def of(self, names: Sequence[SignalName], clip: Clip, frames: Frames, pose: Pose, what: str) -> ClipSignals:
        """Signals of [T, H, W, 3] with poses [T, 133, 2] and [T, 133]. what: these frames in words. Raises UserError."""
        seen: dict[str, Tables] = {}
        rows: dict[SignalName, list[dict[str, Any]]] = {}
        for name in names:
            if name == "hands":
                rows[name] = hands_of(frames, *pose, clip.width, clip.height)
            elif name == "caption" and self.caption is not None:
                rows[name] = [{"caption": self.caption, "character": character_span(self.caption)}]
            else:
                rows[name] = self._rows(name, clip, frames, what, seen)
        signals = signals_of_rows(clip, rows, sharpness_p99=self.sharpness_p99, embedding_size=self.embedding_size)
        if signals.faces is not None:
            self.embedding_size = signals.faces.embeddings.shape[1]
        self._say_whose(signals, pose, what)
        return signals

    def _say_whose(self, signals: ClipSignals, pose: Pose, what: str) -> None:
        if self.say is None:
            return
        for name, share in shares_of(signals, pose).items():
            if is_somebody_else(share):
                maker = self.extractors[name].name
                self.say(
                    f"{name} of the {what} by {maker} seem to be of somebody else than the poses; cut it to one person, or name other --signals"
                )

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

    def _rows(self, name: SignalName, clip: Clip, frames: Frames, what: str, seen: dict[str, Tables]) -> list[dict[str, Any]]:
        """seen: what these frames' extractors gave so far, by extractor; one that gives several signals looks once."""
        extractor = self.extractors[name]
        if extractor.name not in self._loaded:
            self._loaded[extractor.name] = extractor.load("cpu")
        if extractor.name not in seen:
            try:
                seen[extractor.name] = self._loaded[extractor.name](clip, frames)
            except ClipError as error:
                raise UserError(f"{name} of the {what} by {extractor.name}: {error.cause}; give another one, or other --signals") from None
        rows = seen[extractor.name][TABLE_OF[name]]
        if name == "actions" and any(row["tokens"] is None for row in rows):  # annotations name the class, but hold no network's tokens
            raise UserError(f"actions of the {what}: {extractor.name} holds no network's tokens; name another extractor: {_naming(name)}")
        return rows


def spot_signals(chosen: Chosen, needs: Sequence[SignalName], named: Sequence[str], say: Say, caption: str | None = None) -> SpotSignals:
    """For the method's needs: the extractors that were named, else those that the checkpoint was trained with, else the usual ones.

    named: "NAME=EXTRACTOR" or "EXTRACTOR" each. Raises UserError for a name that fills none of the tables that are needed, and
    MissingWeightsError that lists every signal whose weights are not at hand.
    """
    if caption is not None and ("caption" not in needs or not caption.strip()):
        raise UserError(
            f"--caption: {chosen.method} {'needs a sentence' if 'caption' in needs else 'reads no caption'}; leave the option out"
        )
    manifest = read_manifest(chosen.folder) if chosen.folder is not None and needs else {}
    trained: Mapping[str, Mapping[str, Any]] = json.loads(manifest.get("signals", "{}"))
    seen_by: list[SignalName] = [name for name in needs if name != "hands" and not (name == "caption" and caption is not None)]
    given, anything = _named(named, seen_by)
    extractors: dict[SignalName, Extractor] = {
        name: given.get(name) or _extractor(name, anything, trained, chosen.variant) for name in seen_by
    }
    _require_used(anything, extractors)
    _require_weights(chosen, extractors)
    for name, extractor in extractors.items():
        digest, known = extractor.weights_digest(), trained.get(name)
        if known is not None and (extractor.name, digest) != (known["extractor"], known["weights_digest"]):
            say(f"{name} by {extractor.name}, not as in training ({known['extractor']} with other weights or by another name)")
    return SpotSignals(
        extractors=extractors, sharpness_p99=_scale(manifest, chosen) if "hands" in needs else None, caption=caption, say=say
    )


def _named(named: Sequence[str], needs: Sequence[SignalName]) -> tuple[dict[SignalName, Extractor], list[str]]:
    """(extractors by the signal that they were named for, names of those that may fill whatever they give). Raises UserError."""
    given: dict[SignalName, Extractor] = {}
    for entry in named:
        signal, equals, name = entry.partition("=")
        if not equals:
            continue
        wanted = next((need for need in needs if need == signal), None)
        if wanted is None:
            raise UserError(
                f"--signals {entry}: this method needs {', '.join(needs) or 'no signals'}, not {signal!r}; leave the option out"
            )
        given[wanted] = extractors_named([name])[0]
        if TABLE_OF[wanted] not in given[wanted].tables:
            raise UserError(f"--signals {entry}: {name} gives no {signal}; those that do: {', '.join(_able(wanted))}")
    return given, [entry for entry in named if "=" not in entry]


def _able(name: SignalName) -> list[str]:
    return sorted(other.name for other in EXTRACTORS.values() if TABLE_OF[name] in other.tables)


def _naming(name: SignalName) -> str:
    """How to name another extractor of a signal, those whose weights are at hand first."""
    with without_downloads():
        here = [other for other in _able(name) if other not in _ANNOTATIONS and _at_hand(EXTRACTORS[other])]
    return f"--signals {name}=EXTRACTOR ({'at hand: ' + ', '.join(here) if here else 'none is at hand of ' + ', '.join(_able(name))})"


def _at_hand(extractor: Extractor) -> bool:
    try:
        extractor.weights_digest()
    except UserError:
        return False
    return True


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


def _require_weights(chosen: Chosen, extractors: Mapping[SignalName, Extractor]) -> None:
    """MissingWeightsError with a line for each signal that cannot be seen: by whom, what is missing, who else could."""
    missing = []
    for name, extractor in extractors.items():
        try:
            extractor.weights_digest()
        except MissingWeightsError as error:
            instead = f"{_naming(name)}{', or --caption TEXT' if name == 'caption' else ''}"
            missing.append(f"{name} by {extractor.name}: {error}; or {instead}")
    if missing:
        raise MissingWeightsError(
            "\n  ".join([f"{chosen.method}:{chosen.variant} looks at more than poses, and networks are missing:", *missing])
        )


def _scale(manifest: Mapping[str, Any], chosen: Chosen) -> float:
    if "hand_sharpness_p99" not in manifest:
        raise UserError(
            f"the checkpoint of {chosen.method}:{chosen.variant} does not say how sharp the hands of its training were (hand_sharpness_p99 in "
            f"{chosen.folder}/manifest.json), so the motion-blur map has no scale; train it again, or take another checkpoint"
        )
    return float(manifest["hand_sharpness_p99"])
