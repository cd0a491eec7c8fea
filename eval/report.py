"""write_report(): one self-contained HTML page, and its Markdown twin, for one protocol, data set and split."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from eval.chart import loss_curve
from eval.drill_down import changes, comparisons, extremes
from eval.media import image_data_uri, pose_extractor_of, pose_frames, video_data_uri
from eval.networks import current_digests
from eval.protocol import Protocol, protocol_named
from eval.table import BenchmarkTable, benchmark_table, method_detail, method_title
from pipelines.clip import Clip
from pipelines.errors import ClipError, UserError
from pipelines.lake import Lake
from pipelines.tables import one_of
from pipelines.video import decode_frames, read_video

ALWAYS_SHOWN = "performers_"  # data sets of drawn people: nobody's picture
_TABLES = (
    "videos",
    "clips",
    "poses",
    "training_rows",
    "checkpoints",
    "training_log",
    "predictions",
    "scores",
    "metric_features",
    "benchmark",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One picture of a side-by-side row; `uri` is a data: URI, or None with the reason."""

    title: str
    detail: str
    kind: str  # image | video | none
    uri: str | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """One clip: reference, pose, every method, truth."""

    clip_id: str
    caption: str
    panels: tuple[Panel, ...]


def write_report(
    lake: Lake,
    *,
    protocol: str,
    dataset: str,
    split: str,
    path: Path,
    ran: Sequence[Mapping[str, Any]] = (),
    include_media: bool = False,
    max_clips: int = 6,
) -> Path:
    """Write `path` (.html) and the same name with .md; returns the path of the HTML.

    ran: what the run did, one mapping per step; its keys become columns. include_media: embed frames of real people;
    data sets of drawn performers always show theirs. Raises UserError when nothing was benchmarked, or for two
    protocols.
    """
    chosen = protocol_named(protocol)
    rows = lake.rows(
        "benchmark",
        (pc.field("protocol") == chosen.name) & (pc.field("dataset") == dataset) & (pc.field("split") == split),
    )
    if not rows:
        raise UserError(f"nothing is benchmarked under {chosen.name} on {dataset}/{split}; run `python -m eval benchmark` first")
    table = benchmark_table(rows)
    shown = include_media or dataset.startswith(ALWAYS_SHOWN)
    predictions = _predictions(lake, [line.prediction_id for line in table.lines])
    page = {
        "table": table,
        "protocol": chosen,
        "dataset": dataset,
        "split": split,
        "facts": _protocol_facts(chosen, current_digests(lake, chosen)),
        "strips": _strips(lake, dataset, split, predictions, max_clips) if shown else [],
        "media_hidden": not shown,
        "curves": _curves(lake, predictions),
        "comparisons": comparisons(lake, table, chosen.name, split),
        "extremes": extremes(lake, table, chosen.name, split),
        "changes": changes(lake, table, chosen.name, split),
        "ran": [dict(row) for row in ran],
        "ran_columns": _keys(ran),
        "made": _made_from(lake, table, predictions),
        "versions": {name: lake.version(name) for name in _TABLES},
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    _write(path, _render("report.html", page))
    _write(path.with_suffix(".md"), _render("report.md", page))
    return path


def _render(template: str, page: Mapping[str, Any]) -> str:
    html = template.endswith(".html")
    environment = Environment(
        loader=PackageLoader("eval"), autoescape=html, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = _markdown_cell
    return environment.get_template(template).render(**page)


def _markdown_cell(value: Any) -> str:
    """Text that cannot break out of a Markdown table cell, nor be read as HTML."""
    text = "" if value is None else str(value)
    for raw, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\r", " "), ("\n", " ")):
        text = text.replace(raw, safe)
    return text


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _protocol_facts(protocol: Protocol, digests: Mapping[str, str]) -> list[tuple[str, str]]:
    """The protocol in words."""
    low, high = protocol.lpips_range
    resized = f"short side {protocol.short_side}, native aspect, antialiased bicubic"
    size = "native size" if protocol.short_side is None else resized
    overlap = "no overlap" if protocol.stride == protocol.window else f"a new one every {protocol.stride} frames"
    networks = [f"{role.upper()}: {name} ({digests[role][:12] or 'unknown'})" for role, name in protocol.networks.items()]
    return [
        ("Frames", size),
        ("Reference frame", f"{protocol.reference} {'from' if protocol.reference == 'excluded' else 'in'} scoring"),
        ("Video windows", f"{protocol.window} frames, {overlap}"),
        ("LPIPS input", f"[{low:g}, {high:g}]"),
        ("Networks", "; ".join(networks)),
        ("Known faults kept", ", ".join(protocol.known_faults) or "none"),
        ("Source", protocol.source),
    ]


def _predictions(lake: Lake, ids: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """prediction id -> clip id -> row, methods in the table's order."""
    found: dict[str, dict[str, dict[str, Any]]] = {prediction_id: {} for prediction_id in ids}
    for row in lake.rows("predictions", one_of("prediction_id", ids)):
        found[row["prediction_id"]][row["clip_id"]] = row
    return found


def _strips(lake: Lake, dataset: str, split: str, predictions: Mapping[str, Mapping[str, Mapping[str, Any]]], most: int) -> list[Strip]:
    extractor = pose_extractor_of(lake, dataset)
    return [_strip(lake, clip, predictions, extractor) for clip in lake.clips(dataset, split)[:most]]


def _strip(lake: Lake, clip: Clip, predictions: Mapping[str, Mapping[str, Mapping[str, Any]]], extractor: str | None) -> Strip:
    truth = decode_frames(clip)
    references = [rows[clip.clip_id]["reference_frame"] for rows in predictions.values() if clip.clip_id in rows]
    shown = next((frame for frame in references if frame is not None), None)
    panels = []
    if shown is not None:
        panels.append(Panel(title="Reference", detail=f"frame {shown}", kind="image", uri=image_data_uri(truth[shown])))
    poses = None if extractor is None else pose_frames(lake, clip, extractor)
    if poses is not None:
        panels.append(
            Panel(
                title="Driving pose",
                detail=f"extractor: {extractor}",
                kind="video",
                uri=video_data_uri(poses, clip.fps),
            )
        )
    panels += [_method_panel(lake, clip, rows) for rows in predictions.values()]
    panels.append(Panel(title="Truth", detail="", kind="video", uri=video_data_uri(truth, clip.fps)))
    who = f", {clip.subject}" if clip.subject else ""
    caption = f"{clip.num_frames} frames, {clip.width}×{clip.height}, {float(clip.fps):g} fps{who}"
    return Strip(clip_id=clip.clip_id, caption=caption, panels=tuple(panels))


def _method_panel(lake: Lake, clip: Clip, rows: Mapping[str, Mapping[str, Any]]) -> Panel:
    some = next(iter(rows.values()))
    named = {"title": method_title(some), "detail": method_detail(some)}
    row = rows.get(clip.clip_id)
    if row is None or row["status"] != "ok":
        return Panel(**named, kind="none", uri=None, reason=(row or {}).get("reason") or "not delivered")
    try:
        return Panel(**named, kind="video", uri=video_data_uri(read_video(lake.path(row["uri"])), clip.fps))
    except ClipError as error:
        return Panel(**named, kind="none", uri=None, reason=error.reason)


def _curves(lake: Lake, predictions: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One chart per training stage of the shown methods, parents first."""
    curves = []
    for row in _checkpoint_chain(lake, predictions):
        log = lake.rows("training_log", pc.field("checkpoint_id") == row["checkpoint_id"])
        if any(entry["loss"] is not None for entry in log):
            title = " · ".join(str(part) for part in (method_title(row), row["variant"], row["stage"]) if part)
            curves.append({"title": title, "svg": Markup(loss_curve(log)), "steps": row["steps"], "seconds": row["seconds"]})
    return curves


def _checkpoint_chain(lake: Lake, predictions: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Checkpoints that made the predictions, each after its parents."""
    known = {row["checkpoint_id"]: row for row in lake.rows("checkpoints")}
    chain: list[dict[str, Any]] = []
    for rows in predictions.values():
        line: list[dict[str, Any]] = []
        current = known.get(next(iter(rows.values()))["checkpoint_id"]) if rows else None
        while current is not None and current not in line:
            line.append(current)
            current = known.get(current["parent"])
        chain += [row for row in reversed(line) if row not in chain]
    return chain


def _made_from(lake: Lake, table: BenchmarkTable, predictions: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    methods = []
    for line in table.lines:
        row = next(iter(predictions[line.prediction_id].values()), {})
        methods.append(
            {
                "title": line.title,
                "detail": line.detail,
                "prediction": line.prediction_id,
                "sampler": row.get("sampler") or "–",
                "checkpoint": row.get("checkpoint_id") or "–",
                "lossy": "lossy" if row.get("lossy") else "lossless",
            }
        )
    names = ("checkpoint_id", "method", "variant", "stage", "seed", "steps", "parameters", "digest", "code_version")
    checkpoints = [{name: row[name] for name in names} for row in _checkpoint_chain(lake, predictions)]
    return {"methods": methods, "checkpoints": checkpoints}
