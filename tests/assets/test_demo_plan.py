"""What the demo runs, and what it says of methods that it cannot run."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.demo import DEMO_EXTRACTORS, plan_demo
from models import pretrained_networks
from models.methods import methods
from pipelines.errors import UserError


def test_by_default_one_method_beside_the_floor() -> None:
    plan = plan_demo()
    assert plan.models == ("copy_reference:default:0", "animate_anyone:demo:0")
    assert plan.dataset.extractors == (*DEMO_EXTRACTORS, "truth")
    assert plan.dataset.training_extractor != "truth"
    assert not plan.left_out


def test_all_names_every_method_once_and_says_why_one_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pretrained_networks, "SHIPPED", tmp_path)  # as if none of the generators' networks were shipped
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
