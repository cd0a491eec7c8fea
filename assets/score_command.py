"""`rotoscope score`: clips that were made elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from assets.exit_status import leave


@click.command(
    epilog="\b\nExamples:\n  rotoscope score --predictions clips --method magic_animate --dataset performers_dance --split test --protocol demo"
)
@click.option("--predictions", type=click.Path(path_type=Path), required=True, help="Folder of clips: mp4, gif, frame folders, or strips.")
@click.option("--method", required=True, help="The method that made them.")
@click.option("--dataset", required=True, help="A data set of the lake.")
@click.option("--split", required=True, help="Its split, for example test.")
@click.option("--protocol", required=True, help="How to score: see docs/protocols.md.")
@click.option("--variant", default="imported", show_default=True, help="Variant of the method; other weights need another one.")
@click.option("--seed", default=0, show_default=True)
@click.option("--reference-frame", default="0", show_default=True, help="Frame of each clip that was the reference, or none.")
@click.option("--uses-truth-sharpness", is_flag=True, help="The method was given the true hands' sharpness.")
def score(
    predictions: Path,
    method: str,
    dataset: str,
    split: str,
    protocol: str,
    variant: str,
    seed: int,
    reference_frame: str,
    uses_truth_sharpness: bool,
) -> None:
    """Score clips that were made elsewhere; what pairs with what is printed before anything is computed (docs/predictions.md)."""
    from assets.home import lake_root
    from eval.import_predictions import score_folder
    from pipelines.lake import Lake

    report = score_folder(
        Lake(lake_root()), predictions, method=method, dataset=dataset, split=split, protocol=protocol, variant=variant, seed=seed,
        reference_frame=frame_number(reference_frame),
        uses_truth_sharpness=uses_truth_sharpness, show=click.echo,
    )  # fmt: skip
    click.echo(f"{report.scored} scored, {report.cached} unchanged, {len(report.failed)} failed; the table with them:")
    click.echo(f"  python -m eval benchmark --home {lake_root()} --dataset {dataset} --split {split} --protocol {protocol}")
    leave(len(report.failed), report.scored + report.cached, "clip_id, metric, code, reason from scores where status = 'failed'")


def frame_number(text: str) -> int | None:
    """What --reference-frame says: a frame's number, or None. Raises UserError."""
    from pipelines.errors import UserError

    if text == "none":
        return None
    if not text.isdigit():
        raise UserError(f"--reference-frame {text}: give a frame's number from 0 on, or none")
    return int(text)
