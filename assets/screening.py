"""Screening for people: scores of every clip, and what a rule decides on them."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.checks import schema_check, schema_spec, simple
from assets.partitions import DATASETS
from assets.pictures import histograms
from assets.resources import LakeResource
from assets.step import Result, Step, inline_png, open_step, reasons, result
from pipelines.code_version import code_version
from pipelines.screen_sources import ScreenSources
from pipelines.sources.registry import Dataset

CODE = code_version(
    *(
        f"pipelines/screen{part}.py"
        for part in ("", "_clip", "_duplicates", "_frames", "_hash", "_leaks", "_pose", "_rule", "_sources", "_verdicts")
    )
)

_SHOWN = (
    "persons", "body_coverage", "person_area", "face_share", "face_area", "face_sharpness", "keypoint_confidence", "pose_jump",
    "occlusion", "static_background", "motion", "exposure", "clipped_share", "black_bars", "duplicate_distance", "leak_similarity",
)  # fmt: skip
_WHAT = {
    "screening": "Every clip's scores: people, body, face, pose, light, background, near-duplicates, faces of other splits. Nothing is decided here.",
    "screening_verdicts": "What the data set's rule keeps and drops, with every condition that was not met.",
}
_SPECS = [
    # only poses are needed; boxes, faces and masks are read where they are there, and a missing one must not skip this step
    dg.AssetSpec(
        name,
        group_name="screening",
        kinds={"parquet"} if name == "screening" else {"parquet", "html"},
        deps=["clips", "poses"] if name == "screening" else ["screening"],
        description=what,
        partitions_def=DATASETS,
        code_version=CODE,
    )
    for name, what in _WHAT.items()
]
_CHECKS = [
    schema_spec("screening"),
    schema_spec("screening_verdicts"),
    dg.AssetCheckSpec("coverage", asset="screening", blocking=True, description="Every usable clip has scores, or a reason why not."),
    dg.AssetCheckSpec(
        "duplicates", asset="screening_verdicts", blocking=True, description="No clip that the rule keeps looks like one of another split."
    ),
    dg.AssetCheckSpec(
        "leaks", asset="screening_verdicts", blocking=True, description="Nobody in the clips that the rule keeps is in two splits."
    ),
]


@dg.multi_asset(name="screen", specs=_SPECS, check_specs=_CHECKS)
def screening(context: dg.AssetExecutionContext, lake: LakeResource) -> Iterator[Result]:
    """Score the clips that miss it, judge all of them, and write the page that shows what was dropped."""
    from pipelines.screen import screen_into

    step = open_step(context, lake.open())
    sources, lineage = sources_of(step.dataset), step.lineage(["clips", "poses"])
    report = screen_into(step.lake, step.dataset.name, rule=step.dataset.rule, sources=sources, lineage=lineage)
    rows = step.rows("screening")
    checks = [
        schema_check("screening", rows),
        simple("screening", "coverage", not report.waiting, waiting=len(report.waiting), first=list(report.waiting[:5])),
    ]
    columns = ["clip_id", "persons", "body_coverage", "face_share", "pose_jump", "motion", "duplicate_distance", "leak_similarity"]
    facts: dict[str, Any] = {"histograms": inline_png("histograms", histograms(rows, _SHOWN)), "failures": reasons(report.failures)}
    yield result(step, "screening", rows, columns, checks=checks, scored=report.scored, seconds=report.seconds, **facts)
    yield _verdicts(step, report.kept, report.clips)


def sources_of(dataset: Dataset) -> ScreenSources:
    """Of every table the training extractor's rows, else those of the first extractor that makes it."""
    from pipelines.extractors.registry import extractors_named

    makers = extractors_named([dataset.training_extractor, *dataset.extractors])
    tables = ("poses", "faces", "body_masks", "person_boxes")
    return ScreenSources(**{table: next((maker.name for maker in makers if table in maker.tables), None) for table in tables})


def _verdicts(step: Step, kept: int, clips: int) -> Result:
    """A rule that is applied must leave no twins and no leaks; one that only informs warns."""
    from pipelines.screening_page import page_name, write_page

    rule = step.dataset.rule
    page = write_page(
        step.lake,
        step.dataset.name,
        rule,
        step.lake.root / "reports" / page_name(step.dataset.name, rule),
        include_media=step.dataset.kind.startswith("performers"),  # drawn people may be shown
        sources=sources_of(step.dataset),
    )
    rows = step.rows("screening_verdicts")
    checks = [schema_check("screening_verdicts", rows), *_findings(step)]
    shown: dict[str, Any] = {"page": dg.MetadataValue.path(str(page)), "link": dg.MetadataValue.url(page.as_uri())}
    columns = ["clip_id", "kept", "conditions", "reason"]
    applied = step.dataset.screening is not None
    return result(
        step, "screening_verdicts", rows, columns, checks=checks, rule=rule.label, applied=applied, kept=kept, dropped=clips - kept, **shown
    )


def _findings(step: Step) -> list[dg.AssetCheckResult]:
    from pipelines.screen_verdicts import duplicate_check, leak_check

    applied, args = step.dataset.screening is not None, (step.lake, step.dataset.name, step.dataset.rule)
    found = {
        "duplicates": duplicate_check(*args, only_kept=applied, across_splits=True),
        "leaks": leak_check(*args, only_kept=applied),
    }
    return [
        simple(
            "screening_verdicts", name, finding.count == 0, warn=not applied,
            found=finding.count, of=finding.clips, examples=list(finding.examples),
        )
        for name, finding in found.items()
    ]  # fmt: skip
