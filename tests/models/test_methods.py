"""What every method offers, and what a user hears who asks for another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from models.animator import Driving, Reference
from models.clip_dataset import TrainingClip
from models.methods import method_named, methods
from models.model_key import ModelKey
from models.signals import SignalName
from pipelines.code_version import ROOT
from pipelines.errors import UserError


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_method_has_a_default_variant_and_stages_that_a_manifest_can_hold(name: str) -> None:
    method = methods()[name]
    assert method.default_variant in method.variants
    assert set(method.needs) <= set(get_args(SignalName))
    assert all((ROOT / path).is_file() for path in (*method.sampling_code, *method.training_code))
    for variant in method.variants:
        assert json.dumps(method.config(variant))  # a manifest can hold it
        for stage in method.stages_of(variant):
            assert json.dumps(method.stage_config(variant, stage))
    with pytest.raises(UserError, match=r"no variant 'huge'"):
        method.stages_of("huge")
    with pytest.raises(UserError, match=r"no variant 'huge'"):
        method.config("huge")
    with pytest.raises(UserError, match=r"no stage 'stage_9'"):
        method.train("stage_9", variant=method.default_variant, clips=[], parent=None, out=Path("x"), seed=0, identity={})


def test_an_unknown_method_or_variant_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"no method 'animate_anybody'; there are: animate_anyone, .*copy_reference"):
        method_named("animate_anybody")
    with pytest.raises(UserError, match=r"no variant 'huge'; it has: .*demo"):
        method_named("animate_anyone").config("huge")


def test_a_key_is_read_as_it_is_written() -> None:
    assert str(ModelKey.parse("animate_anyone:demo:3")) == "animate_anyone:demo:3"
    assert ModelKey.parse("animate_anyone") == ModelKey(method="animate_anyone", variant="demo", seed=0)
    assert ModelKey.parse("copy_reference::2") == ModelKey(method="copy_reference", variant="default", seed=2)
    with pytest.raises(UserError, match="the seed must be a number"):
        ModelKey.parse("animate_anyone:demo:zero")
    with pytest.raises(UserError, match="the seed must be a number"):
        ModelKey.parse("animate_anyone:demo:²")  # a digit for Python, no number
    with pytest.raises(UserError, match="no method"):
        ModelKey.parse("nobody")


def test_no_method_loads_a_variant_that_it_does_not_have(tmp_path: Path) -> None:
    for name, method in methods().items():
        with pytest.raises(UserError, match=f"{name} has no variant 'huge'"):
            method.load("huge", tmp_path)


def test_animate_anyone_needs_a_checkpoint() -> None:
    with pytest.raises(UserError, match="needs a checkpoint"):
        method_named("animate_anyone").load("demo", None)


def test_copy_reference_repeats_the_reference(clips: list[TrainingClip]) -> None:
    reference = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    item = clips[0]
    animator = method_named("copy_reference").load("default", None)
    asked = Reference(image=reference, points=item.keypoints[0], scores=item.scores[0])
    driving = Driving(points=item.keypoints, scores=item.scores)
    made = animator(asked, driving, seed=0)
    assert made.shape == (12, 20, 30, 3)
    assert (made == reference).all()
    pieces = list(animator.in_pieces(asked, driving, seed=0))
    assert [len(piece) for piece in pieces] == [8, 4]
    np.testing.assert_array_equal(np.concatenate(pieces), made)
    assert animator.size is None
