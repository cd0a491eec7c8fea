"""The `rotoscope` command. Exit status: 0 all done; 1 finished, some clips failed; 2 the user's error, or nothing usable; 3 ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from assets.ablate_command import ablate
from assets.animate import animate
from assets.convert_command import convert
from assets.exit_status import leave
from assets.score_command import score
from assets.tiny_command import tiny
from assets.user_study_command import user_study

_EXAMPLES = {
    "demo": "rotoscope demo\n  rotoscope demo --methods all",
    "run": "rotoscope run --folder ~/videos --extractors mediapipe\n"
    "  rotoscope run --source tiktok --option archive=TikTok.zip --accept-terms\n"
    "  rotoscope run --dataset folder_videos --method animate_anyone --variant brief --clip 1a2b3c4d5e6f7a8b",
    "query": 'rotoscope query "select method, metric, value from benchmark"\n  rotoscope query "select * from clips" --output clips.csv',
    "trace": "rotoscope trace --method animate_anyone --metric psnr",
    "export": "rotoscope export scores --output scores.parquet",
    "export-clips": "rotoscope export-clips tiktok --output clips\n  rotoscope export-clips tiktok --output clips --clip 1a2b3c4d5e6f7a8b --mode copy",
    "table": "rotoscope table --paper hfca --table 1\n  rotoscope table --paper stable_animator --table 1 --format latex",
    "forget": "rotoscope forget 00017\n  rotoscope forget --person performer_0007 --dataset performers_dance",
    "status": "rotoscope status",
}


def _with_examples(name: str) -> str:
    return f"\b\nExamples:\n  {_EXAMPLES[name]}"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='\b\nFirst:\n  rotoscope demo\n  rotoscope query "select * from benchmark"',
)
@click.version_option(package_name="rotoscope")
def cli() -> None:
    """From videos of people to a benchmark table of pose-driven animation methods.

    Everything is kept in one folder, the lake: ROTOSCOPE_HOME, or `lake` in the project. Every run is shown by `dg dev`.
    """


@cli.command(epilog=_with_examples("demo"))
@click.option(
    "--methods", default="animate_anyone", show_default=True, help="Names with commas, or `all`: every method whose networks are there."
)
def demo(methods: str) -> None:
    """Draw people, extract, train methods at a small size, animate, score, and write the report."""
    from assets.home import open_instance, open_lake
    from assets.run import run_demo
    from eval.extractor_accuracy import PROTOCOL, accuracy_text
    from eval.table import benchmark_table, table_text

    lake = open_lake()
    with open_instance() as instance:
        done, plan = run_demo(instance, lake, [name.strip() for name in methods.split(",") if name.strip()])
    import pyarrow.compute as pc

    rows = lake.rows("benchmark", pc.field("dataset") == done.dataset)
    click.echo(table_text(benchmark_table([row for row in rows if row["protocol"] != PROTOCOL])))
    click.echo(f"\nextractors against the truth:\n{accuracy_text([row for row in rows if row['protocol'] == PROTOCOL])}")
    for name, reason in plan.left_out.items():
        click.echo(f"\n{name} was left out: {reason}")
    click.echo(f"\nreport: {done.report}\nlook at the runs: dg dev (in the project's folder)")
    leave(done.failed, done.usable)


@cli.command(epilog=_with_examples("run"))
@click.option("--folder", type=click.Path(path_type=Path), help="A directory of videos, searched recursively; becomes a data set.")
@click.option(
    "--source",
    help="tiktok, ted_talks, ubc_fashion, ucf101 (published data sets), url_list (web and YouTube links), or drawn people: performers_dance, _talk, _fashion, _actions.",
)
@click.option(
    "--option", "options", multiple=True, help="KEY=VALUE of the source, for example archive=TikTok.zip; may be repeated (docs/sources.md)."
)
@click.option("--accept-terms", is_flag=True, help="You have read the source's terms and accept them; recorded with every video.")
@click.option("--name", help="Name of the data set that the source makes; default: the source's own.")
@click.option("--dataset", help="A data set that is there already (see `rotoscope status`).")
@click.option(
    "--extractors", default=None, help="Comma-separated: mediapipe (real people), truth (performers). Default for a folder: mediapipe."
)
@click.option(
    "--method", multiple=True, help="Train, animate and score this method too; may be repeated. copy_reference is always scored beside it."
)
@click.option(
    "--variant",
    default=None,
    help="Size and length of the method's training: demo, brief (a few steps), paper (its sizes and weights, on a GPU).",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the method's training.")
@click.option("--clip", "clips", multiple=True, help="Train on and animate only this clip; may be repeated.")
@click.option("--engine", default="ray", show_default=True, help="ray (RAY_ADDRESS, or a local Ray) or serial.")
def run(
    folder: Path | None,
    source: str | None,
    options: tuple[str, ...],
    accept_terms: bool,
    name: str | None,
    dataset: str | None,
    extractors: str | None,
    method: tuple[str, ...],
    variant: str | None,
    seed: int,
    clips: tuple[str, ...],
    engine: str,
) -> None:
    """Take videos through clips and extraction to a contact sheet; with --method also to scores and a report."""
    from assets.command import Videos, parse_options, run_videos

    videos = Videos(folder=folder, dataset=dataset, source=source, options=parse_options(options, accept_terms), name=name, clips=clips)
    done = run_videos(videos, extractors, method, variant, seed, engine)
    if done.sheet:
        click.echo(f"contact sheet: {done.sheet}")
    if done.report:
        click.echo(f"report: {done.report}")
    leave(done.failed, done.usable)


@cli.command(epilog=_with_examples("query"))
@click.argument("sql")
@click.option("--output", type=click.Path(path_type=Path), help="Write the rows to a .parquet, .csv or .json file instead.")
def query(sql: str, output: Path | None) -> None:
    """Run SQL over all tables (DuckDB)."""
    from assets.home import lake_root
    from pipelines.lake import Lake
    from pipelines.query import query as run_query
    from pipelines.query import save

    rows = run_query(Lake(lake_root()), sql)
    if output is not None:
        click.echo(f"{rows.num_rows} rows: {save(rows, output)}")
        return
    from assets.console import show_rows

    show_rows(rows)


@cli.command(epilog=_with_examples("trace"))
@click.option("--method", required=True, help="Method of the cell.")
@click.option("--metric", required=True, help="Metric of the cell.")
@click.option("--dataset", default="performers_dance", show_default=True, help="Data set of the cell.")
@click.option("--variant", default=None, help="Variant, where there are several.")
@click.option("--protocol", default=None, help="Protocol, where there are several.")
def trace(method: str, metric: str, dataset: str, variant: str | None, protocol: str | None) -> None:
    """Walk one benchmark cell down to the sha256 of the videos behind it."""
    from assets.home import lake_root
    from pipelines.lake import Lake
    from pipelines.trace import trace as walk

    node = walk(Lake(lake_root()), dataset=dataset, method=method, metric=metric, protocol=protocol, variant=variant)
    click.echo("\n".join(node.lines()))


@cli.command(epilog=_with_examples("table"))
@click.option("--paper", required=True, help="hfca, animate_anyone, hia, stable_animator or pose_animate.")
@click.option("--table", "number", required=True, help="Number of the table, as the paper has it.")
@click.option("--format", "style", type=click.Choice(["text", "markdown", "latex", "csv", "html"]), default="text", show_default=True)
def table(paper: str, number: str, style: str) -> None:
    """Lay a paper's table out as printed, with our rows where protocol, data set and split are the same; impossible values are marked."""
    from assets.home import lake_root
    from eval.grid import render
    from eval.paper_table import lake_grids
    from models.ablations import rows_here
    from pipelines.lake import Lake

    for grid in lake_grids(Lake(lake_root()), paper, number, rows_here):
        click.echo(render(grid, style))


@cli.command(epilog=_with_examples("forget"))
@click.argument("video", required=False)
@click.option("--person", help="Forget every video of this person (the column `subject`).")
@click.option("--dataset", help="Only in this data set; default: in all of them.")
@click.option("--reason", default="removed on request", show_default=True, help="Kept with the tombstone.")
@click.confirmation_option(prompt="Rows, files and old parts of tables are deleted for good. Go on?")
def forget(video: str | None, person: str | None, dataset: str | None, reason: str) -> None:
    """Delete a video (id, sha256 or address) or a person: rows, files, previews; no crawl brings it back. Files outside the lake stay."""
    from assets.home import lake_root
    from pipelines.forget import forget as remove
    from pipelines.lake import Lake

    report = remove(Lake(lake_root()).create(), video=video, person=person, dataset=dataset, reason=reason)
    click.echo("\n".join(report.lines()))


@cli.command(name="export-clips", epilog=_with_examples("export-clips"))
@click.argument("dataset")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for the files.")
@click.option("--clip", "clips", multiple=True, help="Only this clip; may be repeated.")
@click.option("--mode", type=click.Choice(["copy", "exact"]), default="exact", show_default=True,
              help="copy: packets from the key frame on, at once; exact: encoded again, just the clip's frames.")  # fmt: skip
def export_clips(dataset: str, output: Path, clips: tuple[str, ...], mode: str) -> None:
    """Write a data set's clips as mp4 files."""
    from assets.command import write_clips
    from assets.home import lake_root
    from pipelines.lake import Lake

    failed, written = write_clips(Lake(lake_root()), dataset, output, clips, mode)
    click.echo(f"{written} clips in {output}")
    leave(failed, written)


@cli.command(epilog=_with_examples("export"))
@click.argument("table")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A .parquet, .csv or .json file.")
def export(table: str, output: Path) -> None:
    """Write one table to a file."""
    from assets.home import lake_root
    from pipelines.lake import Lake
    from pipelines.query import save

    rows = Lake(lake_root()).read(table)
    click.echo(f"{rows.num_rows} rows: {save(rows, output)}")


@cli.command(epilog=_with_examples("status"))
def status() -> None:
    """Data sets, tables and the last runs."""
    from assets.console import show_status
    from assets.home import lake_root, open_instance
    from pipelines.lake import Lake

    with open_instance() as instance:
        show_status(Lake(lake_root()), instance)


cli.add_command(ablate)
cli.add_command(animate)
cli.add_command(score)
cli.add_command(convert)
cli.add_command(user_study)
cli.add_command(tiny)


def main() -> None:
    """Entry point: errors of the user are one message and status 2; ours keep their traceback and give 3."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("GLOG_minloglevel", "2")
    from pipelines.errors import UserError

    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        click.echo("stopped; what is finished is kept, run the command again to go on", err=True)
        sys.exit(1)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except Exception:
        import traceback

        traceback.print_exc()
        click.echo("this is a fault of Rotoscope, not of your input; please report it with the lines above", err=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
