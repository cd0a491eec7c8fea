"""`python -m pipelines`: from videos to rows, on a lake, without Dagster. Exit status as everywhere: 0, 1, 2 or 3."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources import registry

_EXAMPLES = """
\b
Examples:
  python -m pipelines scan --home lake --folder ~/videos
  python -m pipelines split --home lake --dataset folder_videos
  python -m pipelines extract --home lake --dataset folder_videos --extractors mediapipe
  python -m pipelines sheet --home lake --dataset folder_videos --output sheet.jpg
  python -m pipelines query --home lake "select status, count(*) from clips group by 1"
"""

_home = click.option("--home", type=click.Path(path_type=Path), required=True, help="Root folder of the lake; made where it is missing.")
_dataset = click.option("--dataset", required=True, help="A data set of the lake.")


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """From videos to rows: sources, clips and features."""


@main.command()
@_home
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="A directory of videos, searched recursively.")
def scan(home: Path, folder: Path) -> None:
    """Register a folder as a data set, and probe and hash its videos."""
    from pipelines.sources.store import scan_into

    lake = Lake(home).create()
    dataset = registry.folder_dataset(folder)
    scan_into(lake, dataset)
    registry.register(lake, dataset)
    click.echo(f"data set {dataset.name}")


@main.command()
@_home
@_dataset
def split(home: Path, dataset: str) -> None:
    """Cut a data set's videos into clips."""
    from pipelines.clip_rows import split_into
    from pipelines.split import SplitRule

    lake = Lake(home)
    split_into(lake, registry.load(lake, dataset).name, SplitRule())
    click.echo(f"{len(lake.clips(dataset))} usable clips")


@main.command()
@_home
@_dataset
@click.option("--extractors", help="Comma-separated; default: the data set's.")
@click.option("--engine", default="ray", show_default=True, help="ray or serial.")
@click.option("--retry-failed", is_flag=True, help="Extract clips again that failed before.")
def extract(home: Path, dataset: str, extractors: str | None, engine: str, retry_failed: bool) -> None:
    """Extract what is missing."""
    from pipelines.extract import extract as run
    from pipelines.extractors.registry import extractors_named

    lake = Lake(home)
    names = tuple(name.strip() for name in extractors.split(",")) if extractors else registry.load(lake, dataset).extractors
    report = run(extractors_named(names), lake.clips(dataset), lake, engine, retry_failed=retry_failed)
    click.echo(f"{report.extracted} clips extracted, {report.already_done} were there, {report.failed} failed, in {report.seconds:.1f} s")
    sys.exit(1 if report.failed else 0)


@main.command()
@_home
@_dataset
@click.option("--extractor", help="Whose rows to draw; default: the one that feeds training.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A .jpg or .png file.")
def sheet(home: Path, dataset: str, extractor: str | None, output: Path) -> None:
    """Draw a contact sheet: skeleton, mask outline, face and hand boxes."""
    from pipelines.contact_sheet import contact_sheet

    lake = Lake(home)
    known = registry.load(lake, dataset)
    click.echo(contact_sheet(lake, dataset, extractor or known.training_extractor, output, columns=10, frames_per_clip=5, most_clips=20))


@main.command()
@_home
@click.argument("sql")
@click.option("--output", type=click.Path(path_type=Path), help="A .parquet, .csv or .json file.")
def query(home: Path, sql: str, output: Path | None) -> None:
    """Run SQL over all tables."""
    from pipelines.query import query as run
    from pipelines.query import save

    rows = run(Lake(home), sql)
    click.echo(save(rows, output) if output else rows.to_pandas().to_string(index=False))


def run() -> None:
    """Entry point: a user's error is one message and status 2."""
    try:
        main.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    run()
