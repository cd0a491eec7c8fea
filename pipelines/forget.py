"""`rotoscope forget`: a video or a person leaves the lake, with every row, file and old part, and does not come back.

What stays: a tombstone (digest, address, id or name), the numbers that were computed, and checkpoints, flagged `trained_on_removed`.
A user's own file outside the lake is never touched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.compute as pc

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.lake_maintenance import vacuum_rows
from pipelines.tables import TABLES, one_of

Removed = frozenset[tuple[str, str]]
"""(kind, value): kind is sha256, url, video_id (value "dataset/video_id") or person."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetReport:
    """What was deleted, flagged and left alone."""

    videos: tuple[str, ...]  # dataset/video_id
    clips: tuple[str, ...]
    rows: dict[str, int] = field(default_factory=dict)  # deleted rows by table
    files: tuple[str, ...] = ()  # deleted, relative to the root
    parts: int = 0  # old Parquet parts that held such rows
    checkpoints: tuple[str, ...] = ()  # flagged trained_on_removed
    outside: tuple[str, ...] = ()  # the user's own files, which stay where they are

    def lines(self) -> list[str]:
        """Text for the console."""
        said = [f"forgot {len(self.videos)} videos, {len(self.clips)} clips"]
        said += [f"  {count} rows of {table}" for table, count in sorted(self.rows.items())]
        said += [f"  {len(self.files)} files, {self.parts} old parts of tables"]
        said += [f"  flagged as trained on it: checkpoint {name}" for name in self.checkpoints]
        said += [f"  not deleted, because it lies outside the lake: {name} (delete it yourself)" for name in self.outside]
        return said


def forget(
    lake: Lake, *, video: str | None = None, person: str | None = None, dataset: str | None = None, reason: str = "removed on request"
) -> ForgetReport:
    """Delete a video (id, sha256, address or uri) or all videos of a person (the column `subject`), in one data set or in all.

    Repeating it finishes what was interrupted: the tombstone is written first. Raises UserError when nothing matches, or for none or both of the two.
    """
    if (video is None) == (person is None):
        raise UserError("rotoscope forget needs either a video (its id, sha256 or address) or --person NAME")
    videos = _matching(lake, video, person, dataset)
    if not videos and not _known(lake, video, person):
        raise UserError(
            f'nothing in {lake.address} matches {video or person!r}; `rotoscope query "select * from videos"` lists what there is'
        )
    _bury(lake, videos, person, dataset, reason)
    clips = [row for row in lake.rows("clips", columns=["dataset", "clip_id", "video_id", "uri"]) if _key(row) in {_key(v) for v in videos}]
    flagged = _flag_checkpoints(lake, clips)
    files = _files(lake, videos, clips)
    wheres = _filters(videos, clips)
    rows, parts = {}, 0
    for table, where in wheres.items():
        if table == "videos":  # the last one: as long as its rows are there, a call that was cut off finds again what to finish
            _remove_files(lake, files, {row["dataset"] for row in videos})
        rows[table] = _delete(lake, table, where)
        parts += len(vacuum_rows(lake, table, where).deleted)
    return ForgetReport(
        videos=tuple(sorted("/".join(_key(row)) for row in videos)),
        clips=tuple(sorted({row["clip_id"] for row in clips})),
        rows={table: count for table, count in rows.items() if count},
        files=tuple(files),
        parts=parts,
        checkpoints=flagged,
        outside=tuple(sorted({row["uri"] for row in videos if row["uri"] and PurePosixPath(row["uri"]).is_absolute()})),
    )


def removed(lake: Lake) -> Removed:
    """Everything that was forgotten; a source asks before it fetches or lists."""
    return frozenset((row["kind"], row["value"]) for row in lake.rows("removals", columns=["kind", "value"]))


def mark_removed(gone: Removed, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `videos`; those of something forgotten fail with code `removed`, so that no later step touches them."""
    reason = "removed by `rotoscope forget`; not used again"
    return [{**row, "status": "failed", "code": "removed", "reason": reason} if gone & _names(row) else dict(row) for row in rows]


def _names(row: Mapping[str, Any]) -> set[tuple[str, str]]:
    named = [("sha256", row.get("sha256")), ("url", row.get("source_url")), ("person", row.get("subject"))]
    return {(kind, value) for kind, value in named if value} | {("video_id", f"{row['dataset']}/{row['video_id']}")}


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["dataset"], row["video_id"]


def _matching(lake: Lake, video: str | None, person: str | None, dataset: str | None) -> list[dict[str, Any]]:
    """Rows of `videos`; the same bytes under another name or in another data set are the same video."""
    rows = [row for row in lake.rows("videos") if dataset in (None, row["dataset"])]
    if person is not None:
        found = [row for row in rows if row["subject"] == person]
    else:
        found = [row for row in rows if video in (row["video_id"], row["sha256"], row["source_url"], row["uri"])]
    digests = {row["sha256"] for row in found if row["sha256"]}
    return [row for row in rows if row in found or row["sha256"] in digests]


def _known(lake: Lake, video: str | None, person: str | None) -> bool:
    return any(value == (video or person) or value.endswith(f"/{video}") for _, value in removed(lake))


def _bury(lake: Lake, videos: Sequence[Mapping[str, Any]], person: str | None, dataset: str | None, reason: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    stones = {name: row["dataset"] for row in videos for name in _names(row) if name[0] != "person"}
    if person is not None:
        stones["person", person] = dataset or ""
    lake.write(
        "removals",
        [{"kind": kind, "value": value, "dataset": home, "removed_at": now, "reason": reason} for (kind, value), home in stones.items()],
        {"operation": "forget"},
    )


def _filters(videos: Sequence[Mapping[str, Any]], clips: Sequence[Mapping[str, Any]]) -> dict[str, pc.Expression]:
    """Which rows go, by table: those of the clips wherever there is a clip_id, and the videos themselves."""
    homes = sorted({row["dataset"] for row in videos})
    in_homes = one_of("dataset", homes)
    videos_gone = in_homes & one_of("video_id", sorted({row["video_id"] for row in videos}))
    clips_gone = in_homes & one_of("clip_id", sorted({row["clip_id"] for row in clips}))
    by_clip = {name: clips_gone for name, spec in TABLES.items() if {"dataset", "clip_id"} <= set(spec.schema.names)}
    return {**{name: where for name, where in by_clip.items() if name != "clips"}, "clips": videos_gone, "videos": videos_gone}


def _remove_files(lake: Lake, files: Iterable[str], datasets: set[str]) -> None:
    for name in files:
        lake.storage.remove(name)
        lake.storage.forget_copy(name)
    _remove_derived(lake, datasets)


def _delete(lake: Lake, table: str, where: pc.Expression) -> int:
    count = int(lake.read(table, columns=["dataset"], where=where).num_rows)
    lake.delete(table, where, {"operation": "forget"})
    lake.publish(table)  # also where an earlier attempt was cut off between its commit and its snapshot
    return count


def _flag_checkpoints(lake: Lake, clips: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Flag every checkpoint whose training rows held one of the clips, and all that continue from one."""
    gone = {(row["dataset"], row["clip_id"]) for row in clips}
    rows = lake.rows("checkpoints")
    flagged = {row["checkpoint_id"] for row in rows if row["trained_on_removed"]}
    fresh = {row["checkpoint_id"] for row in rows if row["checkpoint_id"] not in flagged and _trained_on(lake, row, gone)}
    while True:
        children = {row["checkpoint_id"] for row in rows if row["parent"] in flagged | fresh} - flagged - fresh
        if not children:
            break
        fresh |= children
    lake.write(
        "checkpoints", [{**row, "trained_on_removed": True} for row in rows if row["checkpoint_id"] in fresh], {"operation": "forget"}
    )
    return tuple(sorted(fresh))


def _trained_on(lake: Lake, checkpoint: Mapping[str, Any], gone: set[tuple[str, str]]) -> bool:
    """Where the rows it was trained on cannot be read any more, a checkpoint of the same data set counts as trained on it."""
    if not any(home == checkpoint["dataset"] for home, _ in gone):
        return False
    mine = (pc.field("dataset") == checkpoint["dataset"]) & (pc.field("method") == checkpoint["method"])
    try:
        rows = lake.read("training_rows", ["dataset", "clip_id"], mine, checkpoint["training_rows_version"]).to_pylist()
    except UserError:
        return True
    return any((row["dataset"], row["clip_id"]) in gone for row in rows)


# --- files -----------------------------------------------------------------------------------------------------------


def _files(lake: Lake, videos: Sequence[Mapping[str, Any]], clips: Sequence[Mapping[str, Any]]) -> list[str]:
    """Files inside the lake, relative: videos and what lies beside them, and generated clips; none that another video still needs."""
    doomed = {_key(row) for row in videos}
    shared = {row[name] for row in lake.rows("videos", columns=["dataset", "video_id", "uri", "annotations"]) if _key(row) not in doomed
              for name in ("uri", "annotations") if row[name]}  # fmt: skip
    wanted = {row[name] for row in videos for name in ("uri", "annotations") if row[name]} - shared
    gone = {(row["dataset"], row["clip_id"]) for row in clips}
    for row in lake.rows("predictions", columns=["prediction_id", "dataset", "clip_id", "uri"]):
        if (row["dataset"], row["clip_id"]) in gone and row["uri"]:
            wanted.add(row["uri"])
            _strike(lake, str(PurePosixPath(row["uri"]).parent / "manifest.json"), row["clip_id"])
    found = {
        name for uri in wanted if not PurePosixPath(uri).is_absolute() and ".." not in PurePosixPath(uri).parts for name in _at(lake, uri)
    }
    kept = {name for uri in shared if not PurePosixPath(uri).is_absolute() for name in _at(lake, uri)} if found else set()
    return sorted(found - kept)


def _at(lake: Lake, uri: str) -> list[str]:
    """The file and its siblings of the same stem (annotations, previews), or all files of the folder."""
    info = lake.storage.info(uri)
    if not info.is_file:
        return lake.list_files(uri)
    path = PurePosixPath(uri)
    return [
        name
        for name in lake.list_files(str(path.parent))
        if PurePosixPath(name).parent == path.parent and PurePosixPath(name).stem.split(".")[0] == path.stem.split(".")[0]
    ]


def _strike(lake: Lake, manifest: str, clip_id: str) -> None:
    """Take one clip out of a folder's manifest."""
    if PurePosixPath(manifest).is_absolute() or not lake.storage.exists(manifest):
        return
    raw = json.loads(lake.read_text(manifest))
    left = [clip for clip in raw.get("clips", []) if clip.get("clip_id") != clip_id]
    lake.write_text(manifest, json.dumps({**raw, "clips": left}, indent=2, ensure_ascii=False) + "\n")


def _remove_derived(lake: Lake, datasets: set[str]) -> None:
    """Whatever else may show the video: the data set's reports and contact sheets, latents kept for training, local copies; all can be made again."""
    for home in sorted(datasets):
        for name in lake.list_files("reports"):
            if PurePosixPath(name).parts[1] == home or PurePosixPath(name).parts[1].startswith((f"{home}_", f"{home}.")):
                lake.storage.remove(name)
                lake.storage.forget_copy(name)
        for name in lake.list_files(f"checkpoints/{home}"):
            if any(part.startswith(".latents-") for part in PurePosixPath(name).parts):
                lake.storage.remove(name)
        for folder in Path(lake.root / "checkpoints" / home).rglob(".latents-*"):
            shutil.rmtree(folder, ignore_errors=True)
