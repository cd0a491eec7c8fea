"""`python -m models`: train a stage, animate held-out clips; on a lake, without Dagster.

Exit status: 0 all done; 1 finished, some clips failed; 2 input that cannot be used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.prediction_manifest import DrivenBy

_EXAMPLES = """
\b
Examples:
  python -m models list
  python -m models train --home lake --dataset performers_dance --model animate_anyone:demo:0
  python -m models train --home lake --dataset performers_dance --model animate_anyone:brief:0 --stage stage_1
  python -m models generate --home lake --dataset performers_dance --model copy_reference
  python -m models generate --home lake --dataset performers_dance --model animate_anyone:demo:0 --driving cross

A model is written method:variant:seed; variant and seed may be left out.
"""

_Command = Callable[..., Any]


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """From rows to generated clips: stages with checkpoints that resume, and clips with a manifest."""


def _on_a_lake(command: _Command) -> _Command:
    """Options of the commands that read and write a lake."""
    home = click.option(
        "--home",
        type=click.Path(path_type=Path),
        default=lambda: os.environ.get("ROTOSCOPE_HOME", "lake"),
        show_default="$ROTOSCOPE_HOME or lake",
        help="Folder of the lake.",
    )
    dataset = click.option("--dataset", required=True, help="Data set id, as `rotoscope status` lists them.")
    model = click.option("--model", required=True, help="method:variant:seed.")
    return home(dataset(model(command)))


@main.command("list")
def list_command() -> None:
    """Every method with its default variant, that variant's stages, and the other variants."""
    from models.methods import methods

    for name, method in methods().items():
        click.echo(f"{name}:{method.default_variant}:0  {', '.join(method.stages_of(method.default_variant)) or 'nothing to train'}")
        others = [variant for variant in method.variants if variant != method.default_variant]
        if others:
            click.echo(f"  variants: {', '.join(others)}")


@main.command("train", epilog=_EXAMPLES)
@_on_a_lake
@click.option("--stage", help="One stage; default: all of the variant's, in order. What is trained already is left alone.")
def train_command(home: Path, dataset: str, model: str, stage: str | None) -> None:
    """Train the stages of a model on the data set's training clips; a run that was cut off continues."""
    from models.companions import write_rows_of_model
    from models.methods import method_named
    from models.model_key import ModelKey
    from models.train import train_stage
    from pipelines.sources.registry import load

    lake, key = Lake(home), ModelKey.parse(model)
    chosen, stages = load(lake, dataset), method_named(key.method).stages_of(key.variant)
    if not stages or (stage is not None and stage not in stages):
        there = f"it has: {', '.join(stages)}" if stages else "it has nothing to train"
        raise UserError(f"{key.method}:{key.variant} has no stage {stage or 'to train'!r}; {there}")
    write_rows_of_model(lake, chosen, key)
    for each in [stage] if stage else stages:
        done = train_stage(lake, chosen, key, each)
        what = "was trained already" if done.reused else f"trained in {done.row['seconds']:.0f} s"
        click.echo(f"{key} {each}: {what}, metrics {done.row['metrics']}: {done.folder}")


def _say_left_out(counts: Mapping[str, int]) -> None:
    for signal, clips in counts.items():
        click.echo(f"{clips} clips are left out: they have no {signal}", err=True)


@main.command("generate", epilog=_EXAMPLES)
@_on_a_lake
@click.option("--driving", type=click.Choice(["self", "cross"]), default="self", show_default=True,
              help="Whose motion is followed: the clip's own, or that of somebody else's held-out clip.")  # fmt: skip
def generate_command(home: Path, dataset: str, model: str, driving: DrivenBy) -> None:
    """Animate every held-out clip of the data set from a reference frame and driving poses."""
    from models.generate import generate
    from models.model_key import ModelKey
    from pipelines.sources.registry import load

    lake = Lake(home)
    done = generate(lake, load(lake, dataset), ModelKey.parse(model), driving)
    _say_left_out(done.left_out)
    click.echo(f"{done.folder}: {len(done.manifest.clips)} clips ({done.reused} were there), {len(done.failures)} failed")
    for clip_id, reason in done.failures.items():
        click.echo(f"  {clip_id}: {reason}", err=True)
    sys.exit(1 if done.failures else 0)


def run() -> None:
    """Entry point: a UserError becomes one line and exit status 2."""
    try:
        main(prog_name="python -m models")
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    run()
