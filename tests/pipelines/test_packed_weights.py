"""Packed networks: how far they are from what was packed, how small they are, where they are unpacked, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines import packed_weights
from pipelines.errors import UserError
from pipelines.packed_weights import (
    FINE,
    STEP_OF_DIFFERENCE,
    STEP_OF_WHOLE,
    cache_folder,
    is_packed,
    key_of,
    pack_folder,
    packed,
    restored,
    whole,
)  # fmt: skip


def test_restored_weights_are_off_by_half_a_step_at_most() -> None:
    torch.manual_seed(0)
    base = {"a.weight": torch.randn(128, 64)}
    weights = {"a.weight": base["a.weight"] + 0.01 * torch.randn(128, 64), "b.weight": torch.randn(96, 96), "norm.bias": torch.randn(32)}
    again = restored(packed(weights, base), base)
    assert set(again) == set(weights)
    for name, start, share in (("a.weight", base["a.weight"], STEP_OF_DIFFERENCE), ("b.weight", torch.zeros(96, 96), STEP_OF_WHOLE)):
        steps = share * (weights[name] - start).square().mean(1).sqrt()  # of each row
        assert bool(((again[name] - weights[name]).abs().amax(1) <= 0.5 * steps * 1.01 + 1e-6).all())
    assert torch.equal(again["norm.bias"], weights["norm.bias"].half().float())


def test_what_did_not_change_costs_nothing_and_comes_back_exactly() -> None:
    weight = torch.randn(256, 256)
    made = packed({"w": weight}, {"w": weight})
    assert not made["w"].any()
    assert torch.equal(restored(made, {"w": weight})["w"], weight)


def test_a_base_of_another_shape_is_none() -> None:
    weight = torch.randn(128, 64)
    again = restored(packed({"w": weight}, {"w": torch.randn(64, 128)}), {"w": torch.randn(64, 128)})
    assert float((again["w"] - weight).abs().max()) <= 0.15


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rotoscope"


def network(folder: Path, weights: dict[str, Tensor]) -> Path:
    """A folder as the networks are published: a config beside the weights."""
    (folder / "inner").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file(weights, folder / "inner" / "model.safetensors", metadata={"format": "pt"})
    return folder


def some_weights(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {"layer.weight": torch.randn(256, 128).half(), "layer.bias": torch.randn(256).half(), "count": torch.tensor(3)}


def test_a_packed_folder_opens_as_it_was_published(tmp_path: Path, cache: Path) -> None:
    weights = some_weights()
    folder = network(tmp_path / "net", weights)
    size = (folder / "inner" / "model.safetensors").stat().st_size
    assert whole(folder) == folder
    pack_folder(folder)
    assert is_packed(folder)
    assert not list(folder.rglob("*.safetensors"))
    assert (folder / "inner" / "model.safetensors.xz").stat().st_size < 0.45 * size
    opened = whole(folder)
    assert opened.parent == cache == cache_folder()
    assert (opened / "config.json").read_text() == "{}"
    with safe_open(opened / "inner" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # transformers opens no other
    again = load_file(opened / "inner" / "model.safetensors")
    assert {name: value.dtype for name, value in again.items()} == {name: value.dtype for name, value in weights.items()}
    assert torch.equal(again["layer.bias"], weights["layer.bias"])
    assert int(again["count"]) == 3
    error = (again["layer.weight"].float() - weights["layer.weight"].float()).square().mean()
    assert float(error) < (FINE * STEP_OF_WHOLE) ** 2 / 12 * 1.1  # of unit weights


def test_it_is_unpacked_once_and_its_card_does_not_matter(tmp_path: Path) -> None:
    folder = network(tmp_path / "net", some_weights())
    pack_folder(folder)
    opened = whole(folder)
    stamp = (opened / "config.json").stat().st_mtime_ns
    (folder / "card.json").write_text("another word")
    assert whole(folder) == opened
    assert (opened / "config.json").stat().st_mtime_ns == stamp
    (folder / "config.json").write_text('{"changed": 1}')
    assert whole(folder) != opened


def test_another_process_may_be_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = network(tmp_path / "net", some_weights())
    pack_folder(folder)
    restored_bytes = packed_weights.restored_bytes
    target = cache_folder() / f"net-{key_of(folder)[:16]}"

    def first(content: bytes, base: dict[str, Tensor]) -> dict[str, Tensor]:
        target.mkdir(parents=True)
        (target / "theirs").write_text("")
        return restored_bytes(content, base)

    monkeypatch.setattr(packed_weights, "restored_bytes", first)
    assert whole(folder) == target
    assert [path.name for path in target.iterdir()] == ["theirs"]
    assert not list(target.parent.glob(".*"))


def test_a_difference_is_smaller_and_needs_its_base(tmp_path: Path) -> None:
    base = network(tmp_path / "base", some_weights())
    pack_folder(base)
    opened = load_file(whole(base) / "inner" / "model.safetensors")
    weights = {**some_weights(1), "layer.weight": opened["layer.weight"] + (0.01 * torch.randn(256, 128)).half()}
    alone, child = network(tmp_path / "alone", weights), network(tmp_path / "child", weights)
    pack_folder(alone)
    pack_folder(child, base)
    again = load_file(whole(child) / "inner" / "model.safetensors")["layer.weight"].float()
    error = (again - weights["layer.weight"].float()).square().mean().sqrt()
    worse = (
        (load_file(whole(alone) / "inner" / "model.safetensors")["layer.weight"].float() - weights["layer.weight"].float())
        .square()
        .mean()
        .sqrt()
    )
    assert float(error) < 0.1 * float(worse)
    (base / "config.json").write_text('{"changed": 1}')
    (child / "config.json").write_text('{"changed": 1}')  # not in the cache
    with pytest.raises(UserError, match=r"packed against another base than the one at .*rotoscope tiny train child"):
        whole(child)
    assert json.loads((child / "packed.json").read_text())["base"] == "base"


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = network(tmp_path / "net", some_weights())
    pack_folder(folder)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be unpacked into .* set XDG_CACHE_HOME"):
        whole(folder)
