"""What a clip must be like: thresholds on scores, none of which were used to compute them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipelines.code_version import code_version
from pipelines.errors import UserError
from pipelines.held_out import TEST_SPLITS
from pipelines.screen_duplicates import FARTHEST

Row = Mapping[str, Any]

# Cosine of two clips' mean faces from which on they count as one person, by the size of the embedding. 128: MobileFaceNet
# (face_recogniser_small). 512: ArcFace R100, see docs/screening.md.
SAME_PERSON = ((128, 0.6), (512, 0.45))


@dataclass(frozen=True, kw_only=True, slots=True)
class ScreeningRule:
    """Conditions that a clip must meet; None = not applied. A condition whose score was not measured is not met."""

    name: str = "custom"
    persons: tuple[int, int] | None = (1, 1)  # fewest and most people in a frame
    min_persons_share: float = 0.9  # share of frames in which that holds
    max_overlap_share: float | None = None  # needs person_boxes: an extractor of one person cannot see it
    min_body_coverage: float | None = 0.4
    min_person_area: float | None = 0.03
    min_face_share: float | None = 0.3
    min_face_area: float | None = 0.001
    min_face_sharpness: float | None = 4.0
    min_keypoint_confidence: float | None = 0.4
    max_pose_jump: float | None = 0.25  # person heights between two frames
    max_occlusion: float | None = 0.25
    max_background_change: float | None = 6.0  # grey levels
    min_motion: float | None = 0.02  # person heights per second
    max_motion: float | None = None
    min_exposure: float | None = 20.0
    max_exposure: float | None = 240.0
    max_clipped_share: float | None = 0.3
    max_black_bars: float | None = 0.1
    min_frames: int | None = 8
    min_short_side_px: int | None = 128
    min_reference_frames: int | None = None  # the whole body is wanted for one: a talking head has none
    max_duplicate_distance: float | None = 6.0  # bits of 64
    same_person: tuple[tuple[int, float], ...] | None = SAME_PERSON  # (size of the embedding, cosine); None = leaks are not looked for
    protected_splits: tuple[str, ...] = tuple(TEST_SPLITS)  # never dropped as a near-duplicate or a leak: their twins of other splits are

    def __post_init__(self) -> None:
        if self.persons is not None and not 0 <= self.persons[0] <= self.persons[1] <= 7:
            raise ValueError(f"persons={self.persons}: give the fewest and the most people, between 0 and 7")
        if self.max_duplicate_distance is not None and not 0 <= self.max_duplicate_distance <= FARTHEST:
            raise ValueError(f"max_duplicate_distance={self.max_duplicate_distance}: pairs are found within 0 to {FARTHEST} bits")
        if not 0 < self.min_persons_share <= 1:
            raise ValueError(f"min_persons_share={self.min_persons_share} must be over 0 and at most 1")

    @property
    def label(self) -> str:
        """Name and digest, e.g. "default-0123456789ab"; changes with any threshold and with the code that judges."""
        code = code_version("pipelines/screen_rule.py", "pipelines/screen_verdicts.py", "pipelines/screen_duplicates.py")
        text = json.dumps([asdict(self), code], sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison: `column` of the table `screening` with `field` of the rule."""

    column: str
    field: str
    sense: Literal["min", "max"]
    meaning: str

    def broken(self, rule: ScreeningRule, row: Row) -> str | None:
        """Why the clip does not meet it, with value and threshold; None where it does or is not applied."""
        limit = getattr(rule, self.field)
        if limit is None:
            return None
        value = row[self.column]
        if isinstance(value, list):
            value = len(value)
        if value is None and row["body_coverage"] == 0:
            return f"{self.column} could not be measured without a person"
        if value is None:
            return f"{self.column} was not measured; extract what it needs, or set {self.field} to None"
        if (value < limit) if self.sense == "min" else (value > limit):
            return f"{self.column} {value:.4g} is {'under' if self.sense == 'min' else 'over'} {limit:g}"
        return None


CONDITIONS: tuple[Condition, ...] = (
    Condition("overlap_share", "max_overlap_share", "max", "share of frames in which somebody covers the person"),
    Condition("body_coverage", "min_body_coverage", "min", "share of the 17 body joints that are visible"),
    Condition("person_area", "min_person_area", "min", "share of the frame that the person's box covers"),
    Condition("face_share", "min_face_share", "min", "share of frames with the person's face"),
    Condition("face_area", "min_face_area", "min", "share of the frame that the face covers"),
    Condition("face_sharpness", "min_face_sharpness", "min", "variance of the Laplacian of the face"),
    Condition("keypoint_confidence", "min_keypoint_confidence", "min", "mean score of the body joints"),
    Condition("pose_jump", "max_pose_jump", "max", "largest step of the body between two frames, person heights"),
    Condition("occlusion", "max_occlusion", "max", "share of the body joints that something hides"),
    Condition("static_background", "max_background_change", "max", "change of the background in half a second, grey levels"),
    Condition("motion", "min_motion", "min", "mean speed of the joints, person heights per second"),
    Condition("motion", "max_motion", "max", "mean speed of the joints, person heights per second"),
    Condition("exposure", "min_exposure", "min", "mean luma, 0 to 255"),
    Condition("exposure", "max_exposure", "max", "mean luma, 0 to 255"),
    Condition("clipped_share", "max_clipped_share", "max", "share of pixels that are fully black or fully white"),
    Condition("black_bars", "max_black_bars", "max", "share of the height or width that is black bars"),
    Condition("frames", "min_frames", "min", "frames of the clip"),
    Condition("short_side_px", "min_short_side_px", "min", "short side of the frames, px"),
    Condition("reference_frames", "min_reference_frames", "min", "sampled frames that may serve as the reference"),
)


def broken_conditions(rule: ScreeningRule, row: Row) -> dict[str, str]:
    """Condition -> reason, of everything that one clip's own scores do not meet. Duplicates and leaks are judged elsewhere."""
    if row["error"] is not None:
        return {"error": f"could not be scored: {row['error']}: {row['reason']}"}
    found = {} if (reason := _persons(rule, row)) is None else {"persons": reason}
    return found | {condition.field: reason for condition in CONDITIONS if (reason := condition.broken(rule, row)) is not None}


def persons_share(rule: ScreeningRule, row: Row) -> float | None:
    """Share of frames with as many people as the rule wants; None where it was not measured or is not wanted."""
    if rule.persons is None or row["person_counts"] is None:
        return None
    counts, (fewest, most) = row["person_counts"], rule.persons
    return float(sum(counts[fewest : most + 1]) / max(sum(counts), 1))


def _persons(rule: ScreeningRule, row: Row) -> str | None:
    if rule.persons is None:
        return None
    share = persons_share(rule, row)
    if share is None:
        return "persons were not counted; extract person_boxes or poses, or set persons to None"
    if share >= rule.min_persons_share:
        return None
    fewest, most = rule.persons
    wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{wanted} people in {share:.0%} of the frames (mean {row['persons']:.2f}) is under {rule.min_persons_share:.0%}"


RULES: dict[str, ScreeningRule] = {
    rule.name: rule
    for rule in (
        ScreeningRule(name="default"),
        ScreeningRule(
            name="strict", min_persons_share=1.0, max_overlap_share=0.0, min_body_coverage=0.85, min_person_area=0.08, min_face_share=0.8,
            min_face_area=0.002, min_face_sharpness=20.0, min_keypoint_confidence=0.7, max_pose_jump=0.12, max_occlusion=0.1,
            max_background_change=3.0, min_motion=0.05, max_clipped_share=0.1, max_black_bars=0.0, min_frames=31, min_short_side_px=512,
            max_duplicate_distance=8.0, min_reference_frames=1,
        ),  # min_frames: reference and target are to be 30 frames apart (Animate Anyone)
        # Dances filmed at arm's length: often without legs, phones move, and the light is what it is.
        ScreeningRule(name="tiktok", max_background_change=20.0, max_clipped_share=None, min_reference_frames=1),
        # Speakers behind desks in front of an audience: upper bodies that move little; the crop follows the speaker.
        ScreeningRule(
            name="ted_talks", min_body_coverage=0.25, min_keypoint_confidence=0.25, max_occlusion=0.5,
            max_background_change=None, min_motion=0.005,
        ),
        # Models on white who turn around: half of the clip has no face, and white is not a fault.
        ScreeningRule(name="ubc_fashion", min_face_share=0.15, max_exposure=None, max_clipped_share=None, min_reference_frames=1),
        # Actions at 320x240 with any number of people, small faces and moving cameras: only whole faults count.
        ScreeningRule(
            name="ucf101", persons=(1, 7), min_persons_share=0.5, min_body_coverage=None, min_person_area=0.01,
            min_face_share=None, min_face_area=None, min_face_sharpness=None, min_keypoint_confidence=None, max_pose_jump=None,
            max_occlusion=None, max_background_change=None, same_person=None,
        ),
        # Drawn people: flat colours are not clipping, 64 px are enough, and one background may return.
        ScreeningRule(name="performers", min_face_sharpness=None, max_clipped_share=None, min_short_side_px=32, max_duplicate_distance=2.0),
    )
}  # fmt: skip


def rule_for(dataset: str) -> ScreeningRule:
    """The rule of a data set: its own, else its kind's (`performers_dance` -> `performers`), else `default`."""
    return RULES.get(dataset) or RULES.get(dataset.split("_")[0]) or RULES["default"]


def rule_named(name: str) -> ScreeningRule:
    """By name; UserError lists what there is."""
    if name not in RULES:
        raise UserError(f"no screening rule {name!r}; there are: {', '.join(sorted(RULES))}")
    return RULES[name]
