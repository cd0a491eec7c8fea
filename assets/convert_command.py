"""`rotoscope convert`: what another method's public code writes, brought to what `rotoscope score` reads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from eval.converters.convert import Settings
    from eval.converters.layout import Layout
    from pipelines.lake import Lake

_EXAMPLES = (
    "\b\nExamples:\n  rotoscope convert --method mimic_motion --from outputs --to clips --dataset ted_talks --dry-run\n"
    "  rotoscope convert --method mimic_motion --from outputs --to clips --dataset ted_talks --seed 42 --published-defaults\n"
    "  rotoscope convert --list"
)


def _listed(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from eval.converters.layouts import LAYOUTS

    width = max(len(name) for name in LAYOUTS)
    for name, layout in LAYOUTS.items():
        click.echo(f"{name.ljust(width)}  {layout.kind.ljust(6)}  {layout.pattern}" + ("" if layout.verified else "  (not verified)"))
    context.exit()


@click.command(epilog=_EXAMPLES)
@click.option(
    "--list", "listed", is_flag=True, is_eager=True, expose_value=False, callback=_listed, help="The methods, and what is looked for."
)
@click.option("--method", required=True, help="The method that made the clips; see --list.")
@click.option("--from", "folder", type=click.Path(path_type=Path), required=True, help="Folder that its code wrote.")
@click.option(
    "--to", "out", type=click.Path(path_type=Path), default=None, help="Folder for the converted clips; not needed with --dry-run."
)
@click.option("--dataset", required=True, help="A data set of the lake: its clips are looked for.")
@click.option("--split", default=None, help="Its split. Default: the one that is not train.")
@click.option(
    "--names",
    type=click.Path(path_type=Path),
    default=None,
    help="CSV with the columns path and clip, where file names do not say the clip.",
)
@click.option("--dry-run", is_flag=True, help="Say what is found, and write nothing.")
@click.option("--reference-frame", default="0", show_default=True, help="Frame of each clip that was the reference, or none.")
@click.option("--seed", type=int, default=None, help="Recorded: seed of the sampling.")
@click.option("--steps", type=int, default=None, help="Recorded: denoising steps.")
@click.option("--cfg", type=float, default=None, help="Recorded: guidance scale.")
@click.option("--weights", default=None, help="Recorded: which weights.")
@click.option("--commit", default=None, help="Recorded: commit of the method's code.")
@click.option("--published-defaults", is_flag=True, help="Record the published steps and guidance where they are not given.")
def convert(
    method: str,
    folder: Path,
    out: Path | None,
    dataset: str,
    split: str | None,
    names: Path | None,
    dry_run: bool,
    **recorded: Any,
) -> None:
    """Bring the files of another method's public code to one folder of frames per clip, which `rotoscope score` reads (docs/converters.md)."""
    from assets.home import lake_root
    from eval.converters.convert import convert as write
    from eval.converters.convert import plan_conversion
    from eval.converters.delivered import read_names
    from eval.converters.layouts import layout_named
    from pipelines.errors import UserError
    from pipelines.lake import Lake

    layout, settings = layout_named(method), _settings(layout_named(method), **recorded)
    if out is None and not dry_run:
        raise UserError("--to is missing; give a folder for the converted clips, or --dry-run")
    lake = Lake(lake_root())
    named = {"dataset": dataset, "split": split or _only_split(lake, dataset)}
    plan = plan_conversion(lake, layout, folder, **named, given=None if names is None else read_names(names))
    click.echo(plan.text())
    if out is None or dry_run:
        return
    written = write(plan, out, settings, show=click.echo)
    click.echo(f"{len(written)} clips in {out}; score them:")
    click.echo(f"  rotoscope score --predictions {out} --method {method} --dataset {dataset} --split {named['split']} --protocol PROTOCOL")
    if plan.problems or len(written) < len(plan.planned):
        sys.exit(1)  # some failed; the lines above say which


def _only_split(lake: Lake, dataset: str) -> str:
    from assets.predicted import held_out_split

    return held_out_split(lake, dataset)


def _settings(layout: Layout, *, reference_frame: str, seed: int | None, steps: int | None, cfg: float | None, weights: str | None,
              commit: str | None, published_defaults: bool) -> Settings:  # fmt: skip
    from assets.score_command import frame_number
    from eval.converters.convert import Settings

    return Settings(
        weights_id=weights,
        commit=commit,
        seed=seed,
        steps=layout.steps if steps is None and published_defaults else steps,
        cfg=layout.cfg if cfg is None and published_defaults else cfg,
        reference_frame=frame_number(reference_frame),
    )
