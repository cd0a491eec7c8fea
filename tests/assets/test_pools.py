"""Pools: a killed process gives its slot back, a live one is waited for aloud, and the waiting can be ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id

from assets import jobs
from assets.pool_wait import watched
from assets.run_marks import end_the_dead, folder, mark, marked
from pipelines.code_version import ROOT

ONE_AT_A_TIME = {"concurrency": {"pools": {"default_limit": 1, "granularity": "op"}}}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=ONE_AT_A_TIME) as made:
        yield made


@dg.op(pool="gpu")
def use() -> None:
    pass


@dg.job(executor_def=dg.in_process_executor)
def short() -> None:
    use()


_ENTRY = """
import sys, time
from pathlib import Path
import dagster as dg
from dagster._core.utils import make_new_run_id
from assets.pool_wait import watched
from assets.run_marks import end_the_dead, marked

@dg.op(pool="gpu")
def use() -> None:
    Path(sys.argv[1], "began").touch()
    time.sleep(float(sys.argv[2]))

@dg.job(executor_def=dg.in_process_executor)
def long() -> None:
    use()

overrides = {"concurrency": {"pools": {"default_limit": 1, "granularity": "op"}}}
with dg.DagsterInstance.local_temp(sys.argv[1], overrides=overrides) as instance:
    run_id = make_new_run_id()
    with marked(instance, run_id), watched(instance, run_id, {"gpu"}, lambda text: print(text, flush=True)):
        long.execute_in_process(instance=instance, run_id=run_id)
"""


def _run_watched(instance: dg.DagsterInstance, say: Callable[[str], None]) -> None:
    run_id = make_new_run_id()
    with marked(instance, run_id), watched(instance, run_id, {"gpu"}, say):
        assert short.execute_in_process(instance=instance, run_id=run_id).success


def _process(home: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _ENTRY, str(home), str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip


def _begun(home: Path, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    deadline = time.monotonic() + 120
    while not (home / "began").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_a_killed_run_is_ended_and_its_slot_is_free(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    with _begun(tmp_path, _process(tmp_path, 600)) as killed:
        assert end_the_dead(instance) == []  # alive
        run = instance.get_runs()[0]
        assert instance.event_log_storage.get_concurrency_info("gpu").active_run_ids == {run.run_id}
        killed.kill()
    assert end_the_dead(instance) == [run.run_id]
    again = instance.get_run_by_id(run.run_id)
    assert again is not None
    assert again.status == dg.DagsterRunStatus.CANCELED
    assert instance.event_log_storage.get_concurrency_info("gpu").active_slot_count == 0
    assert list(folder(instance).iterdir()) == []
    assert short.execute_in_process(instance=instance).success


@pytest.mark.slow
def test_whoever_waits_for_a_killed_run_goes_on(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    said: list[str] = []
    with _begun(tmp_path, _process(tmp_path, 600)) as holder:
        threading.Timer(8.0, holder.kill).start()
        began = time.process_time()
        _run_watched(instance, said.append)
        assert time.process_time() - began < 4.0  # of the eight seconds or more
    assert len(said) == 1
    assert "waiting for the pool gpu: use of job long" in said[0]
    assert f"run {instance.get_runs()[1].run_id[:8]}" in said[0]
    assert "concurrency set gpu N" in said[0]


@pytest.mark.slow
def test_a_slot_that_was_promised_to_a_killed_run_is_free(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    with _begun(tmp_path, _process(tmp_path, 600)) as holder:
        with _process(tmp_path, 600) as second:
            assert second.stdout is not None
            assert "waiting for the pool gpu" in second.stdout.readline()
            second.kill()
        holder.kill()
    end_the_dead(instance)
    assert instance.event_log_storage.get_concurrency_info("gpu").pending_steps == []
    _run_watched(instance, pytest.fail)


@pytest.mark.slow
def test_a_step_that_is_blocked_in_its_run_says_for_whom_and_goes_on(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    said: list[str] = []
    with _begun(tmp_path, _process(tmp_path, 8)) as holder:
        _run_watched(instance, said.append)
        assert holder.wait(timeout=60) == 0
    assert len(said) == 1
    assert "use of job long" in said[0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_blocked_run_can_be_interrupted(instance: dg.DagsterInstance, tmp_path: Path, number: signal.Signals) -> None:
    with _begun(tmp_path, _process(tmp_path, 600)) as holder:
        with _process(tmp_path, 0) as waiting:
            assert waiting.stdout is not None
            assert "waiting for the pool gpu" in waiting.stdout.readline()
            waiting.send_signal(number)
            assert waiting.wait(timeout=30) == 130
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.STARTED]
        assert instance.event_log_storage.get_concurrency_info("gpu").pending_run_ids == set()
        holder.kill()


def test_a_free_pool_and_one_without_a_limit_are_not_waited_for(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    _run_watched(instance, pytest.fail)
    (tmp_path / "no limit").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "no limit")) as unlimited:
        _run_watched(unlimited, pytest.fail)


def test_a_run_that_was_ended_or_deleted_in_the_ui_holds_nothing(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    storage.initialize_concurrency_limit_to_default("gpu")
    run = instance.create_run_for_job(short, status=dg.DagsterRunStatus.STARTED)  # of another machine, or of an older version: no mark
    assert storage.claim_concurrency_slot("gpu", run.run_id, "use").is_claimed
    assert end_the_dead(instance) == []
    assert storage.get_concurrency_info("gpu").active_run_ids == {run.run_id}
    instance.report_run_canceled(run)
    end_the_dead(instance)
    assert storage.get_concurrency_info("gpu").active_run_ids == set()
    assert storage.claim_concurrency_slot("gpu", "deleted", "use").is_claimed
    end_the_dead(instance)
    assert storage.get_concurrency_info("gpu").active_run_ids == set()


def test_marks_are_seen_while_they_last(instance: dg.DagsterInstance) -> None:
    with marked(instance, "a"):
        mark(instance, "a")  # what a step of the run does
        assert end_the_dead(instance) == []
        assert [path.name for path in folder(instance).iterdir()] == ["a"]
    assert list(folder(instance).iterdir()) == []


def test_the_sensor_ends_them_too(instance: dg.DagsterInstance) -> None:
    run = short.execute_in_process(instance=instance).dagster_run
    folder(instance).mkdir()
    (folder(instance) / run.run_id).touch()  # its process ended after the run: nothing to say
    context = dg.build_sensor_context(instance=instance)
    assert jobs.ended_processes(context).skip_message == "every run has its process"
    unfinished = instance.create_run_for_job(short, status=dg.DagsterRunStatus.STARTED)
    (folder(instance) / unfinished.run_id).touch()
    assert unfinished.run_id in str(jobs.ended_processes(context).skip_message)
    assert os.listdir(folder(instance)) == []
