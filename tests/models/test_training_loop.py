"""The loop: what is cut off continues as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.training_loop import LoopConfig, StepRecord, TrainingState, loss_fall, replace_folder, settle_folder, train

SIX = LoopConfig(steps=6, learning_rate=0.05, save_every_s=0.0, probes=3, pictures=0, accumulation=2)


def _network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def _loss_of(network: nn.Module) -> Callable[[int, torch.Generator], Tensor]:
    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        inputs = torch.randn(16, 4, generator=generator)
        loss: Tensor = (network(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        return loss

    return loss_at


def _run(
    folder: Path, config: LoopConfig = SIX, *, stop_at: int | None = None, network: nn.Module | None = None
) -> tuple[list[StepRecord], nn.Module]:
    network = network or _network()
    loss = _loss_of(network)

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        if stop_at is not None and micro == stop_at * config.accumulation + 1:
            raise KeyboardInterrupt  # in the middle of a step: one micro-batch has its gradients already
        return loss(micro, generator)

    fixed = torch.Generator()
    records = train(
        dict(network.named_parameters()),
        loss_at,
        config,
        seed=3,
        state_folder=folder / "state",
        label="test",
        probe=lambda: loss(0, fixed.manual_seed(1)),
    )
    return records, network


def _numbers(records: list[StepRecord]) -> list[tuple[object, ...]]:
    return [(r.step, r.loss, r.probe_loss, r.learning_rate, r.gradient_norm) for r in records]


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_run_that_was_cut_off_gives_the_same_losses_and_weights(tmp_path: Path, cut: int) -> None:
    whole, expected = _run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path / "cut", stop_at=cut)
    seen = list[int]()
    network = _network(seed=99)  # another start: everything must come from the state
    loss = _loss_of(network)
    resumed = train(
        dict(network.named_parameters()),
        lambda micro, generator: (seen.append(micro), loss(micro, generator))[1],
        SIX,
        seed=3,
        state_folder=tmp_path / "cut" / "state",
        label="test",
        probe=lambda: loss(0, torch.Generator().manual_seed(1)),
    )
    assert seen[0] == cut * SIX.accumulation  # nothing twice, nothing lost
    assert _numbers(resumed) == _numbers(whole)
    for ours, other in zip(network.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, other)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first, _ = _run(tmp_path)
    again, network = _run(tmp_path, stop_at=0, network=_network(seed=99))  # would raise at its first step
    assert _numbers(again) == _numbers(first)
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_accumulated_micro_batches_are_one_large_batch(tmp_path: Path) -> None:
    inputs = torch.randn(2, 16, 4)

    def grown(accumulation: int) -> nn.Module:
        network = _network()

        def loss_at(micro: int, _: torch.Generator) -> Tensor:
            chosen = inputs[micro] if accumulation == 2 else inputs.flatten(0, 1)
            loss: Tensor = (network(chosen) - chosen.sum(1, keepdim=True)).square().mean()
            return loss

        config = LoopConfig(steps=1, learning_rate=0.1, accumulation=accumulation, probes=0, pictures=0)
        train(
            dict(network.named_parameters()),
            loss_at,
            config,
            seed=0,
            state_folder=tmp_path / str(accumulation),
            label="test",
            probe=lambda: torch.zeros(()),
        )
        return network

    for ours, other in zip(grown(2).parameters(), grown(1).parameters(), strict=True):
        torch.testing.assert_close(ours, other, rtol=0, atol=1e-6)


def test_the_step_is_adamw_of_torch_on_clipped_gradients() -> None:
    """First step of AdamW: p (1 - lr wd) - lr sign(g), whatever the gradient's size; the norm is measured before clipping."""
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    state = TrainingState({"p": parameter}, LoopConfig(steps=1, learning_rate=0.1, ema_decay=None))
    parameter.grad = torch.tensor([30.0, -40.0])
    rate, norm = state.take_step(1.0)
    assert (rate, norm) == pytest.approx((0.1, 50.0))
    expected = torch.tensor([1.0, -2.0]) * (1 - 0.1 * 0.01) - 0.1 * torch.tensor([1.0, -1.0])
    torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=1e-5)
    assert torch.equal(state.average["p"], parameter.detach())  # no averaging was asked for


def test_warm_up_reaches_the_rate_and_stays(tmp_path: Path) -> None:
    records, _ = _run(tmp_path, LoopConfig(steps=6, learning_rate=0.04, warmup_steps=4, pictures=0))
    assert [r.learning_rate for r in records[1:]] == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.04, 0.04])


def test_the_average_follows_its_formula() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    state = TrainingState({"p": parameter}, LoopConfig(steps=9, learning_rate=0.1, ema_decay=0.25))
    average = 1.0
    for step in range(1, 6):
        parameter.grad = torch.ones(1)
        state.take_step(1.0)
        keep = min(0.25, (1 + step) / (10 + step))
        average = keep * average + (1 - keep) * parameter.item()
    assert state.average["p"].item() == pytest.approx(average, rel=1e-5)
    state.finish()
    assert parameter.item() == pytest.approx(average, rel=1e-5)


def test_probes_are_spread_over_the_run_from_before_the_first_step(tmp_path: Path) -> None:
    records, _ = _run(tmp_path, LoopConfig(steps=50, learning_rate=0.01, pictures=0))
    probed = [r.step for r in records if r.probe_loss is not None]
    assert len(probed) == 20
    assert (probed[0], probed[-1]) == (0, 50)
    assert records[0].loss is None
    fall = loss_fall(records)
    assert fall is not None
    assert fall < 1


def test_loss_fall_is_last_fifth_over_first_fifth() -> None:
    records = [StepRecord(i, 0.0, value, 0.0, 0.0, 0.0) for i, value in enumerate([4, 4, 3, 3, 2, 2, 2, 2, 1, 1, 9, 9])]
    assert loss_fall(records[:10]) == pytest.approx(1 / 4)
    assert loss_fall(records[:4]) is None


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    network = _network()
    with pytest.raises(FloatingPointError, match="at step 0; lower the learning rate"):
        train(
            dict(network.named_parameters()),
            lambda micro, generator: network(torch.full((1, 4), float("nan"))).sum(),
            SIX,
            seed=0,
            state_folder=tmp_path / "state",
            label="test",
            probe=lambda: torch.zeros(()),
        )
    assert not (tmp_path / "state").exists()  # what was broken is not what a resumed run starts from


def test_pictures_are_taken_over_the_run(tmp_path: Path) -> None:
    network, taken = _network(), list[int]()
    config = LoopConfig(steps=10, learning_rate=0.01, pictures=2, probes=0)
    train(
        dict(network.named_parameters()),
        _loss_of(network),
        config,
        seed=0,
        state_folder=tmp_path / "s",
        label="test",
        probe=lambda: torch.zeros(()),
        picture=taken.append,
    )
    assert taken == [5, 10]


@pytest.mark.parametrize("after", ["first rename", "second rename"])
def test_a_folder_survives_a_kill_between_renames(tmp_path: Path, after: str) -> None:
    folder, new = tmp_path / "state", tmp_path / "new"
    for path, text in ((folder, "old"), (new, "new")):
        path.mkdir()
        (path / "what").write_text(text)
    folder.rename(tmp_path / ".state.old")
    if after == "second rename":
        new.rename(folder)
    settle_folder(folder)
    assert (folder / "what").read_text() == ("old" if after == "first rename" else "new")
    newest = tmp_path / "newest"
    newest.mkdir()
    (newest / "what").write_text("newest")
    replace_folder(newest, folder)
    assert (folder / "what").read_text() == "newest"
    assert not (tmp_path / ".state.old").exists()


_KILLED = """
import sys, time
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
import test_training_loop as t
torch.set_num_threads(1)
network = t._network()
loss = t._loss_of(network)
def slow(micro, generator):
    time.sleep(0.02)
    return loss(micro, generator)
config = t.LoopConfig(steps=200, learning_rate=0.01, save_every_s=0.0, pictures=0)
records = t.train(dict(network.named_parameters()), slow, config, seed=0, state_folder=Path({folder!r}) / "state", label="test",
                  probe=lambda: loss(0, torch.Generator().manual_seed(1)))
print(repr([(r.step, r.loss, r.probe_loss) for r in records]))
"""


def _start(folder: Path) -> subprocess.Popen[str]:
    code = _KILLED.format(tests=os.path.dirname(__file__), folder=str(folder))
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )


def _output(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out


@pytest.mark.slow
def test_kill_9_changes_nothing(tmp_path: Path) -> None:
    whole = _output(_start(tmp_path / "whole"))
    for seconds in (0.3, 0.5, 0.2):  # three kills, each after the state has appeared
        process = _start(tmp_path / "killed")
        deadline = time.monotonic() + 60
        while not (tmp_path / "killed" / "state" / "state.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert _output(_start(tmp_path / "killed")) == whole


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="steps=0"):
        LoopConfig(steps=0, learning_rate=1.0)
