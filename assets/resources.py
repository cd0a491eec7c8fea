"""What assets are given: the lake and the engine."""

import dagster as dg
from pydantic import Field

from assets.home import lake_root
from pipelines.lake import Lake


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The lake."""

    root: str = Field(default_factory=lake_root, description="Root folder of the lake; ROTOSCOPE_HOME, or `lake` in the project.")

    def open(self) -> Lake:
        """The lake, made where it is missing."""
        return Lake(self.root).create()


class EngineResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """How extraction runs."""

    engine: str = Field(default="ray", description="`ray` (RAY_ADDRESS, or a local cluster for the run) or `serial` (in this process).")
    time_limit_s: float = Field(default=600.0, gt=0, description="Seconds that one clip may take before its worker is replaced.")
    retry_failed: bool = Field(default=False, description="Extract clips again that failed before.")
