"""Shots and clips."""

import dagster as dg
from pydantic import Field

from assets.checks import failed_share_spec, schema_check, schema_spec, status_check
from assets.partitions import DATASETS
from assets.resources import LakeResource
from assets.sources import videos
from assets.step import Result, open_step, result
from pipelines import clip_rows
from pipelines.split import SplitRule

_DEFAULT = SplitRule()


class SplitConfig(dg.Config):
    """How shots become clips."""

    content_threshold: float = Field(
        default=_DEFAULT.content_threshold, gt=0, description="A cut's least mean HSV difference to the frame before, 0 to 255."
    )
    adaptive_ratio: float = Field(
        default=_DEFAULT.adaptive_ratio, gt=0, description="A cut's least difference, over the mean of its neighbours'."
    )
    fade_level: float = Field(
        default=_DEFAULT.fade_level, description="Frames of at most this mean luma are black, 0 to 255; negative: no fades."
    )
    fade_frames: int = Field(default=_DEFAULT.fade_frames, ge=2, description="A fade has at least so many frames.")
    min_frames: int = Field(default=_DEFAULT.min_frames, ge=1, description="Shorter shots are kept as dropped rows.")
    max_seconds: float = Field(default=_DEFAULT.max_seconds, gt=0, description="Longer shots are cut into equal parts.")

    def rule(self) -> SplitRule:
        """As the pipeline takes it."""
        return SplitRule(
            content_threshold=self.content_threshold,
            adaptive_ratio=self.adaptive_ratio,
            fade_level=self.fade_level,
            fade_frames=self.fade_frames,
            min_frames=self.min_frames,
            max_seconds=self.max_seconds,
        )


@dg.asset(
    partitions_def=DATASETS,
    group_name="clips",
    kinds={"parquet"},
    deps=[videos],
    code_version=clip_rows.CODE,
    check_specs=[schema_spec("clips"), failed_share_spec("clips")],
)
def clips(context: dg.AssetExecutionContext, config: SplitConfig, lake: LakeResource) -> Result:
    """Ranges of frames between hard cuts (PySceneDetect), at most max_seconds long; no file is written."""
    step = open_step(context, lake.open())
    clip_rows.split_into(step.lake, step.dataset.name, config.rule(), step.lineage(["videos"]))
    rows = step.rows("clips")
    checks = [schema_check("clips", rows), status_check(step, "clips", rows)]
    return result(step, "clips", rows, ["clip_id", "video_id", "start_frame", "end_frame", "split", "status", "code"], checks=checks)
