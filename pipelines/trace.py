"""From one benchmark cell down to the bytes: prediction, checkpoint, training rows, features, clips, videos."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from pipelines.errors import UserError
from pipelines.lake import Lake, digest_rows


@dataclass(frozen=True, slots=True)
class Node:
    """One link of the chain: what it is, the facts that identify it, and what it was made from."""

    title: str
    facts: dict[str, Any]
    made_from: list[Node] = field(default_factory=list)

    def lines(self, depth: int = 0) -> list[str]:
        """Indented text."""
        facts = "  ".join(f"{name}={value}" for name, value in self.facts.items() if value not in (None, ""))
        return [f"{'  ' * depth}{self.title}  {facts}", *(line for node in self.made_from for line in node.lines(depth + 1))]


def trace(lake: Lake, *, dataset: str, method: str, metric: str, protocol: str | None = None, variant: str | None = None) -> Node:
    """The chain under one cell. Raises UserError, which lists the cells that there are, when it is not exactly one."""
    where = (pc.field("dataset") == dataset) & (pc.field("method") == method) & (pc.field("metric") == metric)
    for column, value in (("protocol", protocol), ("variant", variant)):
        if value is not None:
            where = where & (pc.field(column) == value)
    cells = lake.rows("benchmark", where)
    if len(cells) != 1:
        raise UserError(f"{len(cells) or 'no'} cells for --dataset {dataset} --method {method} --metric {metric}; {_choices(lake)}")
    cell = cells[0]
    facts = {
        name: cell[name] for name in ("protocol", "split", "method", "variant", "seed", "metric", "value", "low", "high", "clips", "frames")
    }
    return Node("benchmark", {**facts, **_commit(lake, "benchmark")}, [_prediction(lake, cell)])


def _choices(lake: Lake) -> str:
    cells = {
        (row["dataset"], row["method"], row["variant"], row["protocol"])
        for row in lake.rows("benchmark", columns=["dataset", "method", "variant", "protocol"])
    }
    listed = "; ".join(f"--dataset {d} --method {m} --variant {v} --protocol {p}" for d, m, v, p in sorted(cells))
    metrics = sorted({row["metric"] for row in lake.rows("benchmark", columns=["metric"])})
    return f"there are: {listed}, with --metric {' '.join(metrics)}" if listed else "nothing is scored yet; run `rotoscope demo` first"


def _prediction(lake: Lake, cell: dict[str, Any]) -> Node:
    rows = lake.rows("predictions", pc.field("prediction_id") == cell["prediction_id"])
    scored = (
        (pc.field("prediction_id") == cell["prediction_id"])
        & (pc.field("metric") == cell["metric"])
        & (pc.field("protocol") == cell["protocol"])
    )
    scores = {row["clip_id"]: row for row in lake.rows("scores", scored)}
    below = [_checkpoint(lake, row["checkpoint_id"]) for row in rows[:1] if row["checkpoint_id"]]
    clips = [
        _clip(lake, row["dataset"], row["clip_id"], {"generated_sha256": row["sha256"], "score": _mean(scores.get(row["clip_id"]))})
        for row in rows
    ]
    facts = {"id": cell["prediction_id"], "sampler": rows[0]["sampler"] if rows else None, "clips": len(rows)}
    return Node("prediction", {**facts, **_commit(lake, "predictions")}, [*below, Node("scored clips", {"count": len(clips)}, clips)])


def _mean(score: dict[str, Any] | None) -> float | None:
    return None if score is None or not score["count"] else score["sum"] / score["count"]


def _checkpoint(lake: Lake, checkpoint_id: str) -> Node:
    found = lake.rows("checkpoints", pc.field("checkpoint_id") == checkpoint_id)
    if not found:
        return Node("checkpoint", {"id": checkpoint_id, "missing": True})
    row = found[0]
    names = ("stage", "seed", "steps", "digest", "code_version", "training_rows_version")
    facts = {"id": checkpoint_id, **{name: row[name] for name in names}, **_commit(lake, "checkpoints")}
    below = _checkpoint(lake, row["parent"]) if row["parent"] else _training_rows(lake, row)
    return Node("checkpoint", facts, [below])


def _training_rows(lake: Lake, checkpoint: dict[str, Any]) -> Node:
    mine = (pc.field("dataset") == checkpoint["dataset"]) & (pc.field("method") == checkpoint["method"])
    try:
        table = lake.read("training_rows", where=mine, version=checkpoint["training_rows_version"])
    except UserError as error:  # parts of an old version that held removed rows are gone
        return Node("training rows", {"version": checkpoint["training_rows_version"], "removed": str(error)})
    unchanged = digest_rows("training_rows", table) == checkpoint["training_rows_digest"]
    rows = table.to_pylist()
    facts = {
        "count": len(rows),
        "digest": checkpoint["training_rows_digest"],
        "matches": unchanged,
        "version": checkpoint["training_rows_version"],
    }
    return Node(
        "training rows", facts, [_clip(lake, row["dataset"], row["clip_id"], {"clips_version": row["clips_version"]}) for row in rows]
    )


def _clip(lake: Lake, dataset: str, clip_id: str, facts: dict[str, Any]) -> Node:
    mine = (pc.field("dataset") == dataset) & (pc.field("clip_id") == clip_id)
    found = lake.rows("clips", mine)
    if not found:
        return Node("clip", {"id": clip_id, "missing": True, **facts})
    row = found[0]
    video = lake.rows("videos", (pc.field("dataset") == dataset) & (pc.field("video_id") == row["video_id"]))
    shown = {"id": clip_id, "frames": f"{row['start_frame']}..{row['end_frame'] - 1}", "split": row["split"], **facts}
    files = [Node("video", {"id": v["video_id"], "sha256": v["sha256"], "bytes": v["bytes"], "uri": v["uri"]}) for v in video]
    return Node("clip", shown, [*_features(lake, mine), *files])


def _features(lake: Lake, mine: pc.Expression) -> list[Node]:
    made = {
        (row["extractor"], row["version"], row["weights_digest"])
        for row in lake.rows("poses", mine, ["extractor", "version", "weights_digest"])
    }
    return [Node("poses", {"extractor": extractor, "version": version, "weights": digest}) for extractor, version, digest in sorted(made)]


def _commit(lake: Lake, table: str) -> dict[str, Any]:
    """The newest commit of the table that says which run made it."""
    for commit in lake.lineage(table):
        if "run_id" in commit:
            return {"table_version": commit["version"], "run": commit["run_id"], "git": commit.get("git_commit")}
    return {}
