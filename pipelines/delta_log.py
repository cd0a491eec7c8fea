"""The log of one table: making it, adding columns, and one atomic commit."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa

from pipelines.errors import UserError
from pipelines.parts import Part, write_part
from pipelines.storage import Storage
from pipelines.tables import TableSpec

APPLICATION = "rotoscope"  # two commits of the same application transaction conflict, so writers never interleave
RETRIES = 20
T = TypeVar("T")
_READS = 4
_COMMIT_ID = "rotoscope_commit"
_PROPERTIES = {
    "delta.deletedFileRetentionDuration": "interval 90 days",
    "delta.logRetentionDuration": "interval 90 days",
    # Opening a table reads every entry of the log since its last checkpoint: with the package's own 100, commits get slower and the
    # process larger all through the first hundreds.
    "delta.checkpointInterval": "10",
}


@contextmanager
def explained_delta(storage: Storage) -> Iterator[None]:
    """An object store that fails after all retries is the user's to look at; its message is kept."""
    from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

    try:
        yield
    except (CommitFailedError, TableNotFoundError):
        raise
    except (DeltaError, OSError) as error:
        if not storage.remote:
            raise
        raise UserError(storage.refused(error)) from error


def read_delta(storage: Storage, read: Callable[[], T]) -> T:
    """`read` again where it failed in a bucket: the deltalake package repeats requests, but not those whose answer was cut short."""
    from deltalake.exceptions import DeltaError, TableNotFoundError

    for attempt in range(_READS):
        try:
            with explained_delta(storage):
                return read()
        except TableNotFoundError:
            raise
        except (DeltaError, UserError):
            if not storage.remote or attempt == _READS - 1:
                raise
            time.sleep(0.1 * 2**attempt)
    raise AssertionError("unreachable")


def create_table(storage: Storage, spec: TableSpec) -> None:
    """Make a missing table, or add the columns (null in old rows) and properties that an older one lacks."""
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError, TableNotFoundError

    for _ in range(RETRIES):
        try:
            url, options = storage.url(folder_of(spec.name)), storage.delta_options
            table = read_delta(storage, lambda: DeltaTable(url, storage_options=options))  # noqa: B023  # called at once
            with explained_delta(storage):
                missing = _missing_columns(spec, table)
                if missing:
                    table.alter.add_columns(missing)
                    table = DeltaTable(url, storage_options=options)
                if _PROPERTIES.items() - table.metadata().configuration.items():
                    table.alter.set_table_properties(_PROPERTIES)
            return
        except TableNotFoundError:
            read_delta(storage, lambda: _create(spec, url, options))  # noqa: B023  # called at once
            return
        except CommitFailedError:  # another process adds them at this moment; look again
            time.sleep(0.05)
    raise UserError(f"table {spec.name} is being changed by too many others at once; run the command again")


def _create(spec: TableSpec, url: str, options: dict[str, str]) -> None:
    from deltalake import DeltaTable

    DeltaTable.create(url, schema=spec.schema, mode="ignore", configuration=_PROPERTIES, storage_options=options)


def _missing_columns(spec: TableSpec, table: Any) -> list[Any]:
    """Fields of the spec that an older lake's table has not."""
    from deltalake import Schema

    held = {field.name for field in table.schema().fields}
    return [field for field in Schema.from_arrow(spec.schema).fields if field.name not in held]


def try_commit(
    storage: Storage,
    handle: Any,
    spec: TableSpec,
    rows: Iterable[pa.Table],
    removed: Iterable[Part],
    lineage: Mapping[str, Any],
    *,
    data_change: bool = True,
) -> bool:
    """One atomic commit against the version that `handle` has read; False when another writer was faster.

    rows: each table becomes a part of its own and is dropped before the next one is asked for.
    """
    from deltalake.exceptions import CommitFailedError
    from deltalake.transaction import AddAction, CommitProperties, PostCommitHookProperties, RemoveAction, Transaction

    now_ms, commit_id = int(time.time() * 1000), uuid.uuid4().hex
    actions: list[Any] = [RemoveAction(part.path, data_change, now_ms) for part in removed]
    written = [write_part(storage, spec, folder_of(spec.name), table) for table in rows if table.num_rows]
    actions += [AddAction(name, size, {}, now_ms, data_change, statistics) for name, size, statistics in written]
    version = handle.version() + 1
    properties = CommitProperties(
        custom_metadata={APPLICATION: json.dumps(dict(lineage), default=str), _COMMIT_ID: commit_id},
        max_commit_retries=0,
        app_transactions=[Transaction(APPLICATION, version)],
    )
    # The log is what time travel to a version that a benchmark names needs; it is small and never cleaned up.
    after = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
    try:
        with explained_delta(storage):
            handle.create_write_transaction(
                actions, "append", handle.schema(), commit_properties=properties, post_commithook_properties=after
            )
    except (CommitFailedError, UserError) as error:
        if _committed(storage, spec, version, commit_id):  # it arrived, only its answer was lost
            return True
        if isinstance(error, UserError):  # the part stays: nobody can say that the commit will not arrive
            raise
        for name, *_ in written:
            storage.remove(f"{folder_of(spec.name)}/{name}")
        return False
    return True


def _committed(storage: Storage, spec: TableSpec, version: int, commit_id: str) -> bool:
    """Whether the log's entry of this version is ours: a store that repeats a put may refuse the repetition of one that succeeded."""
    try:
        return commit_id.encode() in storage.read(f"{folder_of(spec.name)}/_delta_log/{version:020}.json")
    except FileNotFoundError:
        return False


def folder_of(table: str) -> str:
    """A table's folder, relative to the root."""
    return f"delta/{table}"
