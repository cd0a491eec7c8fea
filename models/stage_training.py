"""Training one stage into a checkpoint folder: probe, periodic pictures, resume, and the manifest. The same for every diffusion method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoint import read_manifest, save_checkpoint
from models.clip_dataset import Batch
from models.distributed_training import all_finished, workers_at_hand
from models.gradient_checkpointing import checkpoint_gradients
from models.latents import LatentCodec
from models.loop_config import sample_steps
from models.on_device import on_device
from models.precision import training_device
from models.probe_samples import ProbeSamples
from models.stage_loss import StageLoss
from models.training_loop import StepRecord, loss_fall, train

_PROBE_MICRO_STEP = -1  # the probe's batch, noise and timesteps are those of a step that is never trained
_PROBES = 4  # noise levels of that batch


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRun:
    """What a stage is and where it goes. identity: what the lake knows the checkpoint by."""

    stage: str
    out: Path
    seed: int
    parent: Path | None
    identity: Mapping[str, str]
    config: Mapping[str, Any]
    additions: Sequence[str]
    on_record: Callable[[StepRecord], None] | None = None


def run_stage(
    run: StageRun,
    loss: StageLoss,
    parameters: Mapping[str, nn.Parameter],
    parts: Callable[[], Mapping[str, Any]],
    codec: LatentCodec,
    generated: Callable[[Batch], Tensor],
) -> list[StepRecord]:
    """Train `parameters` by `loss` and save `parts()` to the checkpoint folder `run.out` (resumes from its state); returns the log.

    generated: [R, K, 3, H, W] in [-1, 1] for a batch, from a fixed seed, for the periodic samples: their picture, and `psnr` in the log's metrics.
    """
    loop = loss.stage.loop
    _place(loss, codec)
    probe_batch = on_device(loss.batch(_PROBE_MICRO_STEP), loss.device)

    def probe() -> Tensor:  # several noise levels of one batch, always the same ones
        return torch.stack([loss.of(probe_batch, torch.Generator().manual_seed(1000 + i), 0.0) for i in range(_PROBES)]).mean()

    first, folder = min(sample_steps(loop), default=0), run.out.with_name(f"{run.out.name}.pictures")
    samples = ProbeSamples(probe_batch, codec, generated, first=first, folder=folder)
    bank = getattr(loss.network, "bank", None)
    records = train(
        parameters, loss, loop, seed=run.seed, state_folder=run.out.with_name(f".{run.out.name}.state"), label=run.stage,
        probe=probe, picture=samples.picture, metric=samples.measure, on_record=run.on_record, levels=loss.levels,
        held=bank.held if bank is not None and loop.gradient_checkpointing else nullcontext,
    )  # fmt: skip
    workers = workers_at_hand()
    if workers.leader:
        save_checkpoint(run.out, parts(), _manifest(run, parameters, records))
    all_finished(workers)
    return records


def _place(loss: StageLoss, codec: LatentCodec) -> None:
    """Put network, loss and codec where the stage trains."""
    loop, network = loss.stage.loop, loss.network
    loss.device = training_device(loop.device)
    if isinstance(network, nn.Module):
        network.to(loss.device)
        if loop.gradient_checkpointing:
            checkpoint_gradients(network)
    codec.to(loss.device)


def _manifest(run: StageRun, parameters: Mapping[str, nn.Parameter], records: list[StepRecord]) -> dict[str, Any]:
    return {
        **run.identity,
        "stage": run.stage,
        "seed": run.seed,
        "config": run.config,
        "parent": read_manifest(run.parent).get("checkpoint_id") if run.parent is not None else None,
        "trained_parameters": sum(p.numel() for p in parameters.values()),
        "loss_fall": loss_fall(records),
        "metrics": last_metrics(records),
        "additions": list(run.additions),
    }


def last_metrics(records: Sequence[StepRecord]) -> dict[str, float]:
    """Each measure as it was noted last."""
    return {name: value for record in records for name, value in (record.metrics or {}).items()}


def latents_cache(run: StageRun, codec: LatentCodec) -> Path:
    """Folder beside the checkpoints where encoded clips are kept between stages and resumed runs."""
    return run.out.parent / f".latents-{codec.fingerprint()}"
