"""What the demo runs: which methods, and which learned extractors they need. What is not shipped is left out, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.method_names import FLOORS
from pipelines.errors import MissingWeightsError, UserError
from pipelines.sources import registry
from pipelines.sources.performers import DEMO_OPTIONS

DEMO = "performers_dance"
DEMO_METHODS = ("animate_anyone",)
# Poses train and drive; faces, hands and masks say where regions are; `truth` only judges them.
DEMO_EXTRACTORS = ("dwpose_tiny", "scrfd_tiny", "body_mask_tiny")
_SIGNALS: Mapping[str, str] = {
    "hands": "dwpose_tiny",
    "faces": "scrfd_tiny",
    "body_mask": "body_mask_tiny",
    "densepose": "densepose_tiny",
    "clothing": "clothing_tiny",
    "actions": "action_tiny",
    "caption": "caption_tiny",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoPlan:
    """models: method:variant:seed, the floors first, each method's shipped checkpoint behind what the demo trains; left_out: method -> why."""

    dataset: registry.Dataset
    models: tuple[str, ...]
    left_out: Mapping[str, str]


def plan_demo(methods: Sequence[str] = DEMO_METHODS) -> DemoPlan:
    """The plan for these methods, or for `all`. A method of which a network is not shipped is left out. Raises UserError for an unknown one."""
    from models.methods import method_named
    from models.methods import methods as known
    from models.shipped_checkpoint import SHIPPED, is_shipped

    chosen = [name for name in known() if name not in FLOORS] if list(methods) == ["all"] else list(dict.fromkeys(methods))
    models = [f"{floor}:{method_named(floor).default_variant}:0" for floor in FLOORS]
    extractors, left_out = list(DEMO_EXTRACTORS), dict[str, str]()
    for name in (name for name in chosen if name not in FLOORS):
        wanted = [_SIGNALS[signal] for signal in method_named(name).needs]
        reason = _missing(name, wanted)
        if reason:
            left_out[name] = reason
            continue
        models.append(f"{name}:{method_named(name).default_variant}:0")
        models += [f"{name}:{SHIPPED}:0"] if is_shipped(name) else []
        extractors += [extractor for extractor in wanted if extractor not in extractors]
    if len(models) == len(FLOORS) and left_out:
        raise UserError(f"no method can run: {'; '.join(f'{name}: {reason}' for name, reason in left_out.items())}")
    dataset = registry.Dataset(
        name=DEMO, kind="performers", options=DEMO_OPTIONS, extractors=(*extractors, "truth"), training_extractor=DEMO_EXTRACTORS[0],
        protocol="demo",
    )  # fmt: skip
    return DemoPlan(dataset=dataset, models=tuple(models), left_out=left_out)


def _missing(method: str, extractors: Sequence[str]) -> str:
    """Why a method cannot run with what is shipped; "" where it can."""
    from models.methods import method_named
    from pipelines.extractors.registry import extractors_named

    known = method_named(method)
    try:
        known.weights_digest(known.default_variant)
        for extractor in extractors_named([*DEMO_EXTRACTORS, *extractors]):
            extractor.weights_digest()
    except MissingWeightsError as error:
        return str(error)
    return ""
