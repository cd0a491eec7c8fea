"""The lake: every table as Delta Lake (Parquet parts and a log), one reader, one writer.

A write is an upsert by the table's key in one atomic commit: parts that hold rows of the same key are rewritten without
them in that commit. Commits of several writers are serialised by an application transaction: the loser reads again and retries.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipelines.clip import Clip
from pipelines.delta_log import APPLICATION, RETRIES, create_table, folder_of, read_delta, try_commit
from pipelines.errors import UserError
from pipelines.lake_rows import VOLATILE as VOLATILE
from pipelines.lake_rows import Rows as Rows
from pipelines.lake_rows import as_table
from pipelines.lake_rows import digest_rows as digest_rows
from pipelines.lake_rows import spec_of as spec_of
from pipelines.lake_rows import write_parquet as write_parquet
from pipelines.parts import Part, dataset_of, groups_of, key_filter, key_values, parts_of
from pipelines.storage import Storage
from pipelines.tables import TABLES, TableSpec

_SMALL_PART_BYTES = 16 << 20  # parts below this weight are merged
_REWRITE_BYTES = 32 << 20  # so much is read at a time to be written again, whatever the size of the table
_FOLDERS = ("delta", "tables", "videos", "checkpoints", "generated", "reports")


class Lake:
    """All tables and files under one root: a local folder or s3://bucket/prefix.

    `address` names the root. `root` is a local folder: the root itself, or where the local copies of a bucket's files lie;
    what is written under it reaches the bucket by `put`.
    """

    def __init__(self, root: Path | str) -> None:
        self.storage = Storage.of(root)
        self.address = self.storage.address
        self.root = self.storage.local_root

    def create(self) -> Lake:
        """Make the folders, every missing table and every missing column (null in old rows); safe to repeat.

        Raises UserError where the root is not writable.
        """
        try:
            for folder in _FOLDERS:
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            probe = f".writable-{uuid.uuid4().hex}"
            self.storage.write(probe, b"")
            self.storage.remove(probe)
        except OSError as error:
            raise UserError(
                f"the lake {self.address} cannot be written ({error.strerror}); set ROTOSCOPE_HOME to a folder that you can write to"
            ) from None
        for spec in TABLES.values():
            create_table(self.storage, spec)
        return self

    # --- files -------------------------------------------------------------------------------------------------------

    def path(self, uri: str) -> Path:
        """Absolute local path of a uri of a row (relative ones start at the root); of a file in a bucket, a fresh local copy."""
        return Path(uri) if os.path.isabs(uri) else self.storage.fetch(uri)

    def uri(self, path: Path) -> str:
        """How a row names a file: relative to the root when inside it, so that a lake can be moved."""
        absolute = path.absolute()
        return str(absolute.relative_to(self.root)) if absolute.is_relative_to(self.root) else str(absolute)

    def put(self, path: Path) -> str:
        """Keep a file or folder that was written under `root`: uploads it where the root is a bucket. Returns its uri."""
        return self.storage.put(path)

    def read_text(self, uri: str) -> str:
        """A small file's text. Raises FileNotFoundError."""
        return self.storage.read(uri).decode()

    def write_text(self, uri: str, text: str) -> None:
        """Write a small file, whole or not at all."""
        self.storage.write(uri, text.encode())

    def list_files(self, folder: str) -> list[str]:
        """Relative paths of all files under a folder of the root, sorted."""
        return self.storage.files(folder)

    # --- reading -----------------------------------------------------------------------------------------------------

    def open_table(self, table: str, version: int | None = None) -> Any:
        """The deltalake package's DeltaTable. Raises UserError where there is no lake yet."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        spec_of(table)
        try:
            url, options = self.storage.url(folder_of(table)), self.storage.delta_options
            return read_delta(self.storage, lambda: DeltaTable(url, version=version, storage_options=options))
        except TableNotFoundError:
            raise UserError(
                f"there is no lake in {self.address} yet; run `rotoscope demo` or `rotoscope run --folder DIR` first, or set ROTOSCOPE_HOME"
            ) from None

    def version(self, table: str) -> int:
        """Number of the newest commit."""
        return int(self.open_table(table).version())

    def files(self, table: str, version: int | None = None) -> list[str]:
        """Parquet parts that make up the table, for readers that take a list of files."""
        return sorted(self.open_table(table, version).file_uris())

    def dataset(self, table: str, version: int | None = None) -> ds.Dataset:
        """The table as an Arrow dataset whose filters open only the parts and row groups that they need."""
        spec = spec_of(table)
        return dataset_of(self.storage, spec, folder_of(table), parts_of(self.open_table(table, version), spec))

    def read(
        self, table: str, columns: Sequence[str] | None = None, where: pc.Expression | None = None, version: int | None = None
    ) -> pa.Table:
        """Rows of a table, sorted by its key; `where` is pushed down to the parts. Raises UserError for a version that is gone."""
        spec = spec_of(table)
        names = list(columns) if columns is not None else spec.schema.names
        wanted = sorted({*names, *spec.key}, key=spec.schema.names.index)
        rows = self._scan(spec, parts_of(self.open_table(table, version), spec), wanted, where)
        return rows.sort_by([(name, "ascending") for name in spec.key]).select(names)

    def _scan(self, spec: TableSpec, parts: Sequence[Part], columns: Sequence[str], where: pc.Expression | None) -> pa.Table:
        try:
            with self._explained_reads(spec.name):
                return dataset_of(self.storage, spec, folder_of(spec.name), parts).to_table(columns=list(columns), filter=where)
        except OSError as error:
            if not self.storage.remote:
                raise
            raise UserError(self.storage.refused(error)) from error

    @contextmanager
    def _explained_reads(self, table: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise UserError(
                f"a part of this version of table {table} is gone: it is older than the retention, or it held rows that were removed "
                f"by `rotoscope forget` ({str(error).splitlines()[0]}); read the newest version"
            ) from None

    def rows(self, table: str, where: pc.Expression | None = None, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The same as a list of dicts."""
        rows: list[dict[str, Any]] = self.read(table, columns=columns, where=where).to_pylist()
        return rows

    def clips(self, dataset: str, split: str | None = None) -> list[Clip]:
        """Usable clips of a data set, sorted by id, with absolute paths; where the root is a bucket, s3:// addresses for `storage.local_file`."""
        where = (pc.field("dataset") == dataset) & (pc.field("status") == "ok")
        if split is not None:
            where = where & (pc.field("split") == split)
        return [Clip.from_row({**row, "uri": self._address_of(row["uri"])}) for row in self.rows("clips", where)]

    def _address_of(self, uri: str) -> str:
        return uri if os.path.isabs(uri) else self.storage.url(uri)

    def lineage(self, table: str) -> list[dict[str, Any]]:
        """What each commit said of itself, newest first: version, asset, run id, code version, versions of its inputs."""
        return [
            {"version": commit["version"], **json.loads(commit[APPLICATION])}
            for commit in self.open_table(table).history()
            if APPLICATION in commit
        ]

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self, table: str, rows: Rows, lineage: Mapping[str, Any] | None = None) -> int:
        """Upsert by key in one commit; returns the table's version (unchanged when there are no rows).

        Raises UserError for columns that the table does not have, or for two rows of one key.
        """
        spec = spec_of(table)
        new = as_table(spec, rows)
        return self._commit(spec, new, lineage or {}) if new.num_rows else self.version(table)

    def delete(self, table: str, where: pc.Expression, lineage: Mapping[str, Any] | None = None) -> int:
        """Remove the rows for which `where` holds, in one commit."""
        spec = spec_of(table)
        doomed = self.read(table, columns=spec.key, where=where)
        return self._commit(spec, spec.schema.empty_table(), lineage or {}, doomed=doomed) if doomed.num_rows else self.version(table)

    def compact(self, table: str) -> int:
        """Merge small parts, neighbours by key together, through the same writer; returns the version. Memory does not grow with the table."""
        spec, lost = spec_of(table), 0
        while lost < RETRIES:
            handle = self.open_table(table)
            small = [part for part in parts_of(handle, spec) if part.weight < _SMALL_PART_BYTES]
            group = next((group for group in groups_of(small, _REWRITE_BYTES) if len(group) > 1), None)
            if group is None:
                break
            merged = self._scan(spec, group, spec.schema.names, None)
            lost += not try_commit(self.storage, handle, spec, [merged], group, {"operation": "compact"}, data_change=False)
        return self.version(table)

    def _commit(self, spec: TableSpec, new: pa.Table, lineage: Mapping[str, Any], doomed: pa.Table | None = None) -> int:
        keys = (new if doomed is None else doomed).select(list(spec.key))
        for attempt in range(RETRIES):
            handle = self.open_table(spec.name)
            touched = self._touched(spec, parts_of(handle, spec), keys)
            if try_commit(self.storage, handle, spec, self._rewritten(spec, touched, keys, new), touched, lineage):
                self.publish(spec.name)
                return self.version(spec.name)
            time.sleep(0.01 * (attempt + 1))
        raise UserError(f"table {spec.name} is being written by too many others at once; run the command again")

    def _touched(self, spec: TableSpec, parts: Sequence[Part], keys: pa.Table) -> list[Part]:
        """Parts that hold a row of one of `keys`. Only parts and row groups where a key may be are opened."""
        values = key_values(spec, keys)
        near, touched = key_filter(spec, values), []
        for part in parts:
            if part.may_hold(values):
                found = self._scan(spec, [part], spec.key, near)
                if found.num_rows and found.join(keys, keys=list(spec.key), join_type="left semi").num_rows:
                    touched.append(part)
        return touched

    def _rewritten(self, spec: TableSpec, touched: Sequence[Part], keys: pa.Table, new: pa.Table) -> Iterator[pa.Table]:
        """The rows of the touched parts without those of `keys`, a bounded group of parts at a time; the new rows go with the last group."""
        wanted = keys.append_column("_new", pa.array([True] * keys.num_rows))
        *before, last = [*groups_of(touched, _REWRITE_BYTES)] or [[]]
        for group in before:
            yield self._kept(spec, group, wanted)
        yield pa.concat_tables([self._kept(spec, last, wanted), new])

    def _kept(self, spec: TableSpec, parts: Sequence[Part], wanted: pa.Table) -> pa.Table:
        """Rows of the parts whose key is not among `wanted`."""
        if not parts:
            return spec.schema.empty_table()
        whole = self._scan(spec, parts, spec.schema.names, None)
        held = whole.select(list(spec.key)).append_column("_row", pa.array(range(whole.num_rows), pa.int64()))
        joined = held.join(wanted, keys=list(spec.key), join_type="left outer")
        return whole.take(joined.filter(pc.is_null(joined["_new"]))["_row"].sort())

    def publish(self, table: str) -> None:
        """Write the plain snapshot of a table that people read; again where another commit came in between."""
        if not spec_of(table).published:
            return
        for _ in range(RETRIES):
            version = self.version(table)
            sink = pa.BufferOutputStream()
            pq.write_table(self.read(table, version=version), sink, compression="zstd")
            self.storage.write(f"tables/{table}.parquet", sink.getvalue().to_pybytes())
            if self.version(table) == version:
                return
