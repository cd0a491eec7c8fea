"""Packed checkpoints: how far they are from what was packed, how small they are, and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.animate_anyone.config import AnimateAnyoneConfig
from models.animate_anyone.method import ANIMATE_ANYONE
from models.animate_anyone.network import fresh_network, load_network
from models.checkpoint import WEIGHTS, read_manifest, save_checkpoint, verify
from models.diffusion_method import DiffusionMethod
from models.methods import methods
from models.shipped_checkpoint import FOLDER, PACKED, is_packed, ship, unpacked
from models.stable_animator.method import ON_SVD
from pipelines.errors import MissingWeightsError, UserError
from pipelines.packed_weights import SMALL


@pytest.fixture
def shipped(tiny: AnimateAnyoneConfig, tmp_path: Path) -> tuple[Path, Path, dict[str, list[Path]]]:
    """A checkpoint a little away from its base, and what is shipped of it."""
    torch.manual_seed(0)
    network = fresh_network(tiny)
    base = tmp_path / "base.safetensors"
    save_file({name: value.contiguous() for name, value in network.made_of.denoising_unet.state_dict().items()}, base)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    save_checkpoint(tmp_path / "whole", network.parts(), {"checkpoint_id": "0" * 16, "method": "animate_anyone", "variant": "tiny"})
    bases = {"denoising_unet": [base], "reference_unet": [base]}
    ship(tmp_path / "whole", tmp_path / "small", bases)
    return tmp_path / "whole", tmp_path / "small", bases


def test_a_shipped_checkpoint_loads_as_the_method_loads_any(
    tiny: AnimateAnyoneConfig, shipped: tuple[Path, Path, dict[str, list[Path]]]
) -> None:
    whole, small, bases = shipped
    verify(small)
    assert (is_packed(small), is_packed(whole)) == (True, False)
    assert read_manifest(small)["checkpoint_id"] == "0" * 16
    with unpacked(small, bases) as folder:
        ours, theirs = load_network(tiny, folder), load_network(tiny, whole)
    assert not folder.exists()
    for name, value in theirs.state_dict().items():
        assert float((ours.state_dict()[name] - value).abs().max()) <= 2e-3 * max(1.0, float(value.abs().max())), name
    weights = sum(path.stat().st_size for path in whole.glob(f"*/{WEIGHTS}"))
    assert sum(path.stat().st_size for path in small.glob(f"*/{PACKED}")) < 0.35 * weights  # of tensors as small as these


def test_what_would_be_too_large_is_packed_in_larger_steps(
    shipped: tuple[Path, Path, dict[str, list[Path]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, small, bases = shipped
    limit = int(0.95 * sum(path.stat().st_size for path in small.glob(f"*/{PACKED}")))
    monkeypatch.setattr("models.shipped_checkpoint.LIMIT", limit)
    step = ship(whole, tmp_path / "smaller", bases)["packing_step"]
    assert sum(path.stat().st_size for path in (tmp_path / "smaller").glob(f"*/{PACKED}")) <= limit
    assert read_manifest(small)["packing_step"] == 1
    assert 1 < step < 3
    monkeypatch.setattr("models.shipped_checkpoint.LIMIT", 1000)
    with pytest.raises(UserError, match=r"does not fit into 0\.00 MB even in steps 3\.0 times"):
        ship(whole, tmp_path / "none", bases)
    assert not (tmp_path / "none").exists()
    with unpacked(tmp_path / "smaller", bases) as folder:
        for part in ("denoising_unet", "reference_unet"):
            ours, theirs = (load_file(place / part / WEIGHTS) for place in (folder, whole))
            base = load_file(bases[part][0])
            for name in (name for name in theirs if theirs[name].numel() >= SMALL):
                spread = (theirs[name] - base.get(name, torch.zeros_like(theirs[name]))).square().mean().sqrt()
                assert float((ours[name] - theirs[name]).square().mean().sqrt()) < 0.3 * step * float(spread), name


def test_another_base_is_refused(shipped: tuple[Path, Path, dict[str, list[Path]]], tmp_path: Path) -> None:
    _, small, bases = shipped
    changed = {name: value + 1e-3 for name, value in load_file(bases["reference_unet"][0]).items()}
    save_file(changed, tmp_path / "other.safetensors")
    with (
        pytest.raises(UserError, match="denoising_unet was packed against another base"),
        unpacked(small, {key: [tmp_path / "other.safetensors"] for key in bases}),
    ):
        pass


def test_a_damaged_checkpoint_is_not_shipped(shipped: tuple[Path, Path, dict[str, list[Path]]], tmp_path: Path) -> None:
    whole, _, bases = shipped
    (whole / "pose_guider" / "config.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"pose_guider/config.json"):
        ship(whole, tmp_path / "again", bases)
    assert not (tmp_path / "again").exists()


def test_the_shipped_variant_trains_nothing_and_says_what_it_is(
    shipped: tuple[Path, Path, dict[str, list[Path]]], tiny: AnimateAnyoneConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, small, bases = shipped
    monkeypatch.setattr("models.shipped_checkpoint.FOLDER", tmp_path / "family")
    method = replace(ANIMATE_ANYONE, variants={"demo": tiny, "long": tiny}, bases=lambda _: bases, weight_files=lambda _: [])
    with pytest.raises(MissingWeightsError, match="rotoscope tiny ship animate_anyone"):
        method.weights_digest("shipped")
    (tmp_path / "family").mkdir()
    (tmp_path / "family" / "animate_anyone").symlink_to(small)
    assert method.stages_of("shipped") == ()
    assert method.config("shipped") == method.config("long")
    assert method.weights_digest("shipped") != method.weights_digest("long")
    assert method.load("shipped", None).sampler["weights"] == method.weights_digest("shipped")
    with pytest.raises(UserError, match="it has: demo, long, shipped"):
        method.chosen("nobody")


SHIPPABLE = [known for known in (*methods().values(), ON_SVD) if getattr(known, "shipped_from", None)]


@pytest.mark.parametrize("known", SHIPPABLE, ids=lambda known: known.name)
def test_what_is_shipped_is_the_demo_trained_longer(known: DiffusionMethod) -> None:
    assert known.shipped_from is not None
    short, longer = (known.config(variant) for variant in (known.default_variant, known.shipped_from))
    stages = known.stages_of(known.shipped_from)
    assert stages == known.stages_of(known.default_variant)
    different = {name for name in short if short[name] != longer[name]}
    assert (
        set(stages) <= different <= {*stages, "sampling", "motion_adapter"}
    )  # AnimateAnyone's was trained before there were motion modules
    for stage in stages:
        assert longer[stage]["loop"]["steps"] > short[stage]["loop"]["steps"]
        assert {**longer[stage], "loop": None} == {**short[stage], "loop": None}


@pytest.mark.parametrize("known", [known for known in SHIPPABLE if (FOLDER / known.name).is_dir()], ids=lambda known: known.name)
def test_what_is_shipped_is_far_above_copying_by_its_card(known: DiffusionMethod) -> None:
    folder = FOLDER / known.name
    verify(folder)
    card = json.loads((folder / "card.json").read_text())
    scores, copying = card["scores"], card["scores_of_copy_reference"]
    assert card["checkpoint_id"] == read_manifest(folder)["checkpoint_id"]
    assert set(card["stages"]) == set(known.stages_of(str(known.shipped_from)))
    assert scores["psnr"] >= copying["psnr"] + 4
    assert scores["pose_error"] < 5
    assert min(scores["csim"], scores["csim_second"]) > 0.6
    assert scores.get("flicker_still", 0.0) < 0.5  # cards from before the metric lack it
