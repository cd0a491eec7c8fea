"""The TikTok source: sequences as videos, splits by name, and every way in which a set can be incomplete."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.clip import Clip
from pipelines.errors import CODES, ClipError, UserError
from pipelines.extractors.dataset_annotations import DatasetAnnotations
from pipelines.lake import Lake
from pipelines.masks import decode_rle, unpack_array
from pipelines.sources.scan import sha256_of
from pipelines.sources.tiktok import TERMS, scan_tiktok, sequence_ids
from tests.layouts.people import draw, portrait
from tests.layouts.tiktok import as_zip, write_sequence, write_tiktok

IDS = {"00001": 1, "00002": 2, "00335": 3, "00340": 4}
ALL = {"accept_terms": True, "sequences": "1,2,335,340"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiktok(tmp_path_factory.mktemp("tiktok"), IDS, frames=4)


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "TikTok_dataset"))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake").create()


def scan(lake: Lake, place: Path, **options: Any) -> dict[str, dict[str, Any]]:
    return {row["video_id"]: row for row in scan_tiktok(lake, "tiktok", {**ALL, "folder": str(place), **options})}


def test_a_sequence_is_a_video_at_30_fps_with_its_annotations(lake: Lake, root: Path) -> None:
    rows = scan(lake, root.parent)  # the folder around the data set will do
    assert {name: (row["status"], row["split"]) for name, row in rows.items()} == {
        "00001": ("ok", "train"),
        "00002": ("ok", "train"),
        "00335": ("ok", "tiktok_335_340"),
        "00340": ("ok", "tiktok_335_340"),  # a loader in circulation drops it
    }
    row = rows["00001"]
    assert (row["frames"], row["width"], row["height"], Fraction(row["fps_num"], row["fps_den"])) == (4, 48, 64, 30)
    assert row["container"] == "frames"
    assert lake.path(row["uri"]) == root / "00001" / "images"
    assert lake.path(row["annotations"]) == root / "00001"
    assert row["bytes"] == sum(path.stat().st_size for path in (root / "00001" / "images").iterdir())
    assert (row["licence"], row["terms_url"], row["terms_accepted"]) == (TERMS.licence, TERMS.url, True)
    lake.write("videos", list(rows.values()))  # every column fits the table
    assert lake.read("videos").num_rows == 4


def test_the_digest_is_over_names_and_file_digests_in_natural_order(lake: Lake, root: Path) -> None:
    images = root / "00001" / "images"
    for number in range(1, 5):
        (images / f"{number:04d}.png").rename(images / f"{number + 7}.png.tmp")
    for path in images.glob("*.tmp"):
        path.rename(path.with_suffix(""))  # 8, 9, 10, 11: as text 10 would come before 8
    files = sorted(images.iterdir(), key=lambda path: int(path.stem))
    expected = hashlib.sha256(b"".join(f"{p.name}\0{hashlib.sha256(p.read_bytes()).hexdigest()}\n".encode() for p in files)).hexdigest()
    assert sha256_of(images) == expected
    untouched = root / "00002" / "images"
    assert scan(lake, root)["00002"]["sha256"] == sha256_of(untouched)


def _cut_an_image(root: Path) -> None:
    path = root / "00001" / "images" / "0002.png"
    path.write_bytes(path.read_bytes()[:-40])


def _flip_a_bit(root: Path) -> None:
    path = root / "00001" / "images" / "0002.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _another_size(root: Path) -> None:
    Image.new("RGB", (20, 20)).save(root / "00001" / "images" / "0003.png")


def _no_images(root: Path) -> None:
    shutil.rmtree(root / "00001" / "images")
    (root / "00001" / "images").mkdir()


DAMAGE: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "a missing sequence": (lambda root: shutil.rmtree(root / "00001"), "truncated", "the sequence 00001 is not in"),
    "no images": (_no_images, "no_frames", "images/ is missing or empty"),
    "no image folder": (lambda root: shutil.rmtree(root / "00001" / "images"), "no_frames", "images/ is missing or empty"),
    "a gap in the frames": (lambda root: (root / "00001" / "images" / "0002.png").unlink(), "truncated", "frame 2 is missing"),
    "no first frame": (lambda root: (root / "00001" / "images" / "0001.png").unlink(), "truncated", "frame 1 is missing"),
    "a frame without number": (
        lambda root: (root / "00001" / "images" / "0002.png").rename(root / "00001" / "images" / "two.png"),
        "truncated",
        "two.png is not a number",
    ),
    "an image cut off": (_cut_an_image, "decode_error", "0002.png is no whole image"),
    "an image with a wrong bit": (_flip_a_bit, "decode_error", "0002.png is no whole image"),
    "an empty image": (lambda root: (root / "00001" / "images" / "0004.png").write_bytes(b""), "empty_file", "0004.png has zero bytes"),
    "text as an image": (lambda root: (root / "00001" / "images" / "0004.png").write_text("words"), "decode_error", "0004.png"),
    "another size": (_another_size, "decode_error", "0003.png has another size"),
    "a mask too few": (
        lambda root: (root / "00001" / "masks" / "0004.png").unlink(),
        "bad_annotation",
        "masks/ holds 3 files for 4 images",
    ),
    "a map too many": (
        lambda root: shutil.copy(root / "00001" / "densepose" / "0004.png", root / "00001" / "densepose" / "0005.png"),
        "bad_annotation",
        "densepose/ holds 5 files for 4 images (0005 has no image)",
    ),
    "an empty mask file": (lambda root: (root / "00001" / "masks" / "0001.png").write_bytes(b""), "bad_annotation", "has zero bytes"),
    "no densepose": (lambda root: shutil.rmtree(root / "00001" / "densepose"), "bad_annotation", "densepose/ holds 0 files"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_sequence_is_a_row_with_its_reason_and_the_others_stay(lake: Lake, root: Path, damage: str) -> None:
    do, code, said = DAMAGE[damage]
    do(root)
    rows = scan(lake, root)
    assert (rows["00001"]["status"], rows["00001"]["code"]) == ("failed", code)
    assert said in rows["00001"]["reason"]
    assert {row["status"] for name, row in rows.items() if name != "00001"} == {"ok"}
    assert code in CODES
    lake.write("videos", list(rows.values()))


def test_a_half_unpacked_set_is_not_taken_for_whole(lake: Lake, root: Path) -> None:
    rows = scan(lake, root, sequences="1-340")
    assert len(rows) == 340
    missing = [name for name, row in rows.items() if row["status"] == "failed"]
    assert len(missing) == 336
    assert {rows[name]["code"] for name in missing} == {"truncated"}
    assert {rows[name]["split"] for name in ("00336", "00339")} == {"tiktok_335_340"}


def test_sequences_that_the_set_does_not_have_and_copies_are_dropped(lake: Lake, root: Path) -> None:
    shutil.copytree(root / "00001", root / "00341")
    shutil.rmtree(root / "00002")
    shutil.copytree(root / "00001", root / "00002")
    (root / "__MACOSX").mkdir()
    (root / ".DS_Store").touch()
    rows = scan(lake, root)
    assert set(rows) == {*IDS, "00341"}
    assert (rows["00341"]["status"], rows["00341"]["code"]) == ("dropped", "bad_annotation")
    assert (rows["00002"]["status"], rows["00002"]["code"]) == ("dropped", "duplicate")


def test_masks_and_maps_may_be_absent_when_optional_but_not_torn(lake: Lake, root: Path) -> None:
    shutil.rmtree(root / "00001" / "masks")
    (root / "00002" / "densepose" / "0001.png").unlink()
    rows = scan(lake, root, annotations="optional")
    assert rows["00001"]["status"] == "ok"
    assert rows["00002"]["code"] == "bad_annotation"


def test_splits_with_lists_that_are_not_public_take_the_users_list(lake: Lake, root: Path, tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_text("\n".join(["1", *(f"new_{i}" for i in range(9))]) + "\n")
    rows = scan(lake, root, split="tiktok_disco10", test_list=str(listed))
    assert {name: row["status"] for name, row in rows.items() if row["split"] == "tiktok_disco10"} == {
        "00001": "ok",
        **{f"new_{i}": "failed" for i in range(9)},  # DisCo's own sequences: listed, so they must be there
    }
    assert rows["00335"]["split"] == "train"
    with pytest.raises(UserError, match="10 different ids in 10 lines; this split has 41"):
        scan(lake, root, split="hia_41", test_list=str(listed))
    listed.write_text("../secret\n")
    with pytest.raises(UserError, match="is no id"):
        scan(lake, root, split="hia_41", test_list=str(listed))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accept_terms": False}, "terms are not accepted .*yasamin.page.*accept_terms"),
        ({"accept_terms": "yes"}, "terms are not accepted"),
        ({"colour": "red"}, "no option 'colour'; there are: archive, folder"),
        ({"split": "best"}, "no split 'best'; there are: tiktok_335_340"),
        ({"split": "tiktok_disco10"}, "not public; give your list"),
        ({"split": "hia_41", "test_list": "nowhere.txt"}, "cannot be read"),
        ({"test_list": "ids.txt"}, "takes no test_list"),
        ({"annotations": "some"}, "required, optional"),
        ({"sequences": "1-x"}, "neither a number nor a range"),
        ({"sequences": "9-1"}, "neither a number nor a range"),
        ({"folder": None}, "give the option archive .* or folder"),
        ({"archive": "a.zip"}, "one of them"),
        ({"folder": "nowhere"}, "no such folder"),
    ],
)
def test_options_that_cannot_be_used_are_refused(lake: Lake, root: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        scan(lake, root, **options)


def test_a_folder_without_sequences_is_refused(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="a sequence folder"):
        scan(lake, tmp_path / "empty")


def test_ids_of_ranges() -> None:
    assert sequence_ids("1-3, 7") == {"00001", "00002", "00003", "00007"}
    assert len(sequence_ids("1-340")) == 340


def test_the_archive_is_unpacked_once_into_the_lake(lake: Lake, original: Path, tmp_path: Path) -> None:
    archive = as_zip(original, tmp_path / "TikTok_dataset.zip")
    options = {**ALL, "archive": str(archive)}
    rows = scan_tiktok(lake, "tiktok", options)
    assert {row["status"] for row in rows} == {"ok"}
    assert all(lake.path(row["uri"]).is_relative_to(lake.root / "videos" / "tiktok") for row in rows)
    assert not Path(rows[0]["uri"]).is_absolute()  # inside the lake: it can be moved
    assert {row["video_id"]: row["sha256"] for row in rows} == {name: row["sha256"] for name, row in scan(lake, original).items()}
    times = {row["uri"]: lake.path(row["uri"]).stat().st_mtime_ns for row in rows}
    assert {row["uri"]: lake.path(row["uri"]).stat().st_mtime_ns for row in scan_tiktok(lake, "tiktok", options)} == times
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(UserError):
        scan_tiktok(lake, "half", {**ALL, "archive": str(archive)})
    with pytest.raises(UserError, match="no such file"):
        scan_tiktok(lake, "tiktok", {**ALL, "archive": str(tmp_path / "none.zip")})


# --- the annotations ---------------------------------------------------------------------------------------------------


def clip_of(sequence: Path, start: int = 0, end: int = 4, crop: tuple[int, int, int, int] | None = None) -> Clip:
    width, height = (crop[2], crop[3]) if crop else (48, 64)
    return Clip(dataset="tiktok", clip_id="c", video_id=sequence.name, uri=str(sequence / "images"), start_frame=start, end_frame=end,
                start_pts=None, end_pts=None, time_base=Fraction(1, 30), fps=Fraction(30), width=width, height=height, crop=crop)  # fmt: skip


def annotate(clip: Clip) -> dict[str, list[dict[str, Any]]]:
    return DatasetAnnotations().load("cpu")(clip, np.zeros((clip.num_frames, clip.height, clip.width, 3), np.uint8))


def test_masks_and_maps_come_back_as_they_were_drawn(root: Path) -> None:
    truth = portrait(draw(1, 4, 64)).truth
    rows = annotate(clip_of(root / "00001", 1, 4))
    for t, (mask, iuv) in enumerate(zip(rows["body_masks"], rows["densepose"], strict=True), start=1):
        np.testing.assert_array_equal(decode_rle(mask["rle"], mask["height"], mask["width"]), truth.mask[t])
        np.testing.assert_array_equal(unpack_array(mask["soft"], mask["soft_shape"], mask["soft_dtype"]) > 100, truth.mask[t])
        np.testing.assert_array_equal(unpack_array(iuv["iuv"], iuv["shape"], iuv["dtype"]), truth.iuv[t])
        assert mask["area_px"] == truth.mask[t].sum() > 0


def test_both_channel_orders_of_densepose_files_give_the_same_rows(root: Path, tmp_path: Path) -> None:
    performance = portrait(draw(1, 4, 64))
    write_sequence(tmp_path / "00009", performance.frames, performance.truth.mask, performance.truth.iuv, order="IUV")
    assert annotate(clip_of(tmp_path / "00009")) == annotate(clip_of(root / "00001"))


def test_a_crop_takes_the_same_part_of_the_annotations(root: Path) -> None:
    crop = (8, 4, 32, 40)
    whole, part = annotate(clip_of(root / "00001")), annotate(clip_of(root / "00001", crop=crop))
    for full, cropped in zip(whole["densepose"], part["densepose"], strict=True):
        iuv = unpack_array(full["iuv"], full["shape"], full["dtype"])
        np.testing.assert_array_equal(unpack_array(cropped["iuv"], cropped["shape"], cropped["dtype"]), iuv[4:44, 8:40])


def _coloured_mask(sequence: Path) -> None:
    Image.fromarray(draw(1, 4, 64).frames[0][:, 8:56]).save(sequence / "masks" / "0002.png")


def _photo_as_map(sequence: Path) -> None:
    for path in (sequence / "densepose").iterdir():
        shutil.copy(sequence / "images" / path.name, path)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a missing mask": (lambda s: (s / "masks" / "0003.png").unlink(), "masks/ lacks 1 of 4 frames.*0003"),
    "a mask of another size": (
        lambda s: Image.new("L", (9, 9)).save(s / "masks" / "0001.png"),
        "masks/0001.png is 9x9 px, its frame 48x64",
    ),
    "a coloured mask": (_coloured_mask, "masks/0002.png is coloured"),
    "a mask that is text": (lambda s: (s / "masks" / "0001.png").write_text("x"), "masks/0001.png cannot be read"),
    "photos as maps": (_photo_as_map, "no channel holds part indices"),
    "no maps": (lambda s: shutil.rmtree(s / "densepose"), "no folder densepose/"),
}


@pytest.mark.parametrize("fault", BAD)
def test_annotations_that_do_not_fit_fail_the_clip(root: Path, fault: str) -> None:
    do, said = BAD[fault]
    do(root / "00001")
    with pytest.raises(ClipError, match=said) as caught:
        annotate(clip_of(root / "00001"))
    assert caught.value.code == "bad_annotation"


def test_a_clip_longer_than_its_folder_fails(root: Path) -> None:
    with pytest.raises(ClipError, match="images/ holds 4 frames, the clip ends at 6"):
        annotate(clip_of(root / "00001", 0, 6))


def test_a_video_file_has_no_annotations(tmp_path: Path) -> None:
    clip = clip_of(tmp_path)
    with pytest.raises(ClipError, match="no folder masks/"):
        annotate(clip)
