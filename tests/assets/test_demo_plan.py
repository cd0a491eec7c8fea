"""What the demo runs, and what it says of methods that it cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.demo import DEMO_EXTRACTORS, plan_demo
from models import pretrained_networks, shipped_checkpoint
from models.methods import methods
from pipelines.errors import UserError

UNTRAINED = ("copy_reference:default:0", "warp_reference:default:0")


@pytest.fixture(autouse=True)
def nothing_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No method's checkpoint is shipped; the folder where they would be."""
    monkeypatch.setattr(shipped_checkpoint, "FOLDER", tmp_path / "methods")
    return tmp_path / "methods"


def test_a_shipped_checkpoint_stands_behind_what_the_demo_trains(nothing_shipped: Path) -> None:
    (nothing_shipped / "animate_anyone").mkdir(parents=True)
    (nothing_shipped / "animate_anyone" / "manifest.json").write_text("{}")
    assert plan_demo().models == (*UNTRAINED, "animate_anyone:demo:0", "animate_anyone:shipped:0")


def test_by_default_one_method_beside_what_learns_nothing() -> None:
    plan = plan_demo()
    assert plan.models == (*UNTRAINED, "animate_anyone:demo:0")
    assert plan.dataset.extractors == (*DEMO_EXTRACTORS, "truth")
    assert plan.dataset.training_extractor != "truth"
    assert not plan.left_out


def test_all_names_every_method_once_and_says_why_one_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "base_unet").symlink_to(pretrained_networks.SHIPPED / "base_unet")  # as if no other network of the generators were shipped
    monkeypatch.setattr(pretrained_networks, "SHIPPED", tmp_path)
    plan = plan_demo(["all"])
    run = {model.split(":")[0] for model in plan.models}
    assert run | set(plan.left_out) == set(methods())
    assert not run & set(plan.left_out)
    assert "rotoscope tiny train" in plan.left_out["hia"]


def test_unknown_methods_and_plans_without_any_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no method 'dreampose'"):
        plan_demo(["dreampose"])
    monkeypatch.setattr(pretrained_networks, "SHIPPED", tmp_path)
    with pytest.raises(UserError, match="no method can run: hia: "):
        plan_demo(["hia"])
