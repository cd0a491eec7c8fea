"""`rotoscope tiny`: the networks that the project trains on performers and ships."""

from __future__ import annotations

from pathlib import Path

import click


@click.group(
    epilog="\b\nExamples:\n  rotoscope tiny list\n  rotoscope tiny train dwpose --out trial --steps 50\n  rotoscope tiny ship animate_anyone"
)
def tiny() -> None:
    """The tiny family: what is shipped, and training it again."""


@tiny.command(name="list")
def list_command() -> None:
    """Every network with its size and the scores of its card."""
    from models.tiny.job import SHIPPED, verify
    from models.tiny.registry import jobs

    for name in jobs():
        if not (SHIPPED / name / "card.json").is_file():
            click.echo(f"{name}: not trained yet")
            continue
        card, wrong = verify(name)
        size = sum((SHIPPED / name / file).stat().st_size for file in card["files"] if file not in wrong)
        scores = ", ".join(f"{score.replace('_', ' ')} {value:.4g}" for score, value in card["scores"].items())
        click.echo(f"{name}: {size / 1e6:.2f} MB, {scores}" + (f"; changed since its card: {', '.join(wrong)}" if wrong else ""))


@tiny.command(name="train")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write; default: the one that the project ships.")
@click.option("--steps", type=click.IntRange(min=1), help="Fewer steps than the job's own, for a trial.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; results depend on their number in the last digits. Default: all.")
def train_command(name: str, out: Path | None, steps: int | None, seed: int, threads: int | None) -> None:
    """Train a network on performers and measure it on people that it never saw; what was cut off goes on."""
    import torch

    from assets.home import tiny_work
    from models.tiny.job import SHIPPED, run_job
    from models.tiny.registry import job_named

    if threads is not None:
        torch.set_num_threads(threads)
    facts = run_job(job_named(name), work=tiny_work(), out=out, seed=seed, steps=steps)
    scores = ", ".join(f"{score.replace('_', ' ')} {value:.4g}" for score, value in facts["scores"].items())
    click.echo(f"{out or SHIPPED / name}: {scores} after {facts['loop']['steps']} steps ({facts['seconds']} s)")


@tiny.command(name="ship")
@click.argument("method")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write; default: the one that the project ships.")
def ship_command(method: str, seed: int, out: Path | None) -> None:
    """Train a method longer than the demo does, on many performers, and pack its checkpoint; what was cut off goes on."""
    from assets.home import open_instance, open_lake
    from assets.shipping import ship_method

    with open_instance() as instance:
        folder, card = ship_method(instance, open_lake(), method, seed=seed, out=out)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    scores = ", ".join(f"{name} {value:.4g}" for name, value in card["scores"].items())
    click.echo(f"{folder}: {size / 1e6:.2f} MB, {scores}")
