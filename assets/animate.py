"""`rotoscope animate`: a photograph of one's own, moved by a video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import click

_EXAMPLES = (
    "\b\nExamples:\n  rotoscope animate --reference person.png --driving clip.mp4 --method animate_anyone --output out.mp4\n"
    "  rotoscope animate --reference person.png --driving clip.mp4 --output out.mp4 --variant brief --no-side-by-side --frames 48\n"
    "  rotoscope animate --reference person.png --driving clip.mp4 --output out.mp4 --method hfca --signals body_mask=mediapipe\n"
    "  rotoscope animate --reference person.png --driving clip.mp4 --output out.mp4 --method pose_animate --caption 'a woman in a red dress'"
)


@click.command(epilog=_EXAMPLES)
@click.option("--reference", type=click.Path(path_type=Path), required=True, help="Photograph of one person: PNG or JPEG.")
@click.option("--driving", type=click.Path(path_type=Path), required=True, help="Video of one person whose movements are followed.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The .mp4 to write; one that is there is replaced.")
@click.option("--method", default="animate_anyone", show_default=True, help="Any method of the benchmark.")
@click.option("--variant", default=None, help="Its size: demo, brief, paper. Default: the checkpoint's, else the method's own.")
@click.option(
    "--checkpoint", default=None, help="Folder of a checkpoint, or its id in the lake. Default: the shipped one, else the lake's newest."
)
@click.option(
    "--extractors",
    "extractor",
    default=None,
    help="Whose poses are followed, on photograph and video alike. Default: dwpose_tiny for a shipped checkpoint, else mediapipe.",
)
@click.option(
    "--signals", multiple=True, metavar="NAME=EXTRACTOR",
    help="Who sees what the method needs beside poses (faces, body_mask, densepose, clothing, actions, caption); may be repeated. An extractor "
    "alone stands for all that it gives. Default: that of the checkpoint's training, else the usual one.",
)  # fmt: skip
@click.option(
    "--caption", default=None, help="A sentence that says what the photograph shows, for methods that read one; default: a captioner's."
)
@click.option("--retarget", type=click.Choice(["limb", "linear", "none"]), default="limb", show_default=True,
              help="How the driving skeleton is brought to the person of the photograph (docs/animate.md).")  # fmt: skip
@click.option("--side-by-side/--no-side-by-side", default=True, show_default=True, help="Photograph, pose and result in one picture.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the initial noise.")
@click.option("--steps", type=click.IntRange(1, 1000), default=None, help="Denoising steps. Default: the variant's.")
@click.option("--frames", type=click.IntRange(min=1), default=None, help="At most so many frames. Default: all of the video.")
@click.option("--fps", default=None, help="Frames per second of the output, at most the video's; also the rate of a folder of images.")
def animate(
    reference: Path,
    driving: Path,
    output: Path,
    method: str,
    variant: str | None,
    checkpoint: str | None,
    extractor: str | None,
    signals: tuple[str, ...],
    caption: str | None,
    retarget: str,
    side_by_side: bool,
    seed: int,
    steps: int | None,
    frames: int | None,
    fps: str | None,
) -> None:
    """Let the person of a photograph move as the person of a video does; the mp4 says in its metadata that it is synthetic."""
    from assets.home import lake_root
    from models.animate import Request, animate_photograph
    from models.chosen_checkpoint import choose_checkpoint
    from pipelines.lake import Lake

    request = Request(
        reference=reference, driving=driving, output=output, extractor=extractor, signals=signals,
        caption=caption, retarget=retarget,  # type: ignore[arg-type]
        side_by_side=side_by_side, seed=seed, steps=steps, frames=frames, fps=_rate(fps),
    )  # fmt: skip
    chosen = choose_checkpoint(Lake(lake_root()), method, variant, checkpoint)
    done = animate_photograph(request, chosen, say=lambda line: click.echo(line, err=True))
    height, width = done.size
    click.echo(f"{done.path}: {done.frames} frames of {width}x{height} at {float(done.fps):g} a second")


def _rate(text: str | None) -> Fraction | None:
    """`24`, `29.97` or `30000/1001` as an exact rate. Raises UserError."""
    from pipelines.errors import UserError

    try:
        rate = None if text is None else Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate is not None and rate <= 0:
        raise UserError(f"--fps {text}: give frames per second, for example 24 or 30000/1001")
    return rate
