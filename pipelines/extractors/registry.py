"""The extractors that `extract` can be asked for, by name."""

from __future__ import annotations

from pipelines.errors import UserError
from pipelines.extract import Extractor
from pipelines.extractors.mediapipe import MediaPipe
from pipelines.extractors.truth import Truth

EXTRACTORS: dict[str, Extractor] = {extractor.name: extractor for extractor in (MediaPipe(), Truth())}


def extractors_named(names: list[str] | tuple[str, ...]) -> list[Extractor]:
    """The extractors of these names; UserError lists what there is."""
    unknown = [name for name in names if name not in EXTRACTORS]
    if unknown or not names:
        wrong = f"no extractor {', '.join(map(repr, unknown))}" if unknown else "no extractor was named"
        raise UserError(f"{wrong}; there are: {', '.join(sorted(EXTRACTORS))}")
    return [EXTRACTORS[name] for name in dict.fromkeys(names)]
