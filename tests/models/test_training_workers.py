"""W workers compute what one computes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.animate_anyone.method import ANIMATE_ANYONE
from models.checkpoint import read_manifest
from models.clip_dataset import TrainingClip
from models.distributed_training import Workers, run_on_workers, workers_at_hand
from models.training_loop import StepRecord
from pipelines.errors import UserError
from tests.models.toy_training import SHARED, run_toy, without_time

ROOT = Path(__file__).parents[2]


def _near(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose numbers may differ by rounding."""

    def near(value: Any) -> Any:
        if isinstance(value, float):
            return pytest.approx(value, rel=1e-5, abs=1e-6)
        if isinstance(value, dict):
            return {name: near(inner) for name, inner in value.items()}
        return [near(inner) for inner in value] if isinstance(value, list) else value

    return [near(row) for row in rows]


def _start(rank: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.models.toy_training", str(rank), "2", str(folder / "meeting"), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})


def test_two_workers_give_the_log_and_the_weights_of_one(tmp_path: Path) -> None:
    processes = [_start(rank, tmp_path) for rank in range(2)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    alone, network = run_toy(tmp_path / "alone", SHARED, metric=lambda step: {"half": step / 2})
    leader, other = (json.loads((tmp_path / f"records-{rank}.json").read_text()) for rank in range(2))
    assert _near(without_time(alone)) == leader
    assert [row | {"metrics": None} for row in leader] == other  # the leader alone measures
    weights = [load_file(tmp_path / f"weights-{rank}.safetensors") for rank in range(2)]
    for name, parameter in network.named_parameters():
        assert torch.equal(weights[0][name], weights[1][name]), name  # equal to the bit although they began apart
        torch.testing.assert_close(weights[0][name], parameter.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_micro_batch_has_one_worker(count: int) -> None:
    shares = [Workers(rank, count).share(range(6, 12)) for rank in range(count)]
    assert sorted(micro for share in shares for micro in share) == list(range(6, 12))


def test_alone_is_one_worker_that_leads(tmp_path: Path) -> None:
    assert workers_at_hand() == Workers(0, 1)
    assert workers_at_hand().leader
    assert run_on_workers(lambda number: number + 1, SHARED, storage=tmp_path, arguments={"number": 1}) == 2


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Calls functions of this file in two workers of a local Ray in a folder of its own (short: Ray's sockets live in it)."""
    import ray
    from ray import cloudpickle

    from pipelines.engine import connect
    from pipelines.engine_train import train_on_ray

    patch = pytest.MonkeyPatch()
    patch.delenv("RAY_ADDRESS", raising=False)
    patch.setenv("PYTHONPATH", str(ROOT))
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import test files
    with tempfile.TemporaryDirectory(prefix="rr", ignore_cleanup_errors=True) as folder:
        connect(2, Path(folder), shared_storage=False)
        storage = tmp_path_factory.mktemp("ray")
        yield lambda function, workers=2, **arguments: train_on_ray(function, arguments, workers=workers, gpus=False, storage=storage)
        ray.shutdown()
    patch.undo()


def _train_and_lose_one(folder: str) -> list[dict[str, Any]]:
    """What a Ray worker runs. The second one dies in the middle, the first time."""
    import signal

    torch.set_num_threads(1)
    workers, once = workers_at_hand(), Path(folder) / "lost"

    def at(micro: int) -> None:
        if micro >= 17 and not workers.leader and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    records, _ = run_toy(Path(folder), replace(SHARED, workers=2), seed=workers.rank, at=at, metric=lambda step: {"half": step / 2})
    return without_time(records)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_ray_workers_give_the_log_of_one_although_one_is_lost(tmp_path: Path, on_ray: Callable[..., Any]) -> None:
    log = on_ray(_train_and_lose_one, folder=str(tmp_path / "run"))
    assert (tmp_path / "run" / "lost").exists()
    alone, _ = run_toy(tmp_path / "alone", SHARED, metric=lambda step: {"half": step / 2})
    assert _near(without_time(alone)) == log


def _brief_stage(workers: int, out: Path, clips: Sequence[TrainingClip]) -> list[StepRecord]:
    """Three steps of AnimateAnyone's first stage at the size of its brief variant, through the method itself."""
    brief = ANIMATE_ANYONE.chosen("brief")
    loop = replace(brief.stage_1.loop, steps=3, accumulation=2, probes=2, workers=workers)
    method = replace(ANIMATE_ANYONE, variants={"brief": replace(brief, stage_1=replace(brief.stage_1, loop=loop))})
    return method.train("stage_1", variant="brief", clips=clips, parent=None, out=out, seed=0, identity={"checkpoint_id": "0" * 16})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_real_stage_on_two_ray_workers_gives_the_log_and_the_checkpoint_of_one(
    tmp_path: Path, on_ray: Callable[..., Any], clips: list[TrainingClip]
) -> None:
    del on_ray  # the method finds the Ray that it started
    alone, together = (_brief_stage(count, tmp_path / str(count) / "stage_1", clips) for count in (1, 2))
    assert [record.step for record in alone] == [0, 1, 2, 3]
    assert alone[-1].metrics is not None
    assert _near(without_time(alone)) == without_time(together)
    one, two = (read_manifest(tmp_path / str(count) / "stage_1") for count in (1, 2))
    assert set(one["files"]) == set(two["files"])
    for name in (name for name in one["files"] if name.endswith(".safetensors")):
        weights = [load_file(tmp_path / str(count) / "stage_1" / name) for count in (1, 2)]
        assert weights[0].keys() == weights[1].keys()
        for key, tensor in weights[0].items():
            torch.testing.assert_close(weights[1][key], tensor, rtol=0, atol=1e-6)


def _refuse(tries: str) -> None:
    """The second worker raises, the first waits for it."""
    import torch.distributed as dist

    with open(f"{tries}-{workers_at_hand().rank}", "a") as file:
        file.write(".")
    dist.barrier()
    if not workers_at_hand().leader:
        raise UserError("weights are missing")
    dist.barrier()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_what_the_user_got_wrong_reaches_the_user_and_is_not_tried_again(tmp_path: Path, on_ray: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="weights are missing"):
        on_ray(_refuse, tries=str(tmp_path / "tries"))
    assert [(tmp_path / f"tries-{worker}").read_text() for worker in range(2)] == [".", "."]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_more_workers_than_the_cluster_has_room_for_are_refused(on_ray: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match="workers=3 want one CPU each, Ray has 2"):
        on_ray(_refuse, workers=3, tries="")
