"""`rotoscope ablate`: an ablation table of a paper, run here and laid out beside the published one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from assets.exit_status import leave

if TYPE_CHECKING:
    from assets.ablated import Request

_EXAMPLES = """\b
Examples:
  rotoscope ablate --list
  rotoscope ablate --paper hfca --table 3
  rotoscope ablate --paper animate_anyone --table 6 --seeds 0,1,2 --base brief --format latex
  rotoscope ablate --paper hia --table 2 --show

What is trained, animated and scored already is kept: a run that was stopped goes on, and a second one trains nothing.
Exit status: 0 all done; 1 finished, some rows or clips are missing; 2 the user's error; 3 ours."""


@click.command(epilog=_EXAMPLES)
@click.option("--paper", help="animate_anyone, hfca, hia, stable_animator or pose_animate.")
@click.option("--table", "number", help="Number of the table, as the paper has it; `figure 5`, `sanity` (see --list).")
@click.option(
    "--dataset", default="performers_dance", show_default=True, help="Data set to train on and to score; the demo's is made when missing."
)
@click.option("--seeds", default="0,1,2", show_default=True, help="Seeds of the training, with commas.")
@click.option("--base", help="Size of the models: demo, brief (shows that it runs) or paper; default: the demo's, as the table needs it.")
@click.option("--format", "style", type=click.Choice(["text", "markdown", "latex", "csv", "html"]), default="text", show_default=True)
@click.option("--show", is_flag=True, help="Lay out what was run already; train nothing.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be trained, and stop.")
@click.option("--list", "list_all", is_flag=True, help="Every ablation with its rows, and stop.")
def ablate(
    paper: str | None,
    number: str | None,
    dataset: str,
    seeds: str,
    base: str | None,
    style: str,
    show: bool,
    only_plan: bool,
    list_all: bool,
) -> None:
    """Run an ablation table: train what differs, animate, score, and lay it out beside the paper's numbers."""
    from models.ablations import ablation_named
    from pipelines.errors import UserError

    if list_all:
        _list(base)
        return
    if paper is None or number is None:
        raise UserError("give --paper and --table, for example --paper hfca --table 3; `rotoscope ablate --list` shows what there is")
    from assets.ablated import Request

    ablation = ablation_named(paper, number)
    request = Request(ablation=ablation, dataset=dataset, base=base or ablation.base, seeds=_seeds(seeds))
    if only_plan:
        _say_plan(request)
        return
    failed, usable = (0, 1) if show else _run(request)
    _show(request, style)
    leave(failed, usable, query="variant, seed, clip_id, code, reason from predictions where status <> 'ok'")


def _seeds(text: str) -> tuple[int, ...]:
    from pipelines.errors import UserError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise UserError(f"--seeds {text}: give whole numbers with commas, for example 0,1,2")
    return tuple(int(part) for part in parts)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _run(request: Request) -> tuple[int, int]:
    """(rows, models and clips that are missing, clips that are there)."""
    from assets.ablated import ablate as run
    from assets.home import open_instance, open_lake

    with open_instance() as instance:
        done = run(instance, open_lake(), request, _say)
    for line in done.written.not_run:
        _say(f"missing: {line}")
    if done.longest:
        _say(done.longest)
    return done.missing_clips + len(done.failed) + len(done.written.not_run), done.clips - done.missing_clips


def _say_plan(request: Request) -> None:
    from assets.ablated import planned
    from assets.home import open_lake
    from pipelines.sources.registry import load

    lake = open_lake()
    for label, reason in request.missing().items():
        click.echo(f"not run: {label} ({reason})")
    for line in planned(lake, load(lake, request.dataset), request).lines():
        click.echo(line)


def _show(request: Request, style: str) -> None:
    """The table as the lake has it now; `html` is the page, of which the path is said."""
    from assets.ablated import subject_of, written_table
    from assets.home import lake_root
    from eval.ablation_page import ablation_text, terminal_width
    from eval.ablation_table import ablation_table
    from eval.training_cost import cost_grid, training_costs
    from pipelines.lake import Lake

    lake = Lake(lake_root())
    made, subject = written_table(lake, request), subject_of(request)
    table = ablation_table(made.study, title=subject.title, paper=subject.paper, number=subject.number)
    if style != "html":
        cost = cost_grid(training_costs(lake, made.study))
        click.echo(ablation_text(made.study, table, style, terminal_width(), cost=cost), nl=False)
    if style in ("html", "text") and made.page.is_file():
        click.echo(f"page: {made.page}")


def _list(wanted: str | None) -> None:
    """Every table with the model that each of its rows is."""
    from models.ablations import ABLATIONS, not_offered

    for ablation in ABLATIONS.values():
        base = wanted or ablation.base
        missing = not_offered(ablation, base)
        click.echo(f"--paper {ablation.paper} --table {ablation.table}: {ablation.about} ({ablation.place})")
        for row in ablation.rows:
            here = missing.get(row.printed) or f"{ablation.method}:{row.variant(base)}"
            click.echo(f"  {row.printed}: {here}" + (" (full)" if row.printed == ablation.full else ""))
