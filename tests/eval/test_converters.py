"""Converters: each method's layout, built from known frames, gives those frames back, and what does not fit is said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from assets.convert_command import convert as command
from eval.converters.convert import Plan, Settings, convert, crop_box, plan_conversion
from eval.converters.layout import Layout, Panels
from eval.converters.layouts import CONTROLNEXT, DISCO, FOMM, LAYOUTS, MAGIC_ANIMATE, MIMIC_MOTION, layout_named
from eval.converters.take import cut_panel, taken
from eval.foreign_clips import foreign_clips
from eval.import_predictions import score_folder
from eval.method_names import TITLES
from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.video import decode_frames, encode_video
from tests.small_clips import clip_of, noise

GROUP = {"dataset": "performers_test", "split": "test"}
FILLED = {"any": "ref", "word": "Custom", "number": "07", "seed": "11", "cfg": "3", "time": "2024-05-01T10-11-12", "stamp": "20240501101112",
          "image": "png", "video": ""}  # fmt: skip


def path_of(layout: Layout, clip: str, frame: int = 0, **tokens: str) -> str:
    """The layout's path with every token filled in."""
    text = layout.pattern
    for name, value in {**FILLED, "clip": layout.own_name(clip), "frame": str(frame), **tokens}.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def as_panels(panels: Panels | None, frames: Frames) -> Frames:
    """The frames as the method's panel of a grid; the other panels are grey."""
    if panels is None:
        return frames
    count, height, width, _ = frames.shape
    canvas = np.zeros((count, height + 2 * panels.border, panels.border + panels.columns * (width + panels.border), 3), np.uint8)
    for column in range(panels.columns):
        left = panels.border + column * (width + panels.border)
        canvas[:, panels.border : panels.border + height, left : left + width] = frames if column == panels.index else 90
    return canvas


def build(layout: Layout, root: Path, clip: str, frames: Frames, fps: Any = 12, **tokens: str) -> Path:
    """What the method's code would have written for these frames; returns the first file."""
    if layout.kind == "frames":
        for i, frame in enumerate(frames):
            path = root / path_of(layout, clip, i + 1, **tokens)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame).save(path)
        return root / path_of(layout, clip, 1, **tokens)
    path = root / path_of(layout, clip, **tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout.kind == "strip":
        Image.fromarray(np.concatenate(list(frames), axis=1)).save(path)
        return path
    before = np.zeros((layout.leading[0], *frames.shape[1:]), np.uint8)
    whole = as_panels(layout.panels, np.concatenate([before, frames]))
    if path.suffix == ".gif":
        images = [Image.fromarray(frame) for frame in whole]
        images[0].save(path, save_all=True, append_images=images[1:], duration=125)
    else:
        encode_video(path, whole, fps)
    return path


def marked(clip: Clip) -> Frames:
    """The clip with a corner that changes in every frame: a GIF joins frames that its palette makes equal."""
    frames = decode_frames(clip)
    frames[:, :8, :8] = (np.arange(len(frames), dtype=np.uint8) * 40)[:, None, None, None]
    return frames


def read_back(folder: Path) -> Frames:
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted((folder / "frames").iterdir())])


def planned(tiny: Any, layout: Layout, folder: Path, given: Mapping[str, str] | None = None) -> Plan:
    return plan_conversion(tiny.lake, layout, folder, **GROUP, given=given)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_what_the_method_wrote_comes_back_frame_by_frame(layout: Layout, make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny, root, given = make_lake(clips=2, frames=5), tmp_path / "their output", {}
    for i, clip in enumerate(tiny.lake.clips(**GROUP)):
        path = build(layout, root, clip.clip_id, marked(clip), number=f"{i:02d}")
        given[path.relative_to(root).as_posix()] = clip.clip_id
    (root / "log.txt").write_text("not a clip")
    plan = planned(tiny, layout, root, None if "{clip}" in layout.pattern else given)
    assert (len(plan.planned), plan.problems, plan.missing) == (2, (), ()), plan.text()
    assert "2 of 2 clips can be converted" in plan.text()
    assert convert(plan, tmp_path / "out", Settings(steps=25)) == tiny.clip_ids
    for clip in tiny.lake.clips(**GROUP):
        got, want = read_back(tmp_path / "out" / clip.clip_id), marked(clip)
        meta = json.loads((tmp_path / "out" / clip.clip_id / "meta.json").read_text())
        assert got.shape == want.shape
        if layout.kind == "video":
            assert np.abs(got.astype(int) - want).mean() < 8  # grey levels; what H.264 and 256 colours take
            assert [round(float(frame[2:6, 2:6].mean()) / 40) for frame in got] == [0, 1, 2, 3, 4]  # each frame in its place
        else:
            np.testing.assert_array_equal(got, want)
        assert (meta["method"], meta["ref_index"], meta["steps"], meta["resolution_native"]) == (layout.method, 0, 25, [32, 32])
        assert meta.get("lossy", False) == (layout.kind == "video")
        assert meta.get("seed") == (11 if "{seed}" in layout.pattern else None)
        assert meta.get("uses_truth_sharpness", False) == layout.sees_truth
    foreign = foreign_clips(tmp_path / "out")  # reads meta.json strictly
    assert {clip.lossy for clip in foreign} == {layout.kind == "video"}


def test_a_converted_folder_is_scored_with_what_it_says_of_itself(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=2, frames=6)
    a, b = tiny.lake.clips(**GROUP)
    build(MIMIC_MOTION, tmp_path / "in", a.video_id, decode_frames(a))  # by the video's name
    build(MIMIC_MOTION, tmp_path / "in", b.clip_id, np.concatenate([decode_frames(b)[:1], decode_frames(b)]))  # with the reference's frame
    plan = planned(tiny, MIMIC_MOTION, tmp_path / "in")
    assert "; 1 at the start left out" in plan.text()
    assert sorted(convert(plan, tmp_path / "out", Settings(weights_id="1-1", cfg=2.0))) == sorted([a.clip_id, b.clip_id])
    report = score_folder(tiny.lake, tmp_path / "out", method="mimic_motion", **GROUP, protocol="demo_standin", show=lambda _: None)
    assert (report.scored, report.failed) == (2, [])
    rows = tiny.lake.rows("predictions")
    assert {(row["lossy"], row["truth_sharpness"], row["checkpoint_id"], row["sampler"]) for row in rows} == {
        (True, False, "1-1", "cfg 2.0")
    }


@pytest.mark.parametrize(
    ("layout", "length", "wanted", "before", "behind"),
    [
        (FOMM, 10, 10, 0, 0),
        (CONTROLNEXT, 11, 10, 1, 0),
        (MIMIC_MOTION, 10, 10, 0, 0),
        (MIMIC_MOTION, 11, 10, 1, 0),
        (MAGIC_ANIMATE, 10, 10, 0, 0),
        (MAGIC_ANIMATE, 16, 10, 0, 6),
        (MAGIC_ANIMATE, 32, 17, 0, 15),
        (MAGIC_ANIMATE, 16, 16, 0, 0),
    ],
)
def test_frames_that_answer_nothing_are_left_out(layout: Layout, length: int, wanted: int, before: int, behind: int) -> None:
    chosen = taken(layout, "c", length, wanted)
    assert (chosen.before, chosen.behind, list(chosen.frames)) == (before, behind, list(range(before, before + wanted)))


@pytest.mark.parametrize(
    ("layout", "length", "wanted", "said"),
    [
        (FOMM, 11, 10, "11 frames, the clip has 10"),
        (CONTROLNEXT, 10, 10, "1 more than the clip"),
        (CONTROLNEXT, 6, 10, "every 2th driving frame"),
        (MIMIC_MOTION, 5, 10, "every 2th driving frame"),
        (MAGIC_ANIMATE, 32, 10, "the clip has 10"),
    ],
)
def test_other_lengths_are_refused_with_their_likely_cause(layout: Layout, length: int, wanted: int, said: str) -> None:
    with pytest.raises(ClipError, match=said) as caught:
        taken(layout, "c", length, wanted)
    assert caught.value.code == "frame_count"


@pytest.mark.parametrize("border", [0, 2])
def test_the_panel_is_cut_to_the_pixel(border: int) -> None:
    frames, panels = noise(3, 17, 23), Panels(columns=3, index=2, border=border)
    np.testing.assert_array_equal(cut_panel(panels, "c", as_panels(panels, frames)), frames)
    with pytest.raises(ClipError, match="side by side"):
        cut_panel(panels, "c", as_panels(panels, frames)[:, :, :-1])


def test_torchvisions_grid_is_what_the_border_says() -> None:
    make_grid = pytest.importorskip("torchvision.utils").make_grid
    import torch

    three = torch.rand(3, 3, 8, 10)
    grid = (make_grid(three, nrow=3) * 255).permute(1, 2, 0).numpy().astype(np.uint8)
    third = (three[2] * 255).permute(1, 2, 0).numpy().astype(np.uint8)
    np.testing.assert_array_equal(cut_panel(Panels(columns=3, index=2, border=2), "c", grid[None])[0], third)


def test_everything_that_does_not_fit_is_named_and_nothing_is_guessed(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny, root = make_lake(clips=5, frames=6), tmp_path / "in"
    a, b, c, d, e = tiny.lake.clips(**GROUP)
    frames = decode_frames(a)
    build(CONTROLNEXT, root / "1", a.clip_id, frames)
    build(CONTROLNEXT, root / "2", a.clip_id, frames)
    build(CONTROLNEXT, root, b.clip_id, frames[:3])
    build(CONTROLNEXT, root, "somebody else", frames)
    path = build(CONTROLNEXT, root, c.clip_id, frames)
    path.write_bytes(b"no video")
    encode_video(root / d.clip_id / "test_1.mp4", frames, d.fps)  # beside what the layout describes
    build(CONTROLNEXT, root, e.clip_id, frames)
    plan = planned(tiny, CONTROLNEXT, root)
    assert list(plan.planned) == [e.clip_id]
    assert plan.missing == (d.clip_id,)
    said = dict(plan.problems)
    assert "more than once" in said[a.clip_id]
    assert "frame_count" in said[b.clip_id]
    assert said[c.clip_id].split(":")[0] in {"not_a_video", "truncated", "unreadable"}
    assert "--names" in said["somebody else/output.mp4"]
    assert not (tmp_path / "out").exists()
    assert convert(plan, tmp_path / "out", Settings()) == [e.clip_id]


def test_a_strip_of_another_number_of_pictures_is_not_cut(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=2, frames=4)
    a, b = tiny.lake.clips(**GROUP)
    build(FOMM, tmp_path / "in", a.clip_id, np.concatenate([decode_frames(a)] * 2))  # 8 pictures also divide by 4
    build(FOMM, tmp_path / "in", b.clip_id, decode_frames(b), video=".mp4")  # the data set's file name with its ending
    plan = planned(tiny, FOMM, tmp_path / "in")
    assert list(plan.planned) == [b.clip_id]
    assert "8 squares" in dict(plan.problems)[a.clip_id]


def test_images_without_a_gap_only(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=1, frames=12)
    (clip,) = tiny.lake.clips(**GROUP)
    build(DISCO, tmp_path / "in", clip.clip_id, decode_frames(clip))  # 1.png to 12.png: text order would put 10 before 2
    plan = planned(tiny, DISCO, tmp_path / "in")
    convert(plan, tmp_path / "out", Settings())
    np.testing.assert_array_equal(read_back(tmp_path / "out" / clip.clip_id), decode_frames(clip))
    (tmp_path / "in" / path_of(DISCO, clip.clip_id, 5)).unlink()
    plan = planned(tiny, DISCO, tmp_path / "in")
    assert "5 is not where it should be" in dict(plan.problems)[clip.clip_id]
    with pytest.raises(UserError, match="no clip of DisCo"):
        convert(plan, tmp_path / "out", Settings())


def test_a_name_that_fits_two_clips_is_asked_for(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=2, frames=4)
    a, b = tiny.lake.clips(**GROUP)
    path = build(MAGIC_ANIMATE, tmp_path / "in", f"{a.clip_id}_{b.clip_id}", decode_frames(b))
    names = {f"{a.clip_id}_{b.clip_id}": a, b.clip_id: b}
    from eval.converters.delivered import find_delivered

    found = find_delivered(MAGIC_ANIMATE, tmp_path / "in", names)
    assert not found.found
    assert "may be of" in found.problems[0][1]
    given = {path.relative_to(tmp_path / "in").as_posix(): b.clip_id}
    assert list(find_delivered(MAGIC_ANIMATE, tmp_path / "in", names, given).found) == [b.clip_id]
    with pytest.raises(UserError, match="no clip or single-clip video"):
        find_delivered(MAGIC_ANIMATE, tmp_path / "in", names, {"videos": "nobody"})


def _sized(width: int, height: int) -> Clip:
    return clip_of(np.zeros((2, height, width, 3), np.uint8))


@pytest.mark.parametrize(
    ("clip", "size", "box"),
    [((576, 1024), (576, 1024), None), ((720, 1280), (576, 1024), None), ((1000, 1000), (500, 1000), [250, 0, 750, 1000]),
     ((500, 1000), (400, 400), [0, 250, 500, 750])],
)  # fmt: skip
def test_the_part_that_was_seen_is_recorded(clip: tuple[int, int], size: tuple[int, int], box: list[int] | None) -> None:
    assert crop_box(MIMIC_MOTION, _sized(*clip), size) == box
    assert crop_box(MAGIC_ANIMATE, _sized(*clip), size) is None  # squeezed, not cut
    if box is not None:
        width, height = box[2] - box[0], box[3] - box[1]
        assert math.isclose(width / height, size[0] / size[1])
        assert width == clip[0] or height == clip[1]


def test_what_is_there_already_is_only_replaced_when_it_is_ours(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=1, frames=3)
    (clip,) = tiny.lake.clips(**GROUP)
    build(FOMM, tmp_path / "in", clip.clip_id, decode_frames(clip))
    plan = planned(tiny, FOMM, tmp_path / "in")
    convert(plan, tmp_path / "out", Settings())
    (tmp_path / "out" / clip.clip_id / "frames" / "000099.png").write_bytes(b"old")
    convert(plan, tmp_path / "out", Settings())
    assert len(list((tmp_path / "out" / clip.clip_id / "frames").iterdir())) == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == [clip.clip_id]  # nothing half written
    (tmp_path / "out" / clip.clip_id / "meta.json").write_text('{"method": "disco"}')
    with pytest.raises(UserError, match="no conversion of fomm"):
        convert(plan, tmp_path / "out", Settings())


def test_the_table_names_what_was_read_and_the_documentation_has_every_row() -> None:
    document = (Path(__file__).parents[2] / "docs" / "converters.md").read_text(encoding="utf-8")
    for method, layout in LAYOUTS.items():
        assert method in TITLES
        assert f"`{layout.pattern}`" in document, method
        assert layout.source.split(" ")[0].rstrip(":") in document, method
        assert layout.verified == ("closed service" not in layout.source)
    with pytest.raises(UserError, match="mimic_motion"):
        layout_named("nobody")


def test_the_command_says_what_it_found_and_writes_it(
    make_lake: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny, out = make_lake(clips=2, frames=4), tmp_path / "out"
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tiny.lake.root))
    a, b = tiny.lake.clips(**GROUP)
    build(MIMIC_MOTION, tmp_path / "in", a.clip_id, decode_frames(a))
    asked = ["--method", "mimic_motion", "--from", str(tmp_path / "in"), "--dataset", "performers_test"]
    dry = CliRunner().invoke(command, [*asked, "--dry-run"])
    assert (dry.exit_code, out.exists()) == (0, False), dry.output
    assert "1 of 2 clips can be converted, 1 missing" in dry.output
    assert "sample_stride" in dry.output
    done = CliRunner().invoke(
        command, [*asked, "--to", str(out), "--split", "test", "--published-defaults", "--seed", "42", "--reference-frame", "none"]
    )
    assert done.exit_code == 0, done.output
    assert "rotoscope score --predictions" in done.output
    meta = json.loads((out / a.clip_id / "meta.json").read_text())
    assert (meta["steps"], meta["cfg"], meta["seed"], meta["ref_index"]) == (25, 2.0, 42, None)
    (tmp_path / "in" / path_of(MIMIC_MOTION, b.clip_id)).write_bytes(b"broken")
    assert CliRunner().invoke(command, [*asked, "--to", str(out)]).exit_code == 1  # one clip failed
    listed = CliRunner().invoke(command, ["--list"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.output.splitlines()] == list(LAYOUTS)
    assert "not verified" in next(line for line in listed.output.splitlines() if line.startswith("gen_2"))
    missing = CliRunner().invoke(command, asked)
    assert isinstance(missing.exception, UserError)
    assert "--to is missing" in str(missing.exception)
