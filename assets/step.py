"""What one step works on, what its commits say of themselves, and how its result is shown."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from assets.partitions import MODELS_ON_DATASETS
from assets.run_marks import mark
from models.model_key import ModelKey
from pipelines.code_version import ROOT
from pipelines.lake import Lake, digest_rows
from pipelines.progress import Progress
from pipelines.sources import registry
from pipelines.tables import TABLES

if TYPE_CHECKING:
    Result: TypeAlias = dg.MaterializeResult[Any]
else:
    Result = dg.MaterializeResult  # Dagster reads the annotation of a step at run time and knows only the bare class

_PREVIEW_ROWS = 6
_MOST_REASONS = 20


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a run: its lake, its data set and, for a partition of a model, which one."""

    context: dg.AssetExecutionContext
    lake: Lake
    dataset: registry.Dataset
    key: ModelKey | None = None

    @property
    def model(self) -> ModelKey:
        """The model of the partition."""
        assert self.key is not None, "only partitions of a model have one"
        return self.key

    def rows(self, table: str) -> pa.Table:
        """The table's rows of this data set."""
        return self.lake.read(table, where=pc.field("dataset") == self.dataset.name)

    def lineage(self, inputs: Sequence[str], **facts: Any) -> dict[str, Any]:
        """What a commit of this step records."""
        return {
            "asset": [key.to_user_string() for key in sorted(self.context.selected_asset_keys)],
            "run_id": self.context.run.run_id,
            "partition": str(self.context.partition_key),
            "git_commit": git_commit(),
            "code_version": dict(_code_versions(self.context)),
            "inputs": {table: self.lake.version(table) for table in inputs},
            **facts,
        }


def _code_versions(context: dg.AssetExecutionContext) -> dict[str, str | None]:
    definitions = context.assets_def
    return {key.to_user_string(): definitions.code_versions_by_key.get(key) for key in sorted(context.selected_asset_keys)}


def open_step(context: dg.AssetExecutionContext, lake: Lake) -> Step:
    """The step of the running partition; its progress is logged in the run's page. Raises UserError for a data set that is not registered."""
    Progress.listener = context.log.info
    mark(context.instance, context.run.run_id)
    if isinstance(context.partition_key, dg.MultiPartitionKey) or context.assets_def.partitions_def == MODELS_ON_DATASETS:
        parts = dg.MultiPartitionKey.keys_by_dimension.fget(context.partition_key)  # type: ignore[attr-defined]
        return Step(context=context, lake=lake, dataset=registry.load(lake, parts["dataset"]), key=ModelKey.parse(parts["model"]))
    return Step(context=context, lake=lake, dataset=registry.load(lake, context.partition_key))


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """Commit of the checkout, with a + where files differ from it; None outside a checkout."""
    import subprocess

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def table_schema(table: str) -> dg.TableSchema:
    """Columns of a table, for the UI."""
    spec = TABLES[table]
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, str(kind), constraints=dg.TableColumnConstraints(nullable=name not in spec.key))
            for name, kind in spec.columns
        ]
    )


def data_version(table: str, rows: pa.Table) -> dg.DataVersion:
    """From content: equal rows give equal versions."""
    return dg.DataVersion(digest_rows(table, rows))


def preview(rows: pa.Table, columns: Sequence[str]) -> dg.MetadataValue[Any]:
    """The first rows as a Markdown table."""
    head = [[_cell(value) for value in row.values()] for row in rows.select(list(columns)).slice(0, _PREVIEW_ROWS).to_pylist()]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns), *("| " + " | ".join(row) + " |" for row in head)]
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return html.escape(text.replace("\n", " ")[:80], quote=False).replace("|", "\\|")  # names of files come from outside


def reasons(failures: Sequence[tuple[str, ...]]) -> dg.MetadataValue[Any]:
    """What failed, (subject, code, reason) each, as a Markdown table."""
    head = [f"| {' | '.join(_cell(part) for part in failure)} |" for failure in failures[:_MOST_REASONS]]
    more = [f"\nand {len(failures) - _MOST_REASONS} more"] if len(failures) > _MOST_REASONS else []
    return dg.MetadataValue.md("\n".join(["| what | code | reason |", "|---|---|---|", *head, *more]) if failures else "nothing failed")


def picture(path: Path, width: int = 900) -> dg.MetadataValue[Any]:
    """An image file inside the page, shrunk so that the event log stays small."""
    import io

    from PIL import Image

    with Image.open(path) as image:
        image.thumbnail((width, 2000))
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=80)
    return _inline(path.stem, "jpeg", buffer.getvalue())


def inline_png(name: str, data: bytes) -> dg.MetadataValue[Any]:
    """A PNG inside the page."""
    return _inline(name, "png", data)


def _inline(name: str, kind: str, data: bytes) -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(f"![{name}](data:image/{kind};base64,{base64.b64encode(data).decode()})")


def result(
    step: Step,
    table: str,
    rows: pa.Table,
    columns: Sequence[str],
    *,
    checks: Sequence[dg.AssetCheckResult] = (),
    version: dg.DataVersion | None = None,
    **metadata: Any,
) -> Result:
    """A step's outcome: counts, schema, preview, where the rows are, data version and checks."""
    shown: Mapping[str, Any] = {
        "dagster/partition_row_count": rows.num_rows,
        "dagster/column_schema": table_schema(table),
        "preview": preview(rows, columns),
        "delta_version": step.lake.version(table),
        "table": dg.MetadataValue.path(step.lake.storage.url(f"delta/{table}")),
        **metadata,
    }
    return dg.MaterializeResult(
        asset_key=table, metadata=shown, data_version=version or data_version(table, rows), check_results=list(checks)
    )
