"""Ray Train: one function in several processes that form a torch.distributed group. A lost worker: all of them start again.

Uses the cluster that engine.py finds or starts. What is resumed from is the function's own affair: the training loop goes on from
its state folder, so nothing is reported to Ray but the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import UserError

_RESTARTS = 3  # of the whole group; more losses than that are no accident
_REFUSALS = (UserError, FloatingPointError)  # what would only happen again


def train_on_ray(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    workers: int,
    gpus: bool,
    storage: Path,
    shared_storage: bool = False,
    num_cpus: int | None = None,
    temp_dir: Path | None = None,
) -> Any:
    """Run `function(**arguments)` in `workers` processes (gloo, or nccl with one GPU each); returns what the first one returned.

    storage: a folder of the run for Ray's own files; every worker must reach it.  num_cpus, temp_dir: of a local Ray that is started.
    shared_storage: workers on other machines reach `storage` and everything that `arguments` name.
    Raises UserError where a worker raised one or could not go on with its numbers, where the cluster is too small, or where workers were
    lost again and again.
    """
    import ray

    from pipelines.engine import connect

    ours = connect(num_cpus, temp_dir, shared_storage=shared_storage)
    try:
        _refuse_too_many(ray.cluster_resources(), workers, gpus)
        storage.mkdir(parents=True, exist_ok=True)
        refusal = storage.resolve() / "refusal.txt"
        refusal.unlink(missing_ok=True)
        returned = _fit(_on_worker(function, gpus, refusal), arguments, workers, gpus, storage)
        if refusal.exists():
            raise UserError(refusal.read_text())
        return returned
    finally:
        if ours:
            ray.shutdown()


def _fit(run: Callable[[dict[str, Any]], Any], arguments: Mapping[str, Any], workers: int, gpus: bool, storage: Path) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    each = {"GPU": 1} if gpus else {"CPU": 1}
    try:
        trainer = TorchTrainer(
            run,
            train_loop_config=dict(arguments),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus, resources_per_worker=each),
            run_config=RunConfig(name="train", storage_path=str(storage.resolve()), failure_config=FailureConfig(max_failures=_RESTARTS)),
        )
        return trainer.fit().return_value
    except TrainingFailedError as error:
        last = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        raise UserError(f"training failed on its workers, and again after {_RESTARTS} restarts; the last error: {last}") from error


def _on_worker(function: Callable[..., Any], gpus: bool, refusal: Path) -> Callable[[dict[str, Any]], Any]:
    """What a worker runs. Ray would start everything again after any error: one that would only happen again is written down instead."""

    def run(arguments: dict[str, Any]) -> Any:
        import torch.distributed
        from ray.train.torch import get_device

        if refusal.exists():
            return None
        if gpus:
            torch.cuda.set_device(get_device())
        try:
            return function(**arguments)
        except _REFUSALS as error:
            refusal.write_text(str(error))
            torch.distributed.destroy_process_group()  # the others would wait for this worker
            return None

    return run


def _refuse_too_many(resources: Mapping[str, float], workers: int, gpus: bool) -> None:
    """Ray Train would wait for them for ever."""
    kind = "GPU" if gpus else "CPU"
    if resources.get(kind, 0) < workers:
        raise UserError(f"workers={workers} want one {kind} each, Ray has {resources.get(kind, 0):g}; ask for fewer workers")
