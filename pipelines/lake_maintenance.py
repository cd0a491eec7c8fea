"""Upkeep of the tables: merge small parts, and delete parts that no kept version needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.compute as pc

from pipelines.lake import Lake
from pipelines.lake_rows import spec_of
from pipelines.parts import Part, dataset_of, parts_of
from pipelines.tables import TABLES

RETENTION = timedelta(days=90)
ORPHAN_AGE = timedelta(days=1)  # a part that no commit names may belong to a commit that is being made


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What merging did to one table."""

    table: str
    parts_before: int
    parts_after: int
    version: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Vacuumed:
    """What vacuuming one table deleted; paths are relative to the table's folder."""

    table: str
    deleted: tuple[str, ...]
    bytes: int
    kept_versions: tuple[int, ...]


def merge(lake: Lake, table: str) -> Merged:
    """Merge the table's small parts into one, through the lake's own writer (rows, encodings and row groups stay as they are)."""
    before = len(lake.files(table))
    version = lake.compact(table)
    return Merged(table=table, parts_before=before, parts_after=len(lake.files(table)), version=version)


def vacuum(lake: Lake, table: str, retention: timedelta = RETENTION, *, now: datetime | None = None) -> Vacuumed:
    """Delete parts that were replaced more than `retention` ago and that no version named by a benchmark row needs, and parts of failed commits.

    Readers that opened an older version meanwhile keep reading as long as it is younger than the retention; nothing is committed.
    """
    spec, moment = spec_of(table), now or datetime.now(UTC)
    kept = tuple(sorted(named_versions(lake).get(table, ())))
    needed = {part.path for version in kept for part in _parts_at(lake, table, version)}
    deadline = (moment - retention).timestamp()
    replaced = _replaced(lake, table)
    needed |= {path for path, seconds in replaced.items() if seconds > deadline}
    needed |= {part.path for part in parts_of(lake.open_table(table), spec)}
    oldest_orphan = moment - ORPHAN_AGE
    return _delete_parts(lake, table, lambda path, info: path not in needed and (path in replaced or info.mtime < oldest_orphan), kept)


def vacuum_rows(lake: Lake, table: str, where: pc.Expression) -> Vacuumed:
    """Delete at once every part outside the newest version that holds a row for which `where` holds, whatever version needs it."""
    spec, folder = spec_of(table), f"delta/{table}"
    live = {part.path for part in parts_of(lake.open_table(table), spec)}

    def holds(path: str, info: Any) -> bool:
        part = Part(path=path, size=info.size, bounds={})
        if path in live:
            return False
        return bool(dataset_of(lake.storage, spec, folder, [part]).to_table(columns=list(spec.key), filter=where).num_rows)

    return _delete_parts(lake, table, holds, ())


def named_versions(lake: Lake) -> dict[str, set[int]]:
    """Versions by table that the benchmark's numbers were made from, however far back: what `rotoscope trace` reads."""
    found: dict[str, set[int]] = {}
    waiting = [(table, version) for commit in lake.lineage("benchmark") for table, version in commit.get("inputs", {}).items()]
    waiting += [("training_rows", row["training_rows_version"]) for row in lake.rows("checkpoints", columns=["training_rows_version"])]
    for row in lake.rows("training_rows", columns=["clips_version", "poses_version"]):
        waiting += [("clips", row["clips_version"]), ("poses", row["poses_version"])]
    lineages: dict[str, dict[int, dict[str, int]]] = {}
    while waiting:
        table, version = waiting.pop()
        if table not in TABLES or version is None or version in found.setdefault(table, set()):
            continue
        found[table].add(version)
        if table not in lineages:
            lineages[table] = {commit["version"]: commit.get("inputs", {}) for commit in lake.lineage(table)}
        earlier = [number for number in lineages[table] if number <= version]
        waiting += list(lineages[table][max(earlier)].items()) if earlier else []
    return found


def _parts_at(lake: Lake, table: str, version: int) -> list[Part]:
    return parts_of(lake.open_table(table, version), spec_of(table))


def _replaced(lake: Lake, table: str) -> dict[str, float]:
    """When each part left the table, in seconds of Unix time, from the log's entries."""
    times: dict[str, float] = {}
    for name in lake.list_files(f"delta/{table}/_delta_log"):
        if name.endswith(".json") and "checkpoint" not in name:
            for line in lake.storage.read(name).splitlines():
                removal = json.loads(line).get("remove")
                if removal:
                    times[removal["path"]] = removal.get("deletionTimestamp", 0) / 1000
    return times


def _delete_parts(lake: Lake, table: str, doomed: Callable[[str, Any], bool], kept: tuple[int, ...]) -> Vacuumed:
    deleted, size = [], 0
    prefix = f"delta/{table}/"
    for name in lake.list_files(prefix.rstrip("/")):
        path = name.removeprefix(prefix)
        if path.startswith("_delta_log/") or not path.endswith(".parquet"):
            continue
        info = lake.storage.info(name)
        if doomed(path, info):
            lake.storage.remove(name)
            deleted.append(path)
            size += info.size
    return Vacuumed(table=table, deleted=tuple(deleted), bytes=size, kept_versions=kept)
