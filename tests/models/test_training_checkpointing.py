"""Gradient checkpointing with a reference bank: the same gradients, as long as the bank is held until the backward pass ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from models.gradient_checkpointing import checkpoint_gradients
from models.loop_config import LoopConfig
from models.reference_attention import ReferenceBank, read_reference, write_reference
from models.training_loop import train


def _unet() -> Any:
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1, attention_head_dim=2, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2, cross_attention_dim=8,
    )  # fmt: skip


class Pair(nn.Module):
    """A writer and a reader that share a bank, as the methods' networks do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.writer, self.reader, self.bank = _unet(), _unet(), ReferenceBank()
        write_reference(self.writer, self.bank)
        read_reference(self.reader, self.bank)

    def loss(self) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        noisy, reference, tokens = (torch.randn(shape, generator=generator) for shape in ((4, 4, 8, 8), (2, 4, 8, 8), (4, 3, 8)))
        self.bank.dropped = torch.tensor([False, True])
        self.writer(reference, torch.zeros(2), tokens[:2])
        return self.reader(noisy, torch.full((4,), 500.0), tokens).sample.square().mean()

    def gradients(self) -> dict[str, Tensor]:
        with self.bank.held():
            self.loss().backward()
        return {name: p.grad for name, p in self.named_parameters() if p.grad is not None}


def test_gradients_are_the_same_in_reader_and_writer() -> None:
    plain, saving = Pair(), Pair()
    assert checkpoint_gradients(saving) >= 8  # down, middle and up blocks of both
    expected, ours = plain.gradients(), saving.gradients()
    assert expected.keys() == ours.keys()
    assert any(name.startswith("writer.") for name in ours)
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7, msg=name)


def test_a_bank_that_is_cleared_too_early_is_an_error_and_no_wrong_gradient() -> None:
    network = Pair()
    checkpoint_gradients(network)
    with network.bank.held():
        loss = network.loss()
    with pytest.raises(RuntimeError, match="recomput"):
        loss.backward()


def test_the_loop_holds_the_bank_until_the_backward_pass_ends(tmp_path: Path) -> None:
    network = Pair()
    checkpoint_gradients(network)
    records = train(
        dict(network.named_parameters()),
        lambda micro, generator: network.loss(),
        LoopConfig(steps=1, learning_rate=1e-3, probes=0),
        seed=0,
        state_folder=tmp_path / "state",
        label="pair",
        probe=lambda: torch.zeros(()),
        held=network.bank.held,
    )
    assert network.bank.tokens == {}
    expected = Pair().gradients().values()
    norm = torch.stack([g.norm() for g in expected]).norm().item()
    assert records[-1].gradient_norm == pytest.approx(norm, rel=1e-5)


def test_networks_that_cannot_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\['Linear'\] supports gradient checkpointing"):
        checkpoint_gradients(nn.Linear(2, 2))
