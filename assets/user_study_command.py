"""`rotoscope user-study`: a page that asks people which clip is better, and the table of their answers."""

from __future__ import annotations

from pathlib import Path

import click

_MAKE = (
    "\b\nExamples:\n  rotoscope user-study make --predictions stable_animator:demo:0 --predictions disco --out study\n"
    "  rotoscope user-study make --predictions 1f3a5c7e9b2d4f60 --predictions champ --predictions disco --per-rater 40 --catch 4 --out study"
)
_TABLE = "\b\nExamples:\n  rotoscope user-study table answers/*.json\n  rotoscope user-study table answers/*.json --format latex --output table6.tex"


@click.group(name="user-study")
def user_study() -> None:
    """Ask people which of two clips is better (StableAnimator's user study), and make its Table 6 of the answers (docs/user_study.md)."""


@user_study.command(epilog=_MAKE)
@click.option(
    "--predictions",
    multiple=True,
    required=True,
    help="Id, METHOD[:VARIANT[:SEED]] or folder with manifest.json; ours first, then competitors.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for index.html and media/.")
@click.option("--title", default="Which clip is better?", show_default=True, help="Heads the page.")
@click.option("--seed", default=0, show_default=True, help="Draws clips, and with the rater's name order and sides.")
@click.option("--clips", type=int, default=30, show_default=True, help="True clips that are shown; 0: all that were delivered.")
@click.option("--per-rater", type=int, default=None, help="Pairs that one rater sees, drawn for each. Default: all.")
@click.option(
    "--catch", type=int, default=0, show_default=True, help="Hidden pairs with a known answer: the true clip against a spoilt one."
)
@click.option("--short-side", type=int, default=512, show_default=True, help="Pixels of the shown clips, at most.")
@click.option("--embed", is_flag=True, help="All clips inside index.html (one large file).")
def make(
    predictions: tuple[str, ...],
    out: Path,
    title: str,
    seed: int,
    clips: int,
    per_rater: int | None,
    catch: int,
    short_side: int,
    embed: bool,
) -> None:
    """Write a static page with pairs of clips and four questions; it opens from the file, without a server."""
    from assets.home import lake_root
    from eval.user_study.study import StudySettings, make_study
    from pipelines.lake import Lake

    settings = StudySettings(
        title=title, seed=seed, clips=clips or None, per_rater=per_rater, catch=catch, short_side=short_side, embed=embed
    )
    made = make_study(Lake(lake_root()), predictions, out, settings)
    for clip, prediction, why in made.skipped:
        click.echo(f"not shown: clip {clip} of {prediction}: {why}", err=True)
    click.echo(f"{made.page}: {made.trials} pairs, study {made.study}")
    click.echo(
        "It shows frames of the data set's people to whoever opens it, and its source names the methods: read docs/user_study.md first."
    )


@user_study.command(epilog=_TABLE)
@click.argument("answers", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "style", type=click.Choice(["text", "markdown", "latex", "csv", "json"]), default="text", show_default=True)
@click.option(
    "--least-caught",
    type=float,
    default=0.75,
    show_default=True,
    help="A rater with a smaller share of the hidden pairs right does not count.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write the table to this file.")
def table(answers: tuple[Path, ...], style: str, least_caught: float, output: Path | None) -> None:
    """How often ours is preferred, per competitor and question, with 95 % intervals and the raters' agreement; the printed Table 6 below."""
    from eval.page import write_file
    from eval.user_study.table import FORMATS, study_table

    text = FORMATS[style](study_table(answers, least_caught))
    if output is None:
        click.echo(text, nl=False)
        return
    write_file(output, text)
    click.echo(f"{output}")
