"""A page of facts about one data set, from its tables alone: Markdown in which no title or name of the data can become HTML.

A picture of a person is shown only on request; numbers are counted, never estimated.
"""

from __future__ import annotations

import base64
import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.tables import FEATURES

Row = Mapping[str, Any]

_BIOMETRIC = (
    "**This data set holds face embeddings, which identify people: biometric data.** Handle them by the law that applies to you; "
    "`rotoscope forget` removes a video or a person with all of it."
)


def write_card(lake: Lake, dataset_name: str, include_media: bool = False) -> Path:
    """Write reports/<data set>_card.md and return its path; contact sheets are embedded with `include_media` only.

    Raises UserError for a data set that has no videos and no removals.
    """
    path = lake.root / "reports" / f"{dataset_name}_card.md"
    lake.write_text(f"reports/{path.name}", card(lake, dataset_name, include_media))
    return lake.path(f"reports/{path.name}")


def card(lake: Lake, dataset_name: str, include_media: bool = False) -> str:
    """The card's text."""
    mine = pc.field("dataset") == dataset_name
    videos, clips, removals = lake.rows("videos", mine), lake.rows("clips", mine), lake.rows("removals", mine)
    if not videos and not removals:
        known = ", ".join(sorted({row["dataset"] for row in lake.rows("videos", columns=["dataset"])})) or "none yet"
        raise UserError(f"no data set {dataset_name!r} in {lake.address}; there are: {known}")
    parts = [
        f"# Data set {escaped(dataset_name)}",
        _source(videos),
        _size(videos, clips),
        _availability(videos),
        _licences(videos),
        _removed(removals),
        _features(lake, mine),
        _screening(lake, mine),
        _faults(videos, clips),
        *([_media(lake, dataset_name)] if include_media else []),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(value: object) -> str:
    """Text of the data as Markdown that shows it and does nothing: no HTML, links, emphasis or table cells of its own."""
    text = html.escape(" ".join(str(value).split()), quote=True)
    return re.sub(r"([\\`*_{}\[\]()#|!~])", r"\\\1", text)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; every cell is escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join("" if cell is None else escaped(cell) for cell in row) + " |" for row in rows)])


def _source(videos: Sequence[Row]) -> str:
    web = Counter("web" if row["source_url"] else "the user's own or drawn" for row in videos)
    times = sorted(row["retrieved_at"] for row in videos if row["retrieved_at"])
    when = f"Retrieved from {escaped(times[0])} to {escaped(times[-1])}." if times else ""
    return "\n\n".join(["## Source", table(["videos from", "count"], sorted(web.items())), when]).rstrip()


def _size(videos: Sequence[Row], clips: Sequence[Row]) -> str:
    rows = []
    for split in sorted({str(row["split"] or "none") for row in [*videos, *clips]}):
        ok = [row for row in videos if str(row["split"] or "none") == split and row["status"] == "ok"]
        cut = [row for row in clips if str(row["split"] or "none") == split and row["status"] == "ok"]
        people = {row["subject"] for row in ok if row["subject"]}
        seconds = sum(row["duration_s"] or 0.0 for row in ok)
        rows.append([split, len(ok), len(cut), sum(row["end_frame"] - row["start_frame"] for row in cut), f"{seconds:.1f}", len(people)])
    ok = [row for row in videos if row["status"] == "ok"]
    sizes = Counter(f"{row['width']}x{row['height']}" for row in ok if row["width"])
    rates = Counter(f"{row['fps_num'] / row['fps_den']:.3f}" for row in ok if row["fps_den"])
    durations = np.array([row["duration_s"] for row in ok if row["duration_s"]])
    quantiles = [f"{value:.1f}" for value in np.quantile(durations, [0, 0.5, 1])] if durations.size else []
    parts = ["## Size", table(["split", "videos", "clips", "frames of clips", "seconds", "people named"], rows)]
    if quantiles:
        parts.append(f"A video lasts {quantiles[0]} to {quantiles[2]} s, median {quantiles[1]} s.")
    variable = sum(bool(row["variable_frame_rate"]) for row in ok)
    parts += [table(["resolution (px)", "videos"], sizes.most_common(10)), table(["frames per second", "videos"], rates.most_common(10))]
    return "\n\n".join([*parts, f"Videos with a variable frame rate: {variable}."])


def _availability(videos: Sequence[Row]) -> str:
    counted = Counter(row["availability"] for row in videos if row["availability"])
    return "\n\n".join(["## Availability", table(["answer of the site", "videos"], counted.most_common())]) if counted else ""


def _licences(videos: Sequence[Row]) -> str:
    accepted = {True: "accepted", False: "not accepted", None: "none to accept"}
    counted = Counter((row["licence"] or "not stated", row["terms_url"] or "", accepted[row["terms_accepted"]]) for row in videos)
    rows = [[*named, count] for named, count in counted.most_common()]
    return "\n\n".join(["## Licences and terms", table(["licence", "terms", "by the user", "videos"], rows)])


def _removed(removals: Sequence[Row]) -> str:
    counted = Counter(row["kind"] for row in removals)
    videos, people = counted["video_id"], counted["person"]
    return f"## Removals\n\nRemoved by `rotoscope forget`: {videos} videos, {people} requests by person. They are not fetched again."


def _features(lake: Lake, mine: pc.Expression) -> str:
    """Which extractor, of which version and weights, made what; and how many clips it failed on."""
    rows, biometric = [], False
    named = ["extractor", "version", "weights_digest", "clip_id", "error"]
    for name in FEATURES:
        columns = [*named, *(["embedding_norm"] if name == "faces" else [])]
        made = lake.read(name, columns, mine)
        biometric = biometric or (name == "faces" and made["embedding_norm"].null_count < made.num_rows)
        seen: dict[tuple[Any, ...], tuple[set[str], set[str]]] = {}
        for row in made.select(named).group_by(named).aggregate([]).to_pylist():
            done, failed = seen.setdefault((row["extractor"], row["version"], row["weights_digest"]), (set(), set()))
            (failed if row["error"] else done).add(row["clip_id"])
        rows += [[name, *key[:2], key[2] or "none", len(done), len(failed)] for key, (done, failed) in sorted(seen.items())]
    biometric = biometric or lake.read("screening_faces", ["clip_id"], mine & pc.field("embedding").is_valid()).num_rows > 0
    header = ["table", "extractor", "version", "weights (sha256)", "clips", "clips failed"]
    return "\n\n".join(["## Features", table(header, rows), *([_BIOMETRIC] if biometric else [])])


def _screening(lake: Lake, mine: pc.Expression) -> str:
    verdicts = lake.rows("screening_verdicts", mine, ["rule", "kept", "conditions"])
    if not verdicts:
        return ""
    kept = Counter((row["rule"], bool(row["kept"])) for row in verdicts)
    rules = sorted({row["rule"] for row in verdicts})
    missed = Counter((row["rule"], condition) for row in verdicts for condition in row["conditions"] or [])
    parts = [
        "## Screening",
        table(["rule", "clips kept", "clips dropped"], [[rule, kept[rule, True], kept[rule, False]] for rule in rules]),
    ]
    return "\n\n".join([*parts, table(["rule", "condition not met", "clips"], [[*named, count] for named, count in missed.most_common()])])


def _faults(videos: Sequence[Row], clips: Sequence[Row]) -> str:
    counted = Counter((kind, row["status"], row["code"], row["reason"]) for kind, rows in (("video", videos), ("clip", clips))
                      for row in rows if row["status"] != "ok")  # fmt: skip
    if not counted:
        return "## Known faults\n\nNone: every video and clip can be used."
    by_code: dict[tuple[Any, ...], tuple[int, str]] = {}
    for (kind, status, code, reason), count in counted.items():
        before, example = by_code.get((kind, status, code), (0, reason))
        by_code[kind, status, code] = (before + count, min(example or "", reason or ""))
    rows = [[*named, count, example] for named, (count, example) in sorted(by_code.items(), key=str)]
    return "\n\n".join(["## Known faults", table(["of a", "status", "code", "count", "for example"], rows)])


def _media(lake: Lake, dataset_name: str) -> str:
    sheets = [name for name in lake.list_files("reports") if Path(name).name.startswith(f"{dataset_name}_") and name.endswith(".jpg")]
    shown = [
        f"![{escaped(Path(name).stem)}](data:image/jpeg;base64,{base64.b64encode(lake.storage.read(name)).decode()})" for name in sheets
    ]
    return "\n\n".join(["## Contact sheets", *shown]) if shown else ""
