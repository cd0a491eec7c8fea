"""One forward and backward pass of every stage of the SD 1.5 methods: the papers' four levels, at a small width and with gradient checkpointing."""

from __future__ import annotations

import pytest
import torch

from benchmarks.paper_scale import CASES, sd_codec, synthetic_batch
from models.gradient_checkpointing import checkpoint_gradients
from models.training_loop import generator_for


@pytest.mark.parametrize("method", list(CASES))
def test_every_stage_trains_what_it_should_and_nothing_stays_in_the_bank(method: str) -> None:
    torch.manual_seed(0)
    stages = []
    for case in CASES[method](True, sd_codec(reduced=True)):
        chosen = case.network.trainable(case.stage)
        checkpoint_gradients(case.network)
        with case.network.bank.held():
            case.loss.of(synthetic_batch(case.loss.stage, case.size), generator_for(0, 0), 0.0).backward()
        with_gradient = {name for name, p in chosen.items() if p.grad is not None}
        assert with_gradient, case.stage
        assert all(torch.isfinite(p.grad).all() for p in chosen.values() if p.grad is not None)
        frozen = {id(p) for p in case.network.parameters()} - {id(p) for p in chosen.values()}
        assert all(p.grad is None for p in case.network.parameters() if id(p) in frozen)
        assert not case.network.bank.tokens
        case.network.zero_grad(set_to_none=True)
        stages.append(case.stage)
    assert len(stages) == len(set(stages)) >= 2
