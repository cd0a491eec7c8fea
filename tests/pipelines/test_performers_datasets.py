"""The four data sets of performers: who is in them, how they are cut, and that their truth goes with their frames."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.dataset_card import card
from pipelines.errors import UserError
from pipelines.forget import forget
from pipelines.lake import Lake
from pipelines.performers import PerformerVideo, Truth, truth_path, write_dataset
from pipelines.performers.actions import ACTIONS
from pipelines.performers.background import place_of
from pipelines.performers.performer import perform
from pipelines.performers.recipe import Recipe, film, joined, shots
from pipelines.sources import performers
from pipelines.sources.performers import DEMO_OPTIONS, OPTIONS, scan_performers
from pipelines.sources.registry import Dataset, register, source_dataset
from pipelines.sources.store import scan_into
from pipelines.sources.ucf101 import action_of
from pipelines.split import index_video, split_video
from pipelines.split_rule import SplitRule
from pipelines.video import read_video

KINDS = ("performers_dance", "performers_talk", "performers_fashion", "performers_actions")
TINY = {"train_identities": 1, "test_identities": 1, "train_clips": 1, "test_clips": 1, "frames": 3, "size": 64}


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[PerformerVideo]:
    """Videos of a scan that draws nothing."""
    videos: list[PerformerVideo] = []

    def plan(folder: Path, **arguments: Any) -> list[PerformerVideo]:
        made = write_dataset(folder, **{**arguments, "skip": lambda _: True})
        videos.extend(made)
        return made

    monkeypatch.setattr(performers, "write_dataset", plan)
    monkeypatch.setattr(performers, "draw_ahead", lambda calls, missing, progress: None)
    return videos


def test_the_four_sets_share_nobody_and_nobody_is_in_two_splits(tmp_path: Path, planned: list[PerformerVideo]) -> None:
    lake = Lake(tmp_path).create()
    people: dict[tuple[str, str], set[str]] = {}
    for kind in KINDS:
        for row in scan_performers(lake, kind, {}, kind=kind):
            people.setdefault((kind, row["split"]), set()).add(row["subject"])
    everybody = [person for of_split in people.values() for person in of_split]
    assert len(people) == 8
    assert len(everybody) == len(set(everybody))
    train, test = (max(v.identity for v in planned if v.split == split) for split in ("train", "test"))
    assert train < 1000 <= min(v.identity for v in planned if v.split == "test")
    assert test < 2000


def test_the_demo_keeps_its_ids_and_people(tmp_path: Path, planned: list[PerformerVideo]) -> None:
    lake = Lake(tmp_path).create()
    rows = scan_performers(lake, "performers_dance", DEMO_OPTIONS)
    named = {row["video_id"]: (row["split"], row["subject"]) for row in rows}
    wanted = {f"performers_dance_{i:04d}_{clip:02d}.mp4": ("train", f"performer_{i:04d}") for i in range(14) for clip in range(2)}
    wanted |= {f"performers_dance_{i:04d}_00.mp4": ("test", f"performer_{i:04d}") for i in range(1000, 1004)}
    assert named == wanted
    first = planned[0]
    assert [first.motion, first.background] == [int(s) for s in np.random.SeedSequence([0, 0, 0]).generate_state(2) % (1 << 30)]
    dance = scan_performers(lake, "performers_dance", {}, kind="performers_dance")
    assert [row["video_id"] for row in dance] == [row["video_id"] for row in rows]


def test_rows_of_actions_name_their_class_as_those_of_ucf101_do(tmp_path: Path, planned: list[PerformerVideo]) -> None:
    rows = scan_performers(Lake(tmp_path).create(), "performers_actions", {}, kind="performers_actions")
    for split in ("train", "test"):
        assert {action_of(row["annotations"]) for row in rows if row["split"] == split} == set(ACTIONS)
    some = scan_performers(Lake(tmp_path).create(), "few", {"classes": "Lunges, Punch"}, kind="performers_actions")
    assert {action_of(row["annotations"]) for row in some} == {"Lunges", "Punch"}
    assert all(row["annotations"] is None for row in scan_performers(Lake(tmp_path).create(), "t", {}, kind="performers_talk"))


def test_a_source_of_each_kind_is_drawn_into_the_lake_with_its_card(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    for kind in KINDS:
        dataset = register(lake, source_dataset(kind, TINY))
        assert (dataset.name, dataset.protocol) == (kind, "standin_128_square")
        scan_into(lake, dataset)
        rows = [row for row in lake.rows("videos") if row["dataset"] == kind]
        assert [row["status"] for row in rows] == ["ok", "ok"]
        assert {row["fps_num"] for row in rows} == {OPTIONS[kind]["fps"]}
        for row in rows:
            truth = Truth.load(truth_path(lake.path(row["uri"])))
            assert str(np.ravel(truth.identity)[0]) == row["subject"]
            expected = action_of(row["annotations"]) or kind.removeprefix("performers_")
            assert str(np.ravel(truth.action)[0]) == expected
        text = card(lake, kind)
        assert "drawn by Rotoscope" in text
        assert "| train | 1 |" in text.replace("  ", " ")


def test_sizes_may_be_upright(tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    (row,) = scan_performers(lake, "p", {**TINY, "test_identities": 0, "size": "64x96"}, kind="performers_fashion")
    assert (row["width"], row["height"]) == (64, 96)
    assert read_video(lake.path(row["uri"])).shape == (3, 96, 64, 3)


def test_places_are_kept_to(planned: list[PerformerVideo], tmp_path: Path) -> None:
    recipe = Recipe(places=("studio",))
    assert {place_of(recipe.place(seed)) for seed in range(40)} == {"in a studio"}
    either = Recipe(places=("stage", "park"))
    assert {place_of(either.place(seed)) for seed in range(40)} == {"on a stage", "in a park"}
    assert Recipe().place(7) == 7


def test_a_video_of_two_shots_is_both_performances_one_after_the_other() -> None:
    assert shots(25, 1) == [12, 13]
    recipe = Recipe(cuts=1, style="talk")
    video = film(recipe, 3, 11, 5, frames=11, size=64)
    first = perform(3, 11, frames=5, size=64, background=5, style="talk")
    np.testing.assert_array_equal(video.frames[:5], first.frames)
    for field in fields(Truth):
        whole, part = getattr(video.truth, field.name), getattr(first.truth, field.name)
        assert whole.dtype.kind == part.dtype.kind
        if part.ndim:
            np.testing.assert_array_equal(whole[: len(part)], part)
            assert len(whole) == (10 if field.name.startswith("flow") else 11)
    assert not video.truth.flow_valid[4].any()  # nothing of one shot is found again in the next
    assert (video.truth.flow[4] == 0).all()
    assert str(video.truth.identity) == "performer_0003"
    assert joined([first]) is first


def test_cuts_are_found_where_they_are(tmp_path: Path) -> None:
    places = (("studio",), ("street",), ("park",))
    for seed, place in enumerate(places):
        recipe = Recipe(cuts=2, places=(*place, "stage"), style=("dance", "talk", "fashion")[seed])  # type: ignore[arg-type]
        (video,) = write_dataset(
            tmp_path, name=f"v{seed}", identities=[seed], test_identities=[], clips_per_identity=1, frames=31, seed=seed, recipe=recipe
        )
        assert index_video(video.path, SplitRule()).cuts == [10, 20]


def test_a_cut_video_becomes_clips_that_do_not_cross_the_cut(tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    (row,) = scan_performers(lake, "p", {**TINY, "test_identities": 0, "frames": 24, "size": 128, "cuts": 1})
    clips = split_video(row, lake.path(row["uri"]), SplitRule())
    assert [(clip["start_frame"], clip["end_frame"]) for clip in clips] == [(0, 12), (12, 24)]


def test_two_persons_are_two(tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    options = {**TINY, "frames": 4, "size": 96, "persons": 2}
    for row in scan_performers(lake, "p", options):
        path = lake.path(row["uri"])
        truth = Truth.load(truth_path(path))
        np.testing.assert_array_equal(truth.persons, 2)
        # Where somebody stands there is depth; most of what is not the main person belongs to the other one.
        other = np.isfinite(truth.depth) & ~truth.mask
        assert other.mean() > 0.03
        assert truth.mask.mean() > 0.03
        columns = np.arange(96)
        mine, theirs = ((columns * mask.sum((0, 1))).sum() / mask.sum() for mask in (truth.mask, other))
        assert theirs - mine > 20  # px
    one = film(Recipe(), 1, 2, 3, frames=1, size=64)
    assert (one.truth.persons == 1).all()


def test_others_in_a_scene_are_nobodys_main_person(tmp_path: Path, planned: list[PerformerVideo]) -> None:
    lake = Lake(tmp_path).create()
    for kind in KINDS:
        scan_performers(lake, kind, {"persons": 3}, kind=kind)
    mains = {video.identity for video in planned}
    for video in planned:
        assert len(set(video.extras)) == 2
        assert not set(video.extras) & mains
        assert all((who >= 1000) == (video.split == "test") for who in video.extras)


def test_who_was_forgotten_is_not_drawn_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    dataset = register(lake, Dataset(name="performers_x", kind="performers", options={**TINY, "train_identities": 2, "train_clips": 2}))
    scan_into(lake, dataset)
    before = {row["video_id"]: row for row in lake.rows("videos")}
    forget(lake, person="performer_0001")
    forget(lake, video="performers_x_0000_01.mp4")
    scan_into(lake, dataset)
    rows = {row["video_id"]: row for row in lake.rows("videos")}
    gone = {"performers_x_0001_00.mp4", "performers_x_0001_01.mp4", "performers_x_0000_01.mp4"}
    assert {name for name, row in rows.items() if row["code"] == "removed"} == gone
    assert {name for name, row in rows.items() if row["status"] == "ok"} == set(before) - gone
    left = {path.name for path in (lake.root / "videos" / "performers_x").iterdir()}
    assert not {name for name in left if name.startswith(("performers_x_0001", "performers_x_0000_01"))}


def test_another_recipe_is_drawn_anew_and_the_same_one_is_kept(tmp_path: Path) -> None:
    same: dict[str, Any] = {"identities": [1], "test_identities": [], "clips_per_identity": 1, "frames": 2, "size": 64}

    def stamp(recipe: Recipe) -> int:
        (video,) = write_dataset(tmp_path, **same, recipe=recipe)
        return video.path.stat().st_mtime_ns

    first = stamp(Recipe())
    assert stamp(Recipe()) == first
    second = stamp(Recipe(blur=0.5))
    assert second != first
    assert stamp(Recipe(blur=0.5)) == second


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("performers_talk", {"classes": "Punch"}, "no option 'classes'"),
        ("performers_actions", {"classes": "Punch,Sleeping"}, "no class 'Sleeping'; there are: BodyWeightSquats"),
        ("performers_dance", {"persons": 4}, "no persons 4; there are: 1, 2, 3"),
        ("performers_dance", {"places": "moon"}, "no place 'moon'"),
        ("performers_dance", {"framing": "feet"}, "no framing 'feet'; there are: full, upper"),
        ("performers_dance", {"frames": 2, "cuts": 2}, "too few for 2 cuts"),
        ("performers_dance", {"size": "12x400"}, "give an even side"),
        ("performers_dance", {"train_identities": -1}, "train_identities=-1; give a whole number"),
        ("performers_dance", {"train_identities": 0, "test_identities": 0}, "at least one person"),
        ("performers_dance", {"blur": "much"}, "much"),
        ("performers_fashion", {"frames": 2.5}, "frames=2.5"),
    ],
)
def test_options_that_cannot_be_had_are_users_errors(tmp_path: Path, kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scan_performers(Lake(tmp_path).create(), "p", options, kind=kind)


def test_a_clip_of_a_recipe_has_its_frame_rate() -> None:
    assert film(Recipe(fps=30, style="fashion"), 1, 1, 1, frames=1, size=64).fps == Fraction(30)
