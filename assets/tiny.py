"""The tiny family: one asset per network that the project trains on performers and ships."""

import json
from typing import Any

import dagster as dg
from pydantic import Field

from assets.checks import simple
from assets.home import tiny_work
from assets.step import Result
from pipelines.code_version import ROOT, code_version
from pipelines.weights_table import WEIGHTS

TINY = tuple(role.removesuffix("_tiny") for role, weight in WEIGHTS.items() if weight.shipped)
"""Names of the networks, as `rotoscope tiny list` shows them."""

SHIPPED = tuple(name for name in TINY if (ROOT / "pipelines" / "tiny" / name / "card.json").is_file())
"""Those that have been trained."""


class TinyNetwork(dg.Config):
    """Whether to train it again."""

    retrain: bool = Field(
        default=False, description="Train again in place of taking the shipped one (minutes to an hour on a CPU; a GPU is used)."
    )
    seed: int = Field(default=0, description="Seed of the training.")
    steps: int | None = Field(default=None, description="Fewer steps than the job's own, for a trial.")


def _network(name: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=["tiny", name],
        group_name="tiny",
        kinds={"pytorch"},
        description=f"The tiny family's {name.replace('_', ' ')}: shipped with its card; trained on performers.",
        code_version=code_version("models/tiny", "pipelines/performers"),
        check_specs=[
            dg.AssetCheckSpec(
                "digests", asset=["tiny", name], blocking=True, description="The files are those that the card was written for."
            )
        ],
    )
    def network(config: TinyNetwork) -> Result:
        from models.tiny.job import run_job, verify
        from models.tiny.registry import job_named

        job = job_named(name)
        if config.retrain:
            run_job(job, work=tiny_work(), seed=config.seed, steps=config.steps)
        card, wrong = verify(name)
        return dg.MaterializeResult(
            metadata=_metadata(card),
            data_version=dg.DataVersion(next(iter(card["files"].values()))),
            check_results=[simple(["tiny", name], "digests", not wrong, files=", ".join(wrong) or "all as in the card")],
        )

    return network


def _metadata(card: dict[str, Any]) -> dict[str, Any]:
    return {**card["scores"], "seconds": card["seconds"], "card": dg.MetadataValue.json(json.loads(json.dumps(card)))}


NETWORKS = [_network(name) for name in TINY]
