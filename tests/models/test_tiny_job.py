"""Jobs of the tiny family: a digest that a seed repeats, a run that goes on after a kill, people who are never both trained on and measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.methods import methods
from models.tiny.job import SHIPPED, TinyJob, run_job, verify
from models.tiny.people import TRAINING_IDENTITIES, UNSEEN_IDENTITIES, cast, draw
from models.tiny.registry import job_named, jobs
from models.training_loop import LoopConfig, LossAt
from pipelines.errors import UserError
from pipelines.sources.performers import DEMO_OPTIONS


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.randn(1))


def _loss_of(network: Any, data: Tensor) -> LossAt:
    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        x = data[torch.randint(len(data), (8,), generator=generator)]
        return (network.slope * x - 3 * x).square().mean()

    return loss_at


JOB = TinyJob(
    name="line",
    title="A line",
    purpose="y = 3 x.",
    loop=LoopConfig(steps=40, learning_rate=0.3, weight_decay=0.0, ema_decay=None, decay="cosine", probes=5, pictures=0, save_every_s=0.0),
    draw=lambda cache: torch.linspace(-1, 1, 64),
    build=_Line,
    loss_of=_loss_of,
    export=lambda network, folder: save_file(dict(network.state_dict()), folder / "weights.safetensors"),
    measure=lambda folder, cache: {"size_bytes": float((folder / "weights.safetensors").stat().st_size)},
)


def test_a_seed_repeats_the_digest_and_another_one_does_not(tmp_path: Path) -> None:
    digests = [
        run_job(JOB, work=tmp_path / str(i), out=tmp_path / f"out{i}", seed=seed, steps=3)["files"]["weights.safetensors"]
        for i, seed in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = run_job(JOB, work=tmp_path / "a", out=tmp_path / "whole")

    class Killed(BaseException):
        pass

    def kill(record: Any) -> None:
        if record.step == 17:
            raise Killed

    with pytest.raises(Killed):
        run_job(JOB, work=tmp_path / "b", out=tmp_path / "cut", on_record=kill)
    assert not (tmp_path / "cut").exists()
    cut = run_job(JOB, work=tmp_path / "b", out=tmp_path / "cut")
    assert cut["files"] == whole["files"]
    assert cut["loss"] == whole["loss"]


def test_the_card_says_what_was_measured_and_the_loss_fell(tmp_path: Path) -> None:
    facts = run_job(JOB, work=tmp_path, out=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "card.json").read_text())["scores"] == facts["scores"]
    text = (tmp_path / "out" / "README.md").read_text()
    assert "rotoscope tiny train line" in text
    assert facts["files"]["weights.safetensors"] in text
    assert facts["loss"][-1][1] < 0.05 * facts["loss"][0][1]


def test_a_network_without_a_card_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("models.tiny.job.SHIPPED", tmp_path)
    with pytest.raises(UserError, match="rotoscope tiny train dwpose"):
        verify("dwpose")
    with pytest.raises(UserError, match="autoencoder"):
        job_named("nobody")


def test_nobody_is_both_trained_on_and_measured() -> None:
    demo = range(DEMO_OPTIONS["train_identities"]), range(1000, 1000 + DEMO_OPTIONS["test_identities"])
    groups = [set(TRAINING_IDENTITIES), set(UNSEEN_IDENTITIES), *map(set, demo)]
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_what_is_shipped_is_what_the_cards_were_written_for() -> None:
    shipped = [name for name in jobs() if (SHIPPED / name / "card.json").is_file()]
    assert "autoencoder" in shipped
    for name in shipped:
        card, wrong = verify(name)
        assert not wrong, name
        assert card["role"] == f"{name}_tiny"
        assert card["scores"]


def test_the_family_is_small() -> None:
    """16 MB for the whole family, 3 MB for each method's checkpoint beside it."""
    sizes = {folder.name: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) for folder in SHIPPED.iterdir()}
    checkpoints = {name: sizes.pop(name) for name in methods() if name in sizes}
    assert set(jobs()) & set(sizes)
    assert sum(sizes.values()) < 16_000_000
    assert all(size < 3_000_000 for size in checkpoints.values()), checkpoints


def test_people_are_drawn_once_and_alike(tmp_path: Path) -> None:
    casting = cast(range(2000, 2002), clips=1, frames=4, every=2, truth=("keypoints",))
    first = draw(casting, tmp_path)
    folder = next(tmp_path.iterdir())
    stamp = (folder / "frames.npy").stat().st_mtime_ns
    again, elsewhere = draw(casting, tmp_path), draw(casting, tmp_path / "other")
    assert (folder / "frames.npy").stat().st_mtime_ns == stamp
    assert first.frames.shape == (4, 128, 128, 3)
    assert first.truth["keypoints"].shape == (4, 133, 2)
    assert first.identity.tolist() == [2000, 2000, 2001, 2001]
    assert np.array_equal(again.frames, elsewhere.frames)
    assert draw(replace(casting, frames=2), tmp_path).frames.shape[0] == 2
