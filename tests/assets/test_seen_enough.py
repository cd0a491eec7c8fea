"""What a method needs is extracted before it trains, whatever was run in the lake before: the demo's people and the data sets beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from assets.command import _seen_enough
from assets.demo import DEMO_EXTRACTORS, plan_demo
from assets.run import _prepare_companion
from models.methods import method_named
from models.signal_rows import TABLE_OF
from pipelines.lake import Lake
from pipelines.sources import registry

PLAIN = plan_demo().dataset


def test_run_sees_the_demos_people_through_what_the_method_needs() -> None:
    """After a plain demo, `rotoscope run --dataset performers_dance --method hfca` finds action tokens, not annotations."""
    seen = _seen_enough(PLAIN, ("copy_reference", "hfca"))
    assert seen.extractors[: len(DEMO_EXTRACTORS)] == DEMO_EXTRACTORS
    assert seen.extractors[-1] == "truth"
    for name in method_named("hfca").needs:
        assert seen.extractor_of(TABLE_OF[name]) != "truth", name
    assert PLAIN.extractor_of("actions") == "truth"


def test_run_leaves_every_other_data_set_as_its_user_chose() -> None:
    assert _seen_enough(PLAIN, ("copy_reference",)) == PLAIN
    for other in (replace(PLAIN, name="mine"), replace(PLAIN, training_extractor="truth")):
        assert _seen_enough(other, ("hfca",)) == other


def test_a_companion_that_was_made_for_less_is_seen_through_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, made = Lake(tmp_path).create(), list[registry.Dataset]()
    monkeypatch.setattr("assets.run.prepare", lambda instance, lake, dataset: made.append(registry.register(lake, dataset)))
    monkeypatch.setattr(Lake, "clips", lambda self, dataset: ["a clip"] if made else [])
    instance = dg.DagsterInstance.ephemeral()
    for like in (PLAIN, _seen_enough(PLAIN, ("hfca",)), PLAIN):  # the last one has all that it needs
        _prepare_companion(instance, lake, "performers_actions", like)
    first, second = made
    assert first.extractors == PLAIN.extractors
    assert "action_tiny" not in first.extractors
    assert second.extractor_of("actions") == "action_tiny"
    assert second.extractors[-1] == "truth"
    assert {first.training_extractor, second.training_extractor} == {DEMO_EXTRACTORS[0]}
