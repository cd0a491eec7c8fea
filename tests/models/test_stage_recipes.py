"""What a stage's recipe depends on, over all methods: what it learns, and not where that is computed or how often it is looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.diffusion_method import DiffusionMethod
from models.methods import methods
from models.stable_animator.magic.method import MAGIC
from models.stable_animator.method import ON_SVD
from models.train import recipe_of

NOT_SHAPING: dict[str, Any] = {
    "workers": 2, "device": "cuda", "save_every_s": 1.5, "pictures": 7, "probes": 3, "tensorboard": True,
}  # fmt: skip
SHAPING: dict[str, Any] = {
    "learning_rate": 0.125, "steps": 7777, "accumulation": 6, "precision": "float16", "ema_decay": 0.5, "warmup_steps": 77,
}  # fmt: skip
BATCHES = ("references", "batch")


STAGES = {
    "animate_anyone": ("stage_1", "stage_2"),
    "hfca": ("stage_1", "stage_1b", "stage_2"),
    "hia": ("stage_1", "stage_2", "stage_3", "stage_4"),
    "stable_animator": ("stage_1",),
    MAGIC.default_variant: ("stage_1", "stage_2"),  # StableAnimator on Table 5's backbone, which has stages of its own
    "sd_2v": ("stage_1", "stage_2"),
    "ipc": ("stage_1", "stage_2"),
}


def _known() -> dict[str, tuple[DiffusionMethod, str]]:
    """Name -> (method, variant at the demo's size) of all that trains."""
    training = {name: method for name, method in methods().items() if method.stages_of(method.default_variant)}
    every = {**training, "stable_animator": ON_SVD, MAGIC.default_variant: MAGIC}
    return {name: (method, method.default_variant) for name, method in every.items() if isinstance(method, DiffusionMethod)}


def _recipe(method: DiffusionMethod, variant: str, stage: str, settings: Any, patch: pytest.MonkeyPatch) -> str:
    """The recipe where that stage of the variant has these settings."""
    changed = replace(method, variants={**method.variants, variant: replace(method.chosen(variant), **{stage: settings})})
    patch.setattr("models.train.method_named", lambda _: changed)
    return recipe_of(method.name, variant, stage)


@pytest.mark.parametrize(("name", "stage"), [(name, stage) for name, stages in STAGES.items() for stage in stages])
def test_a_recipe_depends_on_what_a_stage_learns_alone(name: str, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, variant = _known()[name]
    settings = method.settings_of(method.chosen(variant), stage)
    settings = replace(settings, loop=replace(settings.loop, accumulation=4))

    def recipe(changed: Any) -> str:
        return _recipe(method, variant, stage, changed, monkeypatch)

    plain = recipe(settings)
    assert plain == recipe(replace(settings))
    for field, value in NOT_SHAPING.items():
        assert getattr(settings.loop, field) != value
        assert recipe(replace(settings, loop=replace(settings.loop, **{field: value}))) == plain, field
    for field, value in SHAPING.items():
        assert getattr(settings.loop, field) != value
        assert recipe(replace(settings, loop=replace(settings.loop, **{field: value}))) != plain, field
    (batch,) = (field for field in BATCHES if hasattr(settings, field))
    assert recipe(replace(settings, **{batch: getattr(settings, batch) + 1})) != plain


def test_every_method_that_trains_is_asked() -> None:
    assert {name: method.stages_of(variant) for name, (method, variant) in _known().items()} == STAGES
