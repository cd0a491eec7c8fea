"""Optimisers by name, and moments that come back as they were."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from models.loop_config import LoopConfig
from models.optimizers import make_optimizer, moments_of
from models.training_state import TrainingState
from pipelines.errors import UserError

CONFIG = LoopConfig(steps=20, learning_rate=0.01, weight_decay=0.1, ema_decay=None, clip_norm=1e9)


def _parameters(size: int = 100) -> dict[str, nn.Parameter]:
    torch.manual_seed(0)
    return {"matrix": nn.Parameter(torch.randn(size, size)), "gate": nn.Parameter(torch.tensor(0.5)), "idle": nn.Parameter(torch.ones(2))}


def _step(state: TrainingState, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for name in ("matrix", "gate"):
        parameter = state.parameters[name]
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    state.take_step(1.0)


def test_adam_is_adamw_without_decay() -> None:
    adam, adamw = (TrainingState(_parameters(), replace(CONFIG, optimizer=o, weight_decay=w)) for o, w in (("adam", 0.1), ("adamw", 0.0)))
    for number in range(3):
        _step(adam, number)
        _step(adamw, number)
    for name, parameter in adam.parameters.items():
        torch.testing.assert_close(parameter, adamw.parameters[name])
    assert torch.equal(adam.parameters["idle"], torch.ones(2))


def _goes_on(folder: Path, config: LoopConfig) -> None:
    whole = TrainingState(_parameters(), config)
    for number in range(6):
        if number == 3:
            whole.save(folder / "state")
        _step(whole, number)
    again = TrainingState({name: nn.Parameter(torch.zeros_like(p)) for name, p in _parameters().items()}, config)
    assert again.load(folder / "state")
    for number in range(3, 6):
        _step(again, number)
    for name, parameter in again.parameters.items():
        assert torch.equal(parameter, whole.parameters[name]), name


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_a_loaded_optimiser_goes_on_to_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    _goes_on(tmp_path, replace(CONFIG, optimizer=optimizer))


def test_moments_keep_the_memory_layout_of_their_parameter(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    state = TrainingState({"w": weight}, CONFIG)
    weight.grad = torch.randn(4, 3, 2, 2)
    state.take_step(1.0)
    state.save(tmp_path / "state")
    again = TrainingState({"w": weight}, CONFIG)
    again.load(tmp_path / "state")
    loaded = again.optimizer.state[weight]["exp_avg"]
    assert loaded.stride() == weight.stride()
    assert torch.equal(loaded, state.optimizer.state[weight]["exp_avg"])


def test_eight_bits_without_the_package_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(UserError, match=r'pip install "rotoscope\[eight-bit\]", or choose optimizer=adamw'):
        make_optimizer(_parameters().values(), replace(CONFIG, optimizer="adamw_8bit"))


@pytest.mark.filterwarnings("ignore")  # the package's own
def test_eight_bits_follow_adamw_and_take_a_quarter_of_its_memory() -> None:
    pytest.importorskip("bitsandbytes")
    short, full = (TrainingState(_parameters(), replace(CONFIG, optimizer=o)) for o in ("adamw_8bit", "adamw"))
    start = short.parameters["matrix"].detach().clone()
    for number in range(10):
        _step(short, number)
        _step(full, number)
    way, other = (state.parameters["matrix"].detach() - start for state in (short, full))
    assert (way - other).norm() < 0.05 * other.norm()
    held = {o: sum(t.numel() * t.element_size() for n, t in moments_of(s.optimizer, s.parameters).items() if n.startswith("matrix") and "qmap" not in n)
            for o, s in (("short", short), ("full", full))}  # fmt: skip
    assert held["short"] < 0.27 * held["full"]
    torch.testing.assert_close(short.parameters["gate"], full.parameters["gate"])  # small tensors keep 32 bits


@pytest.mark.filterwarnings("ignore")  # the package's own
def test_eight_bits_go_on_to_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    _goes_on(tmp_path, replace(CONFIG, optimizer="adamw_8bit"))
