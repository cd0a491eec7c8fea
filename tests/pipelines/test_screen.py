"""Screening of a whole data set: from a lake of performers to verdicts, checks and the page; and of real footage."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.clip import Clip
from pipelines.errors import UserError
from pipelines.extract import SerialEngine, extract
from pipelines.extractors.truth import Truth
from pipelines.lake import Lake
from pipelines.performers import truth_path
from pipelines.performers.performer import Performance, perform
from pipelines.screen import screen_into
from pipelines.screen_rule import RULES, ScreeningRule
from pipelines.screen_sources import ScreenSources
from pipelines.screen_verdicts import duplicate_check, judged, kept_clips, leak_check, scores_of, verdicts_into
from pipelines.screening_page import page_name, write_page
from pipelines.video import encode_video

TRUTH = ScreenSources(poses="truth", faces="truth", body_masks="truth")
NASTY = "<script>alert(1)</script>'\"\nü☃.mp4"
SIZE = 64
RULE = RULES["performers"]


def _clip_row(lake: Lake, clip_id: str, path: Path, split: str, **change: Any) -> dict[str, Any]:
    row = {
        "dataset": "people", "clip_id": clip_id, "video_id": f"{clip_id}.mp4", "video_sha256": clip_id, "uri": lake.uri(path),
        "split": split, "start_frame": 0, "end_frame": 12, "time_base_num": 1, "time_base_den": 24, "fps_num": 24, "fps_den": 1,
        "width": SIZE, "height": SIZE, "status": "ok",
    }  # fmt: skip
    return {**row, **change}


def _add(lake: Lake, clip_id: str, split: str, performance: Performance, **change: Any) -> None:
    path = lake.root / "videos" / f"{clip_id}.mp4"
    performance.truth.save(truth_path(path))
    encode_video(path, performance.frames, Fraction(24))
    lake.write("clips", [_clip_row(lake, clip_id, path, split, **change)])


def _performance(seed: int) -> Performance:
    return perform(seed, seed, frames=12, size=SIZE, background=seed)


def _extract(lake: Lake) -> None:
    extract([Truth()], lake.clips("people"), lake, SerialEngine(), progress=False)


def _screen(lake: Lake, rule: ScreeningRule = RULE) -> Any:
    return screen_into(lake, "people", rule=rule, sources=TRUTH, workers=1, progress=False)


def _give_faces(lake: Lake, faces: dict[str, list[float]]) -> None:
    rows = [{**row, "embedding": faces.get(row["clip_id"])} for row in lake.rows("faces")]
    lake.write("faces", rows)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Clips a and b of train, c of test; b looks like c, a has c's face; x was extracted without success."""
    lake = Lake(tmp_path_factory.mktemp("lake")).create()
    for clip_id, split, seed in (("a", "train", 11), ("b", "train", 12), ("c", "test", 12), ("d", "train", 14)):
        _add(lake, clip_id, split, _performance(seed), **({"video_id": NASTY} if clip_id == "b" else {}))
    _add(lake, "x", "train", _performance(15))
    truth_path(lake.root / "videos" / "x.mp4").unlink()
    _extract(lake)
    _give_faces(lake, {"a": [1.0, 0.1, *[0.0] * 126], "c": [2.0, 0.0, *[0.0] * 126], "d": [0.0, 1.0, *[0.0] * 126]})
    return lake


@pytest.fixture(scope="module")
def report(lake: Lake) -> Any:
    return _screen(lake)


def test_every_clip_has_its_row_and_a_bad_one_its_reason(lake: Lake, report: Any) -> None:
    assert (report.clips, report.scored, report.waiting) == (5, 5, ())
    assert [failure[:2] for failure in report.failures] == [("x", "missing_truth")]
    rows = {row["clip_id"]: row for row in scores_of(lake, "people")}
    assert set(rows) == set("abcdx")
    assert rows["a"]["one_person_share"] == 1.0
    assert rows["a"]["frames"] == 12
    assert rows["a"]["static_background"] < 1.5  # codec noise
    assert rows["x"]["error"] == "missing_truth"


def test_twins_and_leaks_are_found_between_splits_and_the_test_set_stays(lake: Lake, report: Any) -> None:
    rows = {row["clip_id"]: row for row in scores_of(lake, "people")}
    assert rows["b"]["duplicate_clip_id"] == "c"
    assert rows["a"]["leak_clip_id"] == "c"
    assert rows["a"]["leak_similarity"] == pytest.approx(1 / np.sqrt(1.01), abs=1e-5)
    verdicts = {row["clip_id"]: row for row in lake.rows("screening_verdicts")}
    assert {clip: row["kept"] for clip, row in verdicts.items()} == {"a": False, "b": False, "c": True, "d": True, "x": False}
    assert verdicts["a"]["conditions"] == ["same_person"]
    assert "clip c of split test (cosine 0.995, limit 0.6)" in verdicts["a"]["reason"]
    assert verdicts["b"]["conditions"] == ["max_duplicate_distance"]
    assert verdicts["b"]["near_duplicate_group"] == verdicts["c"]["near_duplicate_group"] == "b"
    assert verdicts["x"]["conditions"] == ["error"]
    assert kept_clips(lake, "people", RULE) == {"c", "d"}
    assert report.kept == 2


def test_checks_count_what_is_there_and_find_nothing_among_the_kept(lake: Lake, report: Any) -> None:
    assert leak_check(lake, "people", RULE, only_kept=False).count == 1
    found = duplicate_check(lake, "people", RULE, only_kept=False, across_splits=True)
    assert (found.count, found.clips) == (1, 5)
    assert found.examples == ("c: looks like clip b",)
    assert leak_check(lake, "people", RULE).count == duplicate_check(lake, "people", RULE).count == 0


def test_a_second_run_scores_nothing_and_writes_nothing(lake: Lake, report: Any) -> None:
    before = lake.version("screening"), lake.version("screening_verdicts")
    again = _screen(lake)
    assert (again.already_done, again.scored, again.version) == (5, 0, report.version)
    assert (lake.version("screening"), lake.version("screening_verdicts")) == before


def test_another_rule_judges_the_same_scores(lake: Lake, report: Any) -> None:
    before = lake.version("screening")
    huge = ScreeningRule(name="huge", min_short_side_px=4000)
    assert verdicts_into(lake, "people", huge) == 0
    assert lake.version("screening") == before
    assert kept_clips(lake, "people", RULE) == {"c", "d"}
    with pytest.raises(UserError, match="no verdicts of rule"):
        kept_clips(lake, "people", ScreeningRule(min_frames=3))


def test_in_a_group_the_largest_clip_stays_and_dropped_clips_do_not_count() -> None:
    base = {
        "error": None, "embedding_size": None, "leak_similarity": None, "split": "train", "version": "v", "frames": 9, "reference_frames": [],
        "hashes": [5], **dict.fromkeys(("overlap_share", "body_coverage", "person_area"), None),
    }  # fmt: skip
    off = {name: None for name in ScreeningRule.__slots__ if name.startswith(("min_", "max_", "persons")) and "persons_share" not in name}
    rule = ScreeningRule(**{**off, "max_duplicate_distance": 0.0, "min_exposure": 10.0})
    rows = [
        {**base, "clip_id": clip, "video_id": clip, "pixels": pixels, "exposure": light}
        for clip, pixels, light in (("a", 5, 50.0), ("b", 9, 50.0), ("c", 99, 1.0))
    ]
    verdicts = {row["clip_id"]: row for row in judged(rows, rule)}
    assert {clip: row["conditions"] for clip, row in verdicts.items()} == {"a": ["max_duplicate_distance"], "b": [], "c": ["min_exposure"]}
    assert "near-duplicate of clip b" in verdicts["a"]["reason"]


def test_only_what_is_missing_is_scored_and_clips_without_rows_wait(tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    with pytest.raises(UserError, match="no usable clips"):
        _screen(lake)
    _add(lake, "a", "train", _performance(1))
    with pytest.raises(UserError, match="holds no rows of extractor 'truth'"):
        _screen(lake)
    _extract(lake)
    assert _screen(lake).scored == 1
    _add(lake, "b", "train", _performance(2))
    waiting = _screen(lake)
    assert (waiting.scored, waiting.waiting) == (0, ("b",))
    (lake.root / "videos" / "b.mp4").rename(lake.root / "gone.mp4")  # extraction fails ...
    _extract(lake)
    assert [code for _, code, _ in _screen(lake).failures] == ["unreadable"]
    (lake.root / "gone.mp4").rename(lake.root / "videos" / "b.mp4")  # ... and is mended later
    extract([Truth()], lake.clips("people"), lake, SerialEngine(), progress=False, retry_failed=True)
    assert _screen(lake).scored == 1
    assert all(row["error"] is None for row in scores_of(lake, "people"))


def test_the_page_shows_every_condition_and_neutralises_names(lake: Lake, report: Any, tmp_path: Path) -> None:
    path = write_page(lake, "people", RULE, tmp_path / "page.html", sources=TRUTH)
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#39;&#34;" in page
    assert "ü☃" in page
    assert all(f'id="{name}"' in page for name in ("same_person", "max_duplicate_distance", "error"))
    assert "<b>2</b> of 5 clips meet the rule" in page
    assert "histogram of leak_similarity" in page
    assert page.count("data:image/jpeg;base64,") >= 4
    assert "no frame of a real person" in page
    assert "http" not in page.replace("http-equiv", "")
    with_frames = write_page(lake, "people", RULE, tmp_path / "frames.html", include_media=True, sources=TRUTH).read_text(encoding="utf-8")
    assert "Pictures are frames" in with_frames
    assert sorted(tmp_path.iterdir()) == [tmp_path / "frames.html", tmp_path / "page.html"]


def test_without_media_the_pictures_do_not_depend_on_the_frames(lake: Lake, report: Any) -> None:
    from pipelines.screen_sources import held_by
    from pipelines.screening_pictures import clip_pictures

    clips = [clip for clip in lake.clips("people") if clip.clip_id == "a"]
    held = held_by(lake, "people", TRUTH)
    drawn = clip_pictures(lake, "people", clips, held, media=False)
    elsewhere = [Clip.from_row({**row, "uri": "nowhere.mp4"}) for row in lake.rows("clips") if row["clip_id"] == "a"]
    assert clip_pictures(lake, "people", elsewhere, held, media=False) == drawn
    assert clip_pictures(lake, "people", clips, held, media=True) != drawn
    assert clip_pictures(lake, "people", elsewhere, held, media=True) == {}


def test_page_names_are_safe() -> None:
    name = page_name("../a<b>", RULE)
    assert "/" not in name
    assert "<" not in name
    assert name.endswith(f"{RULE.label}.html")


def test_the_same_footage_in_another_container_size_and_rate_is_a_near_duplicate(media: Path) -> None:
    from pipelines.screen_duplicates import near_pairs
    from pipelines.screen_frames import hashes_of, reduced_luma
    from pipelines.video import read_video

    names = ("fashion_turn.gif", "fashion_turn.mov", "talk_woman_578.mp4", "makeup_mpeg4.avi")
    hashes = {name: hashes_of(np.stack([reduced_luma(image) for image in read_video(media / "videos" / name)[::5]])) for name in names}
    pairs = near_pairs(hashes, {name: name for name in names}, 6)
    assert [(pair.first, pair.second) for pair in pairs] == [names[:2]]


def test_a_crowd_counts_as_several_and_an_empty_street_as_nobody(media: Path, weights_dir: Path) -> None:
    from pipelines.extractors.person_box import Yolox
    from pipelines.screen_pose import person_scores
    from pipelines.video import iterate_frames

    detect = Yolox(weights_dir / "yolox_nano.onnx")

    def persons(name: str) -> float:
        frames = np.stack([image for i, _, image in iterate_frames(media / "videos" / name) if i in (40, 60, 100)])
        boxes = [np.asarray(found, np.float64).reshape(-1, 4) for found, _ in detect(frames)]
        return float(person_scores(boxes, [0] * len(boxes), frames.shape[2], frames.shape[1])["persons"])

    assert persons("openpose_street_multi.avi") >= 3
    assert persons("talk_woman_578.mp4") == 1
    assert persons("scenedetect_noperson_cuts.mp4") == 0
