"""One table per feature, extracted in one pass: a clip is decoded once for all that were asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.compute as pc

from assets.checks import coverage_check, coverage_spec, failed_share_check, failed_share_spec, schema_check, schema_spec
from assets.clips import clips
from assets.partitions import DATASETS
from assets.resources import EngineResource, LakeResource
from assets.step import Result, Step, open_step, picture, reasons, result
from pipelines.code_version import code_version
from pipelines.tables import FEATURES

CODE = code_version(
    "pipelines/extract.py",
    "pipelines/extract_worker.py",
    "pipelines/extractors",
    "pipelines/keypoints.py",
    "pipelines/masks.py",
    "pipelines/video.py",
    "pipelines/video_stream.py",
    "pipelines/clip_frames.py",
    "pipelines/clip_reader.py",
    "pipelines/image_sequence.py",
    "pipelines/crop.py",
    "pipelines/micro_batch.py",
)

_WHAT = {
    "person_boxes": "Boxes of people per frame, each with its track through the clip.",
    "poses": "133 whole-body keypoints per frame (COCO-WholeBody), in source pixels with a score each.",
    "body_masks": "The person's mask per frame: COCO run lengths, and the soft values.",
    "faces": "Face box, five points, alignment to ArcFace's template and, with a recogniser at hand, its embedding.",
    "hands": "Box, sharpness and movement of each hand.",
    "densepose": "DensePose part and surface coordinates (I, U, V) per pixel.",
    "flow": "Optical flow to the next frame, in pixels.",
    "latents": "The autoencoder's posterior, mean and deviation, at a fixed crop.",
    "clip_embeddings": "CLIP image embeddings; the extractor's name says of which encoder.",
    "actions": "C3D tokens of 16 frames, every 8 frames.",
    "clothing": "Probabilities of twelve kinds of clothing per clip.",
    "captions": "A caption per clip, and where it names the person.",
}

_SPECS = [
    dg.AssetSpec(
        name,
        group_name="features",
        kinds={"ray", "parquet"},
        deps=[clips],
        description=_WHAT[name],
        partitions_def=DATASETS,
        code_version=CODE,
        skippable=True,
    )
    for name in FEATURES
]
_CHECKS = [spec(name) for name in FEATURES for spec in (schema_spec, coverage_spec, failed_share_spec)]


@dg.multi_asset(specs=_SPECS, check_specs=_CHECKS, can_subset=True, pool="gpu")
def features(context: dg.AssetExecutionContext, lake: LakeResource, engine: EngineResource) -> Iterator[Result]:
    """Run the data set's extractors over the clips that still miss them."""
    from pipelines.extract import extract
    from pipelines.extractors.registry import extractors_named

    step = open_step(context, lake.open())
    extractors = extractors_named(step.dataset.extractors)
    report = extract(
        extractors,
        step.lake.clips(step.dataset.name),
        step.lake,
        engine.engine,
        time_limit_s=engine.time_limit_s,
        retry_failed=engine.retry_failed,
        lineage=step.lineage(["clips"]),
    )
    context.log.info(
        f"{report.extracted} clips extracted, {report.already_done} were there, {report.failed} failed in {report.seconds:.1f} s"
    )
    for table in [name for name in FEATURES if dg.AssetKey(name) in context.selected_asset_keys]:
        makers = [extractor.name for extractor in extractors if table in extractor.tables]
        if makers:
            yield _outcome(step, table, makers, report.seconds)


def _outcome(step: Step, table: str, makers: list[str], seconds: float) -> Result:
    rows = step.rows(table)
    failed = rows.filter(pc.field("frame") < 0).select(["clip_id", "error", "reason"]).to_pylist()
    clips_done = len(set(rows["clip_id"].to_pylist()))
    checks = [
        schema_check(table, rows),
        coverage_check(step, table, rows, makers),
        failed_share_check(step, table, len(failed), clips_done, [row["error"] for row in failed]),
    ]
    shown: dict[str, Any] = {"contact_sheet": picture(_sheet(step, makers[0]))} if table == "poses" and clips_done > len(failed) else {}
    return result(
        step,
        table,
        rows,
        ["clip_id", "frame", "extractor", "version", "error"],
        checks=checks,
        clips=clips_done,
        failed_clips=len(failed),
        failures=reasons([(row["clip_id"], row["error"], row["reason"]) for row in failed]),
        seconds=seconds,
        **shown,
    )


def _sheet(step: Step, extractor: str) -> Path:
    from pipelines.contact_sheet import contact_sheet

    return contact_sheet(
        step.lake,
        step.dataset.name,
        extractor,
        step.lake.root / "reports" / f"{step.dataset.name}_{extractor}.jpg",
        columns=10,
        frames_per_clip=5,
        most_clips=20,
    )
