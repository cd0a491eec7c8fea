"""What a data set is, on one page; and the upkeep of the tables."""

import dagster as dg
from pydantic import Field

from assets.partitions import DATASETS
from assets.resources import LakeResource
from assets.step import Result, open_step
from pipelines.code_version import code_version


class CardConfig(dg.Config):
    """What the card may show."""

    include_media: bool = Field(default=False, description="Show frames of real people. Off: numbers and words only.")


@dg.asset(
    partitions_def=DATASETS,
    group_name="sources",
    kinds={"markdown"},
    code_version=code_version("pipelines/dataset_card.py"),
    deps=[dg.AssetKey("screening_verdicts")],
)
def dataset_card(context: dg.AssetExecutionContext, config: CardConfig, lake: LakeResource) -> Result:
    """Where the videos come from, how many and how long, licences and removals, extractors, screening, and known faults."""
    from pipelines.dataset_card import write_card

    step = open_step(context, lake.open())
    path = write_card(step.lake, step.dataset.name, config.include_media)
    return dg.MaterializeResult(metadata={"card": dg.MetadataValue.md(path.read_text()), "path": dg.MetadataValue.path(str(path))})


class UpkeepConfig(dg.Config):
    """How long replaced parts stay."""

    retention_days: float = Field(
        default=90.0, ge=0, description="Parts replaced longer ago go, unless a benchmark row names their version."
    )


@dg.asset(group_name="lake", kinds={"parquet"}, code_version=code_version("pipelines/lake_maintenance.py"))
def merged_tables(context: dg.AssetExecutionContext, lake: LakeResource) -> Result:
    """Small parts of every table merged into one; the rows do not change."""
    from pipelines.lake_maintenance import merge
    from pipelines.tables import TABLES

    home = lake.open()
    done = [merge(home, table) for table in TABLES]
    counts = {made.table: f"{made.parts_before} -> {made.parts_after}" for made in done if made.parts_after != made.parts_before}
    return dg.MaterializeResult(metadata={"tables": len(done), "merged": counts})


@dg.asset(group_name="lake", kinds={"parquet"}, code_version=code_version("pipelines/lake_maintenance.py"), deps=[merged_tables])
def vacuumed_tables(context: dg.AssetExecutionContext, config: UpkeepConfig, lake: LakeResource) -> Result:
    """Parts that no kept version needs, deleted; versions that a benchmark row names are kept."""
    from datetime import timedelta

    from pipelines.lake_maintenance import vacuum
    from pipelines.tables import TABLES

    home = lake.open()
    done = [vacuum(home, table, timedelta(days=config.retention_days)) for table in TABLES]
    freed = {made.table: len(made.deleted) for made in done if made.deleted}
    return dg.MaterializeResult(metadata={"deleted_parts": freed, "bytes": sum(made.bytes for made in done)})


ASSETS = [dataset_card, merged_tables, vacuumed_tables]
