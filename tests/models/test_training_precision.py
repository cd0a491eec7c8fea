"""Mixed precision: products in 16 bits, everything that is kept in 32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.loop_config import LoopConfig
from models.precision import mixed, training_device
from models.training_loop import train
from models.training_state import TrainingState
from pipelines.errors import UserError
from tests.models.toy_training import SHARED, Toy, run_toy

HALF = LoopConfig(steps=1, learning_rate=0.1, precision="float16", ema_decay=0.5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_weights_averages_and_moments_stay_float32(tmp_path: Path, precision: str) -> None:
    seen = set[torch.dtype]()
    config = replace(SHARED, precision=precision)
    network = Toy()
    network.body[0].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    state = TrainingState(dict(network.named_parameters()), config)

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        return network(torch.randn(8, 4, generator=generator), torch.zeros(8)).float().square().mean()

    train(
        state.parameters, loss_at, config, seed=0, state_folder=tmp_path / "state", label="toy", probe=lambda: loss_at(0, torch.Generator())
    )
    assert seen == {getattr(torch, precision)}  # the arithmetic was really in 16 bits, the probe's too
    assert state.load(tmp_path / "state")
    moments = [value for kept in state.optimizer.state.values() for value in kept.values()]
    kept = [*state.parameters.values(), *state.average.values(), *moments]
    assert moments
    assert {tensor.dtype for tensor in kept} == {torch.float32}


def test_bfloat16_learns_what_float32_learns(tmp_path: Path) -> None:
    exact, _ = run_toy(tmp_path / "32", SHARED)
    mixed_up, _ = run_toy(tmp_path / "16", replace(SHARED, precision="bfloat16"))
    assert mixed_up[-1].loss == pytest.approx(exact[-1].loss, rel=0.05)
    assert mixed_up[-1].loss != exact[-1].loss


def test_scaled_losses_give_the_gradients_of_unscaled_ones(tmp_path: Path) -> None:
    """The scale is a power of two: it is undone without rounding, before gradients are clipped and their norm is noted."""
    networks = [nn.Linear(3, 1), nn.Linear(3, 1)]
    networks[1].load_state_dict(networks[0].state_dict())
    inputs = torch.randn(5, 3)
    norms = []
    for network, precision in zip(networks, ("float32", "float16"), strict=True):
        state = TrainingState(dict(network.named_parameters()), replace(HALF, precision=precision))
        state.scaler.scale(network(inputs).square().mean()).backward()
        norms.append(state.take_step(1.0)[1])
    assert norms[0] == norms[1]
    assert torch.equal(networks[0].weight, networks[1].weight)


def test_an_overflow_leaves_the_step_out_and_halves_the_scale() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    state = TrainingState({"p": parameter}, HALF)
    state.scaler.scale(parameter.sum()).backward()
    scale = state.scaler.get_scale()
    assert parameter.grad is not None
    parameter.grad.fill_(float("inf"))
    assert state.take_step(1.0)[1] is None
    assert parameter.item() == 1.0
    assert state.average["p"].item() == 1.0
    assert state.scaler.get_scale() == scale / 2
    assert state.step == 1  # the log has a row for it


def test_the_scale_is_part_of_the_state(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    state = TrainingState({"p": parameter}, HALF)
    for gradient in (float("inf"), 1.0):
        state.scaler.scale(parameter.sum()).backward()
        parameter.grad.fill_(gradient)
        state.take_step(1.0)
    state.save(tmp_path / "state")
    again = TrainingState({"p": nn.Parameter(torch.tensor([7.0]))}, HALF)
    again.load(tmp_path / "state")
    assert again.scaler.state_dict() == state.scaler.state_dict()
    assert again.scaler.get_scale() == 2.0**15


def test_overflow_without_any_scale_stops_the_run() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    state = TrainingState({"p": parameter}, HALF)

    def overflow() -> None:
        state.scaler.scale(parameter.sum()).backward()
        parameter.grad.fill_(float("nan"))
        state.take_step(1.0)

    for _ in range(16):  # 2**16 halved until it is 1
        overflow()
    with pytest.raises(FloatingPointError, match="use bfloat16"):
        overflow()


def test_float32_is_left_alone() -> None:
    with mixed("float32", torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
    with mixed("bfloat16", torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")


def test_a_gpu_that_is_not_there_is_the_user_s_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="choose device=cpu"):
        training_device("cuda")
    assert training_device("cpu") == torch.device("cpu")
