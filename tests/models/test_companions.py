"""A stage that learns from a second data set: its id and its clips hold both, and no other stage's do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models import train
from models.clip_dataset import TrainingClip
from models.companions import all_companions, companions_of
from models.model_key import ModelKey
from models.train import checkpoint_ids, train_stage
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset, register
from tests.toy_method import ToyMethod

OWN, BESIDE = Dataset(name="own", kind="performers"), Dataset(name="beside", kind="performers")
KEY = ModelKey(method="toy", variant="demo", seed=0)


class Adapted(ToyMethod):
    """stage_1b reads another data set too; `seen` is what it was given."""

    seen: list[str]

    def companions(self, variant: str, stage: str) -> tuple[str, ...]:
        return ("beside", "own") if stage == "stage_1b" else ()

    def train(self, stage: str, **arguments: Any) -> Any:
        self.seen = [clip.clip.clip_id for clip in arguments["clips"]]
        return super().train(stage, **arguments)


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> Adapted:
    made = Adapted("toy")
    monkeypatch.setattr("models.methods.methods", lambda: {"toy": made, "plain": ToyMethod("plain")})
    return made


@pytest.fixture
def lake(tmp_path: Path, method: Adapted) -> Lake:
    made = Lake(tmp_path).create()
    for dataset in (OWN, BESIDE):
        register(made, dataset)
        made.write("training_rows", [_row(dataset.name, "first")])
    return made


def _row(dataset: str, clip: str) -> dict[str, Any]:
    return {"dataset": dataset, "method": "toy", "clip_id": clip, "frames": 8}


def test_a_methods_companions_leave_out_its_own_data_set(method: Adapted) -> None:
    assert companions_of(KEY, "stage_1b", "own") == ("beside",)
    assert companions_of(KEY, "stage_1b", "third") == ("beside", "own")
    assert all_companions(KEY, "own") == ("beside",)
    assert all_companions(ModelKey(method="plain", variant="demo", seed=0), "own") == ()


def test_rows_of_the_companion_are_part_of_the_ids_from_its_stage_on(lake: Lake) -> None:
    before = checkpoint_ids(lake, OWN, KEY)
    lake.write("training_rows", [_row("beside", "second")])
    after = checkpoint_ids(lake, OWN, KEY)
    assert [after[stage] == before[stage] for stage in ("stage_1", "stage_1b", "stage_2")] == [True, False, False]
    lake.write("training_rows", [_row("own", "second")])
    assert not set(checkpoint_ids(lake, OWN, KEY).values()) & set(after.values())


def test_its_clips_stand_behind_the_data_sets_own(
    lake: Lake, method: Adapted, make_clip: Callable[..., TrainingClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = {name: [make_clip(f"{name}_clip")] for name in ("own", "beside")}
    monkeypatch.setattr(train, "load_training_clips", lambda lake, dataset, method: clips[dataset.name])
    train_stage(lake, OWN, KEY, "stage_1")
    assert method.seen == ["own_clip"]
    train_stage(lake, OWN, KEY, "stage_1b")
    assert method.seen == ["own_clip", "beside_clip"]
