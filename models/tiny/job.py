"""A training job of the tiny family: draw people, train, export, measure on people never seen, write the card.

A job is a value: what differs between roles is in its fields, and the order of work is here once. A job that was cut off goes
on where it was; the same seed on the same machine gives the same digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.tiny.people import TRAINING_IDENTITIES, UNSEEN_IDENTITIES
from models.training_loop import LoopConfig, LossAt, StepRecord, generator_for, replace_folder, settle_threads, train
from pipelines.errors import UserError
from pipelines.packed_weights import pack_folder, whole
from pipelines.weights import digest_of

SHIPPED = Path(__file__).resolve().parents[2] / "pipelines" / "tiny"
LICENCE = "Apache-2.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyJob:
    """How one network of the tiny family comes to be.

    draw: cache folder -> the training data, of any type that `loss_of` takes.
    build: an untrained network; its parameters are drawn after torch.manual_seed(seed).
    loss_of: (network, data) -> the loss of a micro-step from its generator; everything random comes from the (CPU) generator.
        The data go to the network's device in there. No layer may keep running statistics: a resumed run would lose them.
    export: writes the network's files into a folder, in the layout of the published network of this kind.
    measure: (folder, cache) -> scores on UNSEEN_IDENTITIES, through the project's own extractor wherever there is one.
    """

    name: str  # of its folder under pipelines/tiny; its role in pipelines/weights_table.py is this with "_tiny"
    title: str
    purpose: str  # one sentence for the card
    loop: LoopConfig
    draw: Callable[[Path], Any]
    build: Callable[[], nn.Module]
    loss_of: Callable[[nn.Module, Any], LossAt]
    export: Callable[[nn.Module, Path], None]
    measure: Callable[[Path, Path], Mapping[str, float]]
    trained_on: str = f"performers {TRAINING_IDENTITIES.start}..{TRAINING_IDENTITIES.stop - 1}"
    packed: bool = False  # shipped as whole numbers of a step each (pipelines/packed_weights.py); only safetensors files can be
    packed_against: str | None = None  # the network of the family whose tensors it is a difference to
    finish: Callable[[nn.Module, Path, Any], None] | None = None  # writes what also needs the training data, after `export`
    measured_on: str = f"performers {UNSEEN_IDENTITIES.start}..{UNSEEN_IDENTITIES.stop - 1}, never trained on"


def run_job(
    job: TinyJob,
    *,
    work: Path,
    out: Path | None = None,
    seed: int = 0,
    steps: int | None = None,
    on_record: Callable[[StepRecord], None] | None = None,
) -> dict[str, Any]:
    """Train `job` and write its folder `out` (default: the one that the project ships) with its card; returns the card's facts.

    work: holds drawn people and the state to resume from.  steps: fewer than the job's own, for a trial.
    """
    out = out or SHIPPED / job.name
    loop = job.loop if steps is None else replace(job.loop, steps=steps, warmup_steps=min(job.loop.warmup_steps, steps))
    settle_threads()
    torch.manual_seed(seed)
    network = job.build().to(device_at_hand())
    data = job.draw(work / "people")
    loss_at = job.loss_of(network, data)
    records = _train(
        job, network, loss_at, loop, seed, work / "jobs" / f"{job.name}-{seed}-{loop.steps}-{_shape_digest(network)}", on_record
    )
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    job.export(network.cpu().eval(), partial)
    if job.finish is not None:
        job.finish(network, partial, data)
    if job.packed:
        pack_folder(partial, None if job.packed_against is None else SHIPPED / job.packed_against)
    files = {path.relative_to(partial).as_posix(): digest_of(path) for path in sorted(partial.rglob("*")) if path.is_file()}
    facts = {
        "role": f"{job.name}_tiny",
        "loop": asdict(loop),
        "seed": seed,
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "trained_on": job.trained_on,
        "measured_on": job.measured_on,
        "scores": {name: round(value, 4) for name, value in job.measure(whole(partial, SHIPPED), work / "people").items()},
        "loss": _curve(records),
        "seconds": round(records[-1].seconds),
        "device": f"{torch.get_num_threads()} CPU threads" if device_at_hand() == "cpu" else torch.cuda.get_device_name(),
        "files": files,
        "licence": LICENCE,
    }
    (partial / "card.json").write_text(json.dumps(facts, indent=1) + "\n")
    (partial / "README.md").write_text(card_text(job, facts))
    replace_folder(partial, out)
    return facts


def _shape_digest(network: nn.Module) -> str:
    """8 hex digits over names and shapes: the state of a network of another size is not what a run continues from."""
    shapes = [[name, list(parameter.shape)] for name, parameter in network.named_parameters() if parameter.requires_grad]
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()[:8]


def verify(name: str) -> tuple[dict[str, Any], list[str]]:
    """(card of a shipped network, names of its files whose digests are not those of the card)."""
    folder = SHIPPED / name
    try:
        card = json.loads((folder / "card.json").read_text())
    except FileNotFoundError:
        raise UserError(f"{name} is not shipped yet: pipelines/tiny/{name} has no card; run: rotoscope tiny train {name}") from None
    wrong = [file for file, digest in card["files"].items() if not (folder / file).is_file() or digest_of(folder / file) != digest]
    return card, wrong


def device_at_hand() -> str:
    """ "cuda" where there is one, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _train(
    job: TinyJob, network: nn.Module, loss_at: LossAt, loop: LoopConfig, seed: int, state: Path,
    on_record: Callable[[StepRecord], None] | None,
) -> list[StepRecord]:  # fmt: skip
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}

    def probe() -> Tensor:
        return torch.stack([loss_at(-1 - i, generator_for(seed + 1, i)) for i in range(2)]).mean()

    return train(trainable, loss_at, loop, seed=seed, state_folder=state, label=job.name, probe=probe, on_record=on_record)


def _curve(records: list[StepRecord]) -> list[tuple[int, float]]:
    """(step, probe loss) of every probe."""
    return [(record.step, round(record.probe_loss, 5)) for record in records if record.probe_loss is not None]


def card_text(job: TinyJob, facts: Mapping[str, Any]) -> str:
    """The model card as Markdown."""
    first, last = facts["loss"][0], facts["loss"][-1]
    rows = {
        "role": f"{job.name}_tiny",
        "parameters": f"{facts['parameters']:,}",
        "trained on": facts["trained_on"],
        "measured on": facts["measured_on"],
        **{name.replace("_", " "): value for name, value in facts["scores"].items()},
        "steps": facts["loop"]["steps"],
        "loss at fixed batches": f"{first[1]} before the first step, {last[1]} after the last",
        "seed": facts["seed"],
        "time": f"{facts['seconds']} s on {facts['device']}",
        **{f"sha256 of {name}": f"`{digest}`" for name, digest in facts["files"].items()},
        "licence": facts["licence"],
    }
    lines = [
        f"# {job.title}",
        "",
        f"{job.purpose} It learnt from performers alone and knows no real people.",
        "",
        "| fact | value |",
        "|---|---|",
    ]
    return "\n".join(
        [*lines, *(f"| {name} | {value} |" for name, value in rows.items()), "", f"Made by `rotoscope tiny train {job.name}`.", ""]
    )
