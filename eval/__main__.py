"""`python -m eval`: score generated clips, make the benchmark table, write the report.

Exit status: 0 all done; 1 finished, some clips failed; 2 input that cannot be used.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipelines.errors import UserError
from pipelines.lake import Lake

_EXAMPLES = """
\b
Examples:
  python -m eval score --home lake --dataset performers_dance --prediction 1f3a5c7e9b2d4f60
  python -m eval score --home lake --predictions my_clips/
  python -m eval benchmark --home lake --dataset performers_dance --protocol demo
  python -m eval accuracy --home lake --dataset performers_dance
  python -m eval report --home lake --dataset performers_dance --output report.html

A folder of clips needs a manifest.json; pipelines/prediction_manifest.py says what is in it.
"""

_Command = Callable[..., Any]


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """From generated clips to tables: pixel metrics, FID, FVD and LPIPS under named protocols; and how right extractors are."""


def _shared(command: _Command) -> _Command:
    """Options that every command has."""
    options = [
        click.option(
            "--home",
            type=click.Path(path_type=Path),
            default=lambda: os.environ.get("ROTOSCOPE_HOME", "lake"),
            show_default="$ROTOSCOPE_HOME or lake",
            help="Folder of the lake.",
        ),
        click.option("--protocol", default="standard", show_default=True, help="How clips become numbers; docs/protocols.md lists them."),
        click.option("--dataset", help="Data set id."),
        click.option("--split", default="test", show_default=True, help="Split of the data set."),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def _required(value: str | None, name: str) -> str:
    if not value:
        raise UserError(f"--{name} is missing; say which {name}, for example --{name} performers_dance")
    return value


@main.command("score", epilog=_EXAMPLES)
@_shared
@click.option("--prediction", "prediction_id", help="Id of predictions in the lake; default: all of the split.")
@click.option(
    "--predictions",
    type=click.Path(path_type=Path),
    help="Folder of clips with manifest.json: import it, then score it.",
)
@click.option("--ignore-cache", is_flag=True, help="Compute everything again.")
@click.option("--device", default="cpu", show_default=True, help="Where the networks run: cpu, cuda.")
def score_command(
    home: Path,
    protocol: str,
    dataset: str | None,
    split: str,
    prediction_id: str | None,
    predictions: Path | None,
    ignore_cache: bool,
    device: str,
) -> None:
    """Score generated clips against the true ones; what is scored already is left alone."""
    from eval.predictions import import_predictions
    from eval.score import score

    lake = Lake(home)
    if predictions is not None:
        manifest = import_predictions(lake, predictions)
        dataset, split, prediction_id = manifest.dataset, manifest.split, manifest.prediction_id
    dataset = _required(dataset, "dataset")
    failed = 0
    for chosen in [prediction_id] if prediction_id else _all_predictions(lake, dataset, split):
        report = score(
            lake,
            protocol=protocol,
            dataset=dataset,
            split=split,
            prediction_id=chosen,
            ignore_cache=ignore_cache,
            device=device,
            progress=_show,
        )
        click.echo(f"{chosen}: {report.scored} scored, {report.cached} unchanged, {len(report.failed)} failed ({report.seconds:.1f} s)")
        for reason in report.missing.values() if not report.clips else ():
            click.echo(f"  {reason}", err=True)
        for clip_id, code, reason in report.failed:
            click.echo(f"  {clip_id}: {code}: {reason}", err=True)
        failed += len(report.failed)
    sys.exit(1 if failed else 0)


def _all_predictions(lake: Lake, dataset: str, split: str) -> list[str]:
    import pyarrow.compute as pc

    rows = lake.rows("predictions", (pc.field("dataset") == dataset) & (pc.field("split") == split), columns=["prediction_id"])
    if not rows:
        raise UserError(f"no predictions for {dataset}/{split} in {lake.address}; import a folder with --predictions DIR")
    return sorted({row["prediction_id"] for row in rows})


def _show(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done}/{total} clips", nl=done == total, err=True)


@main.command("benchmark", epilog=_EXAMPLES)
@_shared
@click.option("--format", "style", default="text", show_default=True, help="text, markdown, latex, csv.")
def benchmark_command(home: Path, protocol: str, dataset: str | None, split: str, style: str) -> None:
    """Make the benchmark table from the scores and print it."""
    from eval.benchmark import benchmark
    from eval.table_files import check_format, rows_as

    check_format(style)
    rows = benchmark(Lake(home), protocol=protocol, dataset=_required(dataset, "dataset"), split=split).to_pylist()
    click.echo(rows_as(rows, style))


@main.command("accuracy", epilog=_EXAMPLES)
@_shared
def accuracy_command(home: Path, protocol: str, dataset: str | None, split: str) -> None:
    """Every extractor's rows against those of `truth`, on a data set of performers; --protocol plays no part."""
    from eval.extractor_accuracy import accuracy_text, extractor_accuracy

    click.echo(accuracy_text(extractor_accuracy(Lake(home), dataset=_required(dataset, "dataset"), split=split)))


@main.command("report", epilog=_EXAMPLES)
@_shared
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="HTML file; .md, .tex and .parquet are written beside it.",
)
@click.option("--include-media", is_flag=True, help="Embed frames of real people.")
@click.option("--drill", help="Metric whose worst and best clips are shown; default: lpips, else psnr.")
def report_command(
    home: Path, protocol: str, dataset: str | None, split: str, output: Path, include_media: bool, drill: str | None
) -> None:
    """Write the benchmark as one HTML page, with clips side by side."""
    from eval.report import write_report

    path = write_report(
        Lake(home),
        protocol=protocol,
        dataset=_required(dataset, "dataset"),
        split=split,
        path=output,
        include_media=include_media,
        drill=drill,
    )
    click.echo(f"{path}")


@main.command("table", epilog=_EXAMPLES)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    default=lambda: os.environ.get("ROTOSCOPE_HOME", "lake"),
    show_default="$ROTOSCOPE_HOME or lake",
    help="Folder of the lake.",
)
@click.option("--paper", required=True, help="hfca, animate_anyone, pose_animate, stable_animator, hia.")
@click.option("--table", "number", required=True, help="Number of the paper's table: 1, 2a ...")
@click.option("--format", "style", default="text", show_default=True, help="text, markdown, latex, csv.")
def table_command(home: Path, paper: str, number: str, style: str) -> None:
    """A paper's table again as printed, with our rows below where protocol, data set and split match."""
    from eval.grid import render
    from eval.paper_table import lake_grids

    for grid in lake_grids(Lake(home), paper, number):
        click.echo(render(grid, style))


def run() -> None:
    """Entry point: a UserError becomes one line and exit status 2."""
    try:
        main(prog_name="python -m eval")
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    run()
