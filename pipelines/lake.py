"""The lake: every table as Delta Lake (Parquet parts and a log), one reader, one writer.

A write is an upsert by the table's key in one atomic commit: parts that hold rows of the same key are rewritten without
them in that commit. Commits of several writers are serialised by an application transaction: the loser reads again and retries.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipelines.clip import Clip
from pipelines.errors import UserError
from pipelines.tables import TABLES, TableSpec

Rows: TypeAlias = pa.Table | Sequence[Mapping[str, Any]]

_APPLICATION = "rotoscope"  # two commits of the same application transaction conflict, so writers never interleave
_RETRIES = 20
_SMALL_PART_BYTES = 32 << 20
_CLIPS_PER_ROW_GROUP = 16
_RETENTION = {"delta.deletedFileRetentionDuration": "interval 90 days", "delta.logRetentionDuration": "interval 90 days"}

# What a row says of where and when it was made, not of what it is: left out of content digests.
VOLATILE = {"uri", "seconds", "time", "run_id", "clips_version", "poses_version", "training_rows_version"}


class Lake:
    """All tables and files under one root folder."""

    def __init__(self, root: Path | str) -> None:
        if "://" in str(root):
            raise UserError(f"ROTOSCOPE_HOME={root}: only local folders can be the lake's root so far; give a path")
        self.root = Path(root).expanduser().absolute()

    def create(self) -> Lake:
        """Make the folders and every missing table; safe to repeat. Raises UserError where the root is not writable."""
        from deltalake import DeltaTable

        try:
            for folder in ("delta", "tables", "videos", "checkpoints", "generated", "reports"):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            probe = self.root / f".writable-{uuid.uuid4().hex}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"the lake {self.root} cannot be written ({error.strerror}); set ROTOSCOPE_HOME to a folder that you can write to"
            ) from None
        for spec in TABLES.values():
            if not (self._folder(spec.name) / "_delta_log").exists():
                DeltaTable.create(os.fspath(self._folder(spec.name)), schema=spec.schema, mode="ignore", configuration=_RETENTION)
        return self

    # --- files -------------------------------------------------------------------------------------------------------

    def path(self, uri: str) -> Path:
        """Absolute path of a uri of a row (relative ones start at the root)."""
        return self.root / uri

    def uri(self, path: Path) -> str:
        """How a row names a file: relative to the root when inside it, so that a lake can be moved."""
        absolute = path.absolute()
        return str(absolute.relative_to(self.root)) if absolute.is_relative_to(self.root) else str(absolute)

    def _folder(self, table: str) -> Path:
        return self.root / "delta" / table

    # --- reading -----------------------------------------------------------------------------------------------------

    def _open(self, table: str, version: int | None = None) -> Any:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        spec_of(table)
        try:
            return DeltaTable(os.fspath(self._folder(table)), version=version)
        except TableNotFoundError:
            raise UserError(
                f"there is no lake in {self.root} yet; run `rotoscope demo` or `rotoscope run --folder DIR` first, or set ROTOSCOPE_HOME"
            ) from None

    def version(self, table: str) -> int:
        """Number of the newest commit."""
        return int(self._open(table).version())

    def files(self, table: str, version: int | None = None) -> list[str]:
        """Parquet parts that make up the table, for readers that take a list of files."""
        return sorted(self._open(table, version).file_uris())

    def read(
        self, table: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None, version: int | None = None
    ) -> pa.Table:
        """Rows of a table, sorted by its key; `where` is pushed down to the parts."""
        spec = spec_of(table)
        names = list(columns) if columns is not None else spec.schema.names
        rows = self._scan(spec, self.files(table, version), sorted({*names, *spec.key}, key=spec.schema.names.index), where)
        return rows.sort_by([(name, "ascending") for name in spec.key]).select(names)

    def _scan(self, spec: TableSpec, files: Sequence[str], columns: Sequence[str], where: pc.Expression | None) -> pa.Table:
        if not files:
            return spec.schema.empty_table().select(list(columns))
        return ds.dataset(list(files), schema=spec.schema, format="parquet").to_table(columns=list(columns), filter=where)

    def rows(self, table: str, where: pc.Expression | None = None, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The same as a list of dicts."""
        rows: list[dict[str, Any]] = self.read(table, columns=columns, where=where).to_pylist()
        return rows

    def clips(self, dataset: str, split: str | None = None) -> list[Clip]:
        """Usable clips of a data set, sorted by id, with absolute paths."""
        where = (pc.field("dataset") == dataset) & (pc.field("status") == "ok")
        if split is not None:
            where = where & (pc.field("split") == split)
        return [Clip.from_row({**row, "uri": str(self.path(row["uri"]))}) for row in self.rows("clips", where)]

    def lineage(self, table: str) -> list[dict[str, Any]]:
        """What each commit said of itself, newest first: version, asset, run id, code version, versions of its inputs."""
        return [
            {"version": commit["version"], **json.loads(commit[_APPLICATION])}
            for commit in self._open(table).history()
            if _APPLICATION in commit
        ]

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self, table: str, rows: Rows, lineage: Mapping[str, Any] | None = None) -> int:
        """Upsert by key in one commit; returns the table's version (unchanged when there are no rows).

        Raises UserError for columns that the table does not have, or for two rows of one key.
        """
        spec = spec_of(table)
        new = _as_table(spec, rows)
        return self._commit(spec, new, lineage or {}) if new.num_rows else self.version(table)

    def delete(self, table: str, where: pc.Expression, lineage: Mapping[str, Any] | None = None) -> int:
        """Remove the rows for which `where` holds, in one commit."""
        spec = spec_of(table)
        doomed = self.read(table, columns=spec.key, where=where)
        return self._commit(spec, spec.schema.empty_table(), lineage or {}, doomed=doomed) if doomed.num_rows else self.version(table)

    def compact(self, table: str) -> int:
        """Merge small parts into one, through the same writer; returns the version."""
        spec = spec_of(table)
        small = [name for name in self.files(table) if os.path.getsize(name) < _SMALL_PART_BYTES]
        if len(small) < 2:
            return self.version(table)
        for _ in range(_RETRIES):
            handle = self._open(table)
            small = [name for name in handle.file_uris() if os.path.getsize(name) < _SMALL_PART_BYTES]
            merged = self._scan(spec, small, spec.schema.names, None)
            if self._try_commit(handle, spec, merged, small, {"operation": "compact"}, data_change=False):
                break
        return self.version(table)

    def _commit(self, spec: TableSpec, new: pa.Table, lineage: Mapping[str, Any], doomed: pa.Table | None = None) -> int:
        keys = new if doomed is None else doomed
        for attempt in range(_RETRIES):
            handle = self._open(spec.name)
            touched, kept = self._untouched_rows(spec, handle.file_uris(), keys)
            if self._try_commit(handle, spec, pa.concat_tables([kept, new]), touched, lineage):
                self._publish(spec)
                return self.version(spec.name)
            time.sleep(0.01 * (attempt + 1))
        raise UserError(f"table {spec.name} is being written by too many others at once; run the command again")

    def _untouched_rows(self, spec: TableSpec, files: Sequence[str], keys: pa.Table) -> tuple[list[str], pa.Table]:
        """Parts that hold a row of one of `keys`, and their other rows."""
        wanted = keys.select(list(spec.key)).append_column("_new", pa.array([True] * keys.num_rows))
        touched, kept = [], [spec.schema.empty_table()]
        for name in files:
            held = pq.read_table(name, columns=list(spec.key)).append_column("_row", pa.array(range(pq.read_metadata(name).num_rows)))
            joined = held.join(wanted, keys=list(spec.key), join_type="left outer")
            stay = joined.filter(pc.is_null(joined["_new"]))["_row"]
            if len(stay) < held.num_rows:
                touched.append(name)
                kept.append(pq.read_table(name, schema=spec.schema).take(stay.sort()) if len(stay) else spec.schema.empty_table())
        return touched, pa.concat_tables(kept)

    def _try_commit(
        self, handle: Any, spec: TableSpec, rows: pa.Table, removed: Iterable[str], lineage: Mapping[str, Any], *, data_change: bool = True
    ) -> bool:
        """One atomic commit against the version that `handle` has read; False when another writer was faster."""
        from deltalake.exceptions import CommitFailedError
        from deltalake.transaction import AddAction, CommitProperties, RemoveAction, Transaction

        now_ms = int(time.time() * 1000)
        actions: list[Any] = [RemoveAction(os.path.relpath(name, self._folder(spec.name)), data_change, now_ms) for name in removed]
        part = self._write_part(spec, rows) if rows.num_rows else None
        if part is not None:
            actions.append(AddAction(part.name, part.stat().st_size, {}, now_ms, data_change, _statistics(spec, rows)))
        properties = CommitProperties(
            custom_metadata={_APPLICATION: json.dumps(dict(lineage), default=str)},
            max_commit_retries=0,
            app_transactions=[Transaction(_APPLICATION, handle.version() + 1)],
        )
        try:
            handle.create_write_transaction(actions, "append", handle.schema(), commit_properties=properties)
        except CommitFailedError:
            if part is not None:
                part.unlink()
            return False
        return True

    def _write_part(self, spec: TableSpec, rows: pa.Table) -> Path:
        rows = rows.sort_by([(name, "ascending") for name in spec.key])
        path = self._folder(spec.name) / f"part-{uuid.uuid4().hex}.parquet"
        texts = [name for name, kind in spec.columns if pa.types.is_string(kind)]
        with pq.ParquetWriter(
            path, spec.schema, compression="zstd", use_dictionary=texts, column_encoding=_float_encodings(spec)
        ) as writer:
            for group in _row_groups(rows):
                writer.write_table(group)
        return path

    def _publish(self, spec: TableSpec) -> None:
        if spec.published:
            write_parquet(self.root / "tables" / f"{spec.name}.parquet", self.read(spec.name))


def spec_of(table: str) -> TableSpec:
    """The table's spec; UserError lists what there is."""
    if table not in TABLES:
        raise UserError(f"no table {table!r}; there are: {', '.join(sorted(TABLES))}")
    return TABLES[table]


def write_parquet(path: Path, rows: pa.Table) -> None:
    """One plain Parquet file, whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    pq.write_table(rows, partial, compression="zstd")
    os.replace(partial, path)


def digest_rows(table: str, rows: pa.Table) -> str:
    """sha256 over the rows' content: the order of rows, and where and when they were made (VOLATILE), do not matter."""
    spec = spec_of(table)
    stable = [name for name in rows.column_names if name not in VOLATILE]
    order = [(name, "ascending") for name in spec.key if name in stable]
    plain = rows.select(stable).sort_by(order).combine_chunks()
    plain = plain.take(pa.array(range(plain.num_rows), pa.int64()))  # fresh buffers: no offsets, no spare validity bits
    digest = hashlib.sha256()
    for batch in plain.combine_chunks().to_batches():
        digest.update(batch.serialize())
    return digest.hexdigest()


def _as_table(spec: TableSpec, rows: Rows) -> pa.Table:
    if not isinstance(rows, pa.Table):
        unknown = sorted({name for row in rows for name in row} - set(spec.schema.names))
        if unknown:
            raise UserError(f"table {spec.name} has no column {', '.join(unknown)}; it has: {', '.join(spec.schema.names)}")
        rows = pa.Table.from_pylist([dict(row) for row in rows], schema=spec.schema)
    table = rows.select(spec.schema.names).cast(spec.schema)
    distinct = table.select(list(spec.key)).group_by(list(spec.key)).aggregate([])
    if distinct.num_rows < table.num_rows:
        raise UserError(f"two rows for one key {spec.key} in a write to table {spec.name}")
    return table


def _float_encodings(spec: TableSpec) -> dict[str, str]:
    encodings = {}
    for name, kind in spec.columns:
        if pa.types.is_list(kind) and pa.types.is_floating(kind.value_type):
            encodings[f"{name}.list.element"] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_floating(kind):
            encodings[name] = "BYTE_STREAM_SPLIT"
    return encodings


def _row_groups(rows: pa.Table) -> Iterable[pa.Table]:
    """Row groups of whole clips, so that one clip is read from one group."""
    if "clip_id" not in rows.column_names or rows.num_rows == 0:
        yield rows
        return
    ids = rows["clip_id"].to_pylist()
    starts = [0] + [i for i in range(1, len(ids)) if ids[i] != ids[i - 1]]
    edges = [*starts[::_CLIPS_PER_ROW_GROUP], len(ids)]
    for start, end in itertools.pairwise(edges):
        yield rows.slice(start, end - start)


def _statistics(spec: TableSpec, rows: pa.Table) -> str:
    low, high = {}, {}
    for name in spec.key:
        if pa.types.is_string(spec.schema.field(name).type) and rows.num_rows:
            bounds = pc.min_max(rows[name]).as_py()
            low[name], high[name] = bounds["min"], bounds["max"]
    return json.dumps({"numRecords": rows.num_rows, "minValues": low, "maxValues": high, "nullCount": {}})
