"""Data sets that a stage learns from beside the one that it is trained on: HFCA's adaptation to actions and clothes reads UCF101.

Called by training (models/train.py) and by what brings its rows up to date first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from models.methods import method_named
from models.model_key import ModelKey
from models.training_rows import write_training_rows
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset, load


@runtime_checkable
class HasCompanions(Protocol):
    """A method with such a stage."""

    def companions(self, variant: str, stage: str) -> tuple[str, ...]:
        """Names of the data sets whose training clips the stage wants behind those of its own; most stages have none."""
        ...


def companions_of(key: ModelKey, stage: str, own: str) -> tuple[str, ...]:
    """The companions of one stage of a model, without the data set `own` that it is trained on."""
    method = method_named(key.method)
    names = method.companions(key.variant, stage) if isinstance(method, HasCompanions) else ()
    return tuple(name for name in names if name != own)


def all_companions(key: ModelKey, own: str) -> tuple[str, ...]:
    """Those of all stages of a model, each once."""
    stages = method_named(key.method).stages_of(key.variant)
    return tuple(dict.fromkeys(name for stage in stages for name in companions_of(key, stage, own)))


def write_rows_of_model(lake: Lake, dataset: Dataset, key: ModelKey, lineage: Mapping[str, Any] | None = None) -> Mapping[str, int]:
    """Bring `training_rows` up to date for the data set and for the model's companions. Raises UserError where one is not prepared.

    Returns how many clips of the data set were left out for want of each signal.
    """
    for name in all_companions(key, dataset.name):
        write_training_rows(lake, load(lake, name), key.method, lineage)
    return write_training_rows(lake, dataset, key.method, lineage)
