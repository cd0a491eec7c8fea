"""A photograph animated by a video, with real networks at the smallest size and a stand-in for the pose detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models import written_clip as module
from models.animate import DEFAULT_EXTRACTOR, OF_PERFORMERS, Request, animate_photograph, default_extractor, driving_clip, fit_photograph
from models.animate_anyone.config import VARIANTS, AnimateAnyoneConfig
from models.animate_anyone.network import add_motion, fresh_network, load_network
from models.animate_anyone.sampling import animate
from models.animator import Driving, Reference
from models.checkpoint import save_checkpoint
from models.chosen_checkpoint import Chosen, choose_checkpoint
from models.clip_dataset import TrainingClip, to_unit
from models.clip_sampling import DECODED_AT_ONCE
from models.diffusion_method import DiffusionAnimator
from models.latents import LatentCodec
from models.written_clip import write_pieces
from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.extractors.registry import EXTRACTORS
from pipelines.keypoints import BODY, KEYPOINTS
from pipelines.lake import Lake
from pipelines.photograph import read_photograph
from pipelines.video import encode_video, probe, read_video

MakeClip = Callable[..., TrainingClip]


@dataclass(frozen=True)
class Known:
    """Gives the poses that a test knows, by file name: an extractor without a network."""

    poses: dict[str, tuple[Any, Any]]
    name: str = "known"
    version: int = 1
    tables: tuple[str, ...] = ("poses",)

    def weights_digest(self) -> str:
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], Any]:
        def rows(clip: Clip, frames: Frames) -> Any:
            if clip.clip_id not in self.poses:
                raise ClipError("no_person", clip.clip_id, f"nobody in {len(frames)} frames", "drop the clip")
            points, scores = self.poses[clip.clip_id]
            return {
                "poses": [{"keypoints": p.ravel().tolist(), "scores": s.tolist()} for p, s in zip(points, scores, strict=True)][
                    : len(frames)
                ]
            }

        return rows


@pytest.fixture(scope="module")
def checkpoint(tiny: AnimateAnyoneConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole network with both stages' parts, untrained but for noise in what starts at zero."""
    torch.manual_seed(0)
    network = add_motion(fresh_network(tiny))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.05)
    folder: Path = tmp_path_factory.mktemp("checkpoint") / "stage_2"
    manifest = {"method": "animate_anyone", "variant": "tiny", "checkpoint_id": "c" * 16, "stage": "stage_2", "parent": None}
    return save_checkpoint(folder, network.parts(), manifest)


@pytest.fixture
def chosen(checkpoint: Path) -> Chosen:
    return Chosen(method="animate_anyone", variant="tiny", folder=checkpoint, checkpoint_id="c" * 16, origin="checkpoint of the test")


@pytest.fixture
def scene(
    tiny: AnimateAnyoneConfig, codec: LatentCodec, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Request]:
    """A photograph, a driving clip of 11 frames of somebody larger, and their poses; the method's variant `tiny`."""
    driver = make_clip("driver", frames=11, colour=(40, 60, 220))
    person = make_clip("person", frames=1, shift=12.0)
    photograph, video = tmp_path / "person.png", tmp_path / "driver.mp4"
    Image.fromarray(np.repeat(np.repeat(read_video(Path(person.clip.uri))[0], 2, axis=0), 2, axis=1)).save(photograph)
    video.write_bytes(Path(driver.clip.uri).read_bytes())
    known = Known({"person.png": (person.keypoints * 2, person.scores), "driver.mp4": (driver.keypoints, driver.scores)})
    monkeypatch.setitem(EXTRACTORS, "known", known)
    monkeypatch.setitem(VARIANTS, "tiny", tiny)
    monkeypatch.setattr("models.diffusion_method.autoencoder_folder", lambda name: Path())
    monkeypatch.setattr(LatentCodec, "load", classmethod(lambda cls, folder: codec))

    def request(**changes: Any) -> Request:
        return Request(
            **{
                "reference": photograph,
                "driving": video,
                "output": tmp_path / "out.mp4",
                "extractor": "known",
                "side_by_side": False,
                **changes,
            }
        )

    return request


def _animated(request: Request, chosen: Chosen) -> tuple[Frames, list[str]]:
    said: list[str] = []
    animate_photograph(request, chosen, say=said.append, progress=False)
    return read_video(request.output), said


# --- the clip that is written ------------------------------------------------------------------------------------------


def test_a_photograph_becomes_a_clip_of_the_driving_length_that_says_it_is_synthetic(scene: Callable[..., Request], chosen: Chosen) -> None:
    import av

    request = scene()
    done = animate_photograph(request, chosen, say=lambda line: None, progress=False)
    info = probe(request.output)
    assert (info.frames, info.width, info.height, info.fps) == (11, 32, 32, 12)
    assert (done.frames, done.size, done.fps) == (11, (32, 32), 12)
    with av.open(str(request.output)) as container:
        comment = container.metadata["comment"]
    assert comment.startswith("synthetic: generated by Rotoscope with animate_anyone:tiny:0, not a recording")
    assert "c" * 16 in comment


def test_side_by_side_holds_photograph_pose_and_the_very_result(scene: Callable[..., Request], chosen: Chosen) -> None:
    alone, _ = _animated(scene(frames=4), chosen)
    strip, _ = _animated(scene(frames=4, side_by_side=True), chosen)
    assert strip.shape == (4, 32, 96, 3)
    left, middle, right = np.split(strip.astype(int), 3, axis=2)
    assert np.abs(left - left[0]).mean() < 2  # the photograph does not move
    assert np.median(middle) < 20 < middle.max() - 40  # a skeleton on black
    assert np.abs(middle[0] - middle[-1]).max() > 40  # which moves
    assert np.abs(right - alone.astype(int)).mean() < 6  # H.264 is all that differs


def test_equal_seeds_give_equal_clips_and_others_do_not(scene: Callable[..., Request], chosen: Chosen) -> None:
    first, _ = _animated(scene(frames=3, steps=1), chosen)
    again, _ = _animated(scene(frames=3, steps=1), chosen)
    other, _ = _animated(scene(frames=3, steps=1, seed=1), chosen)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_steps_frames_and_rate_are_followed(scene: Callable[..., Request], chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr("models.animate.Progress.update", lambda self, count: counted.append(count))
    frames, _ = _animated(scene(steps=3, frames=2, fps=Fraction(6)), chosen)
    assert len(frames) == 2
    assert counted == [1, 1, 1]  # one call of the bar per denoising step
    assert probe(scene().output).fps == 6


def test_what_was_decided_is_said(scene: Callable[..., Request], chosen: Chosen) -> None:
    _, said = _animated(scene(frames=2, steps=1), chosen)
    assert said[0] == "checkpoint of the test"
    assert "poses of person.png and of 2 frames of driver.mp4 by known" in said


def test_any_method_works_also_one_that_does_not_train(scene: Callable[..., Request]) -> None:
    frames, _ = _animated(scene(), Chosen(method="copy_reference", variant="default", folder=None))
    photograph = read_photograph(scene().reference).image.astype(int)
    assert frames.shape == (11, *photograph.shape)
    assert np.abs(frames.astype(int) - photograph).mean() < 3
    with pytest.raises(UserError, match="copy_reference takes no steps"):
        _animated(scene(steps=5), Chosen(method="copy_reference", variant="default", folder=None))


# --- retargeting -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The driving poses that the method is given, with its config."""
    given: list[Any] = []

    def record(self: DiffusionAnimator, reference: Reference, driving: Driving, seed: int, advance: Any = None) -> Any:
        given.append((reference, driving, self.config.sampling.retarget))
        return iter([np.zeros((len(driving.points), 32, 32, 3), np.uint8)])

    monkeypatch.setattr(DiffusionAnimator, "in_pieces", record)
    return given


@pytest.mark.parametrize("kind", ["limb", "linear"])
def test_the_driver_lands_on_the_person_of_the_photograph(
    scene: Callable[..., Request], chosen: Chosen, followed: list[Any], kind: str
) -> None:
    """Both stand alike, at different places and sizes: retargeted, the two skeletons are one but for the walk."""
    _animated(scene(retarget=kind), chosen)
    own, driving, again = followed[0]
    points = driving.points
    walk = points[:, BODY].mean(axis=1) - own.points[BODY].mean(axis=0)
    np.testing.assert_allclose(points[:, BODY] - walk[:, None], np.broadcast_to(own.points[BODY], (11, 17, 2)), atol=0.1)
    assert np.abs(walk[:, 1]).max() < 0.1
    assert again == "none"  # the method does not retarget a second time


def test_none_follows_the_driver_where_the_driver_is(scene: Callable[..., Request], chosen: Chosen, followed: list[Any]) -> None:
    _animated(scene(retarget="none"), chosen)
    own, driving, again = followed[0]
    assert again == "none"
    assert np.abs(driving.points[:, BODY].mean(axis=(0, 1)) - own.points[BODY].mean(axis=0))[0] > 2


# --- the canvas ------------------------------------------------------------------------------------------------------------


def _standing(x: float, top: float, bottom: float) -> tuple[Any, Any]:
    points = np.full((KEYPOINTS, 2), x, np.float32)
    points[:, 1] = np.linspace(top, bottom, KEYPOINTS)
    return points, np.ones(KEYPOINTS, np.float32)


def test_a_photograph_of_the_methods_shape_is_only_resized() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    fitted, points, note = fit_photograph(image, _standing(32, 5, 60), (64, 64))
    np.testing.assert_array_equal(fitted, image)
    np.testing.assert_allclose(points, _standing(32, 5, 60)[0], atol=1e-4)
    assert note == ""


def test_a_wide_photograph_is_cropped_about_the_person() -> None:
    image = np.zeros((64, 200, 3), np.uint8)
    image[:, 170:190] = 255
    fitted, points, note = fit_photograph(image, _standing(180, 5, 60), (64, 64))
    assert note == ""
    assert fitted.shape == (64, 64, 3)
    inside = (points >= 0) & (points <= 64)
    assert inside.all()
    assert fitted[32, round(float(points[0, 0]))].min() == 255  # the points moved with the picture


def test_a_person_larger_than_any_crop_keeps_the_whole_photograph() -> None:
    image = np.full((120, 60, 3), 90, np.uint8)
    image[:, 25:35] = 200
    fitted, points, note = fit_photograph(image, _standing(30, 4, 116), (64, 64))
    assert "extended to 120x120" in note
    assert fitted.shape == (64, 64, 3)
    assert points[:, 1].min() >= 0
    assert points[:, 1].max() <= 64
    assert fitted[32, round(float(points[0, 0]))].mean() == 200
    assert fitted[32, 1].mean() == 90  # repeated border, no black bar


# --- the driving clip ------------------------------------------------------------------------------------------------------


def _video(path: Path, frames: int, fps: int) -> Path:
    encode_video(path, np.zeros((frames, 32, 32, 3), np.uint8), Fraction(fps))
    return path


@pytest.mark.parametrize(
    ("limit", "fps", "indices"),
    [
        (None, None, list(range(10))),
        (4, None, [0, 1, 2, 3]),
        (None, 12, [0, 2, 4, 6, 8]),
        (3, 12, [0, 2, 4]),
        (None, 8, [0, 3, 6, 9]),
        (99, 24, list(range(10))),
    ],
)
def test_frames_are_followed_at_the_rate_asked_for(tmp_path: Path, limit: int | None, fps: int | None, indices: list[int]) -> None:
    clip, chosen, rate = driving_clip(_video(tmp_path / "v.mp4", 10, 24), limit, None if fps is None else Fraction(fps))
    assert chosen == indices
    assert clip.num_frames == indices[-1] + 1  # nothing behind the last one is decoded
    assert rate == (fps or 24)


def test_a_higher_rate_than_the_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--fps 30 is above the 24 of v.mp4"):
        driving_clip(_video(tmp_path / "v.mp4", 3, 24), None, Fraction(30))


@pytest.mark.parametrize(("content", "said"), [(None, "no such file"), (b"", "empty_file"), (b"no video at all", "not_a_video")])
def test_a_driving_clip_without_frames_is_the_users_error(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "driving.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        driving_clip(path, None, None)


# --- what is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "said"), [("person.png", "no person in the photograph"), ("driver.mp4", "no person in the driving clip")])
def test_nobody_in_the_picture_is_the_users_error(scene: Callable[..., Request], chosen: Chosen, lost: str, said: str) -> None:
    del EXTRACTORS["known"].poses[lost]  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=said):
        _animated(scene(), chosen)


def test_a_detector_that_gives_nothing_visible_has_seen_nobody(scene: Callable[..., Request], chosen: Chosen) -> None:
    EXTRACTORS["known"].poses["driver.mp4"][1][:] = 0.2  # type: ignore[attr-defined]
    try:
        with pytest.raises(UserError, match="no keypoint is visible"):
            _animated(scene(), chosen)
    finally:
        EXTRACTORS["known"].poses["driver.mp4"][1][:] = 1  # type: ignore[attr-defined]  # the clips are shared


def test_a_photograph_and_a_clip_that_share_no_joint_are_named(scene: Callable[..., Request], chosen: Chosen) -> None:
    points, scores = EXTRACTORS["known"].poses["person.png"]  # type: ignore[attr-defined]
    only_a_hand = scores * 0
    only_a_hand[:, 91:112] = 1
    EXTRACTORS["known"].poses["person.png"] = (points, only_a_hand)  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"person.png and .*driver.mp4: no body joint"):
        _animated(scene(), chosen)


def test_extractors_without_poses_and_other_names_are_refused_with_the_list(scene: Callable[..., Request], chosen: Chosen) -> None:
    with pytest.raises(UserError, match=r"--extractors flow gives no poses; those that do: .*mediapipe"):
        _animated(scene(extractor="flow"), chosen)
    with pytest.raises(UserError, match="no extractor 'openpose'; there are"):
        _animated(scene(extractor="openpose"), chosen)


def test_the_output_is_an_mp4_and_no_input(scene: Callable[..., Request]) -> None:
    with pytest.raises(UserError, match=r"ends in .mp4"):
        scene(output=Path("out.gif"))
    with pytest.raises(UserError, match="would be overwritten"):
        scene(output=scene().driving)


def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(scene: Callable[..., Request], chosen: Chosen) -> None:
    request = scene()
    for output in (request.reference / "out.mp4", request.output):
        if output == request.output:
            output.mkdir()
        with pytest.raises(UserError, match=r"--output .*out\.mp4"):
            animate_photograph(scene(output=output), chosen, say=pytest.fail, progress=False)


def test_the_default_extractor_gives_poses() -> None:
    assert "poses" in EXTRACTORS[DEFAULT_EXTRACTOR].tables
    chosen = Chosen(method="animate_anyone", variant="shipped", folder=None)
    assert default_extractor(chosen) == OF_PERFORMERS
    assert "poses" in EXTRACTORS[OF_PERFORMERS].tables
    assert default_extractor(replace(chosen, variant="demo")) == DEFAULT_EXTRACTOR


# --- photographs -----------------------------------------------------------------------------------------------------------


def test_a_rotated_photograph_is_turned_upright_and_said(tmp_path: Path) -> None:
    upright = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    stored = Image.fromarray(np.rot90(upright))  # on its side; orientation 6 turns it clockwise
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "p.png", exif=exif)
    photograph = read_photograph(tmp_path / "p.png")
    np.testing.assert_array_equal(photograph.image, upright)
    assert photograph.notes == ("p.png was turned upright as its EXIF orientation says",)


def test_a_transparent_photograph_is_laid_on_white_and_said(tmp_path: Path) -> None:
    layers = np.full((40, 40, 4), 100, np.uint8)
    layers[:20, :, 3], layers[20:, :, 3] = 0, 255
    Image.fromarray(layers, "RGBA").save(tmp_path / "p.png")
    photograph = read_photograph(tmp_path / "p.png")
    assert photograph.image[0, 0].tolist() == [255, 255, 255]
    assert photograph.image[39, 0].tolist() == [100, 100, 100]
    assert photograph.notes == ("p.png is partly transparent and was laid on white",)
    layers[..., 3] = 255
    Image.fromarray(layers, "RGBA").save(tmp_path / "p.png")
    assert read_photograph(tmp_path / "p.png").notes == ()


def test_photographs_that_cannot_be_used_are_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_photograph(tmp_path / "p.png")
    (tmp_path / "p.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match="no image that can be opened"):
        read_photograph(tmp_path / "p.png")
    Image.fromarray(np.zeros((20, 64, 3), np.uint8)).save(tmp_path / "p.png")
    with pytest.raises(UserError, match="is 64x20 pixels"):
        read_photograph(tmp_path / "p.png")
    Image.fromarray(np.zeros((64, 64), np.uint16)).save(tmp_path / "p.png")
    with pytest.raises(UserError, match="more than 8 bits"):
        read_photograph(tmp_path / "p.png")


# --- checkpoints -----------------------------------------------------------------------------------------------------------


def _lake_with(root: Path, checkpoint: Path, ids: list[str]) -> Lake:
    """A lake that holds copies of a checkpoint, the last one written last."""
    import os
    import shutil

    lake = Lake(root).create()
    for age, identity in enumerate(ids):
        folder = lake.root / "checkpoints" / identity
        shutil.copytree(checkpoint, folder)
        os.utime(folder / "manifest.json", (1_000_000 + age, 1_000_000 + age))
        row = {"checkpoint_id": identity, "method": "animate_anyone", "variant": "tiny", "stage": "stage_2", "seed": 0, "dataset": "tests"}
        lake.write("checkpoints", [{**row, "uri": lake.uri(folder), "steps": 6}])
    return lake


def test_the_newest_checkpoint_of_the_lake_is_the_default(tmp_path: Path, checkpoint: Path, scene: Callable[..., Request]) -> None:
    lake = _lake_with(tmp_path / "lake", checkpoint, ["b" * 16, "a" * 16])
    found = choose_checkpoint(lake, "animate_anyone", "tiny", None)
    assert found.checkpoint_id == "a" * 16
    assert found.origin == f"checkpoint {'a' * 16}, trained 6 steps on tests"
    by_id = choose_checkpoint(lake, "animate_anyone", None, "b" * 16)
    assert (by_id.variant, by_id.folder) == ("tiny", lake.root / "checkpoints" / ("b" * 16))


def test_a_shipped_checkpoint_comes_before_the_lakes(
    tmp_path: Path, checkpoint: Path, scene: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "animate_anyone").symlink_to(checkpoint)
    monkeypatch.setattr("models.shipped_checkpoint.FOLDER", tmp_path / "shipped")
    lake = _lake_with(tmp_path / "lake", checkpoint, ["a" * 16])
    for variant in (None, "shipped"):
        found = choose_checkpoint(lake, "animate_anyone", variant, None)
        assert (found.variant, found.origin) == ("shipped", f"shipped checkpoint {'c' * 16}")
    assert choose_checkpoint(lake, "animate_anyone", "tiny", None).checkpoint_id == "a" * 16


def test_a_folder_says_its_variant_and_must_be_the_methods(tmp_path: Path, checkpoint: Path, scene: Callable[..., Request]) -> None:
    nowhere = Lake(tmp_path / "nowhere")
    assert choose_checkpoint(nowhere, "animate_anyone", None, str(checkpoint)).variant == "tiny"
    with pytest.raises(UserError, match="is of animate_anyone:tiny, not of animate_anyone:demo"):
        choose_checkpoint(nowhere, "animate_anyone", "demo", str(checkpoint))
    with pytest.raises(UserError, match="is no checkpoint"):
        choose_checkpoint(nowhere, "animate_anyone", None, str(tmp_path))
    with pytest.raises(UserError, match="copy_reference has none"):
        choose_checkpoint(nowhere, "copy_reference", None, str(checkpoint))


def test_a_damaged_checkpoint_is_named(tmp_path: Path, checkpoint: Path, scene: Callable[..., Request]) -> None:
    lake = _lake_with(tmp_path / "lake", checkpoint, ["a" * 16])
    part = next((lake.root / "checkpoints" / ("a" * 16)).rglob("*.safetensors"))
    part.write_bytes(part.read_bytes()[:-4] + b"oops")
    with pytest.raises(UserError, match="not what its manifest says"):
        choose_checkpoint(lake, "animate_anyone", "tiny", None)


def test_without_a_checkpoint_the_command_that_makes_one_is_said(tmp_path: Path, checkpoint: Path, scene: Callable[..., Request]) -> None:
    with pytest.raises(
        UserError, match=r"no trained checkpoint of animate_anyone:brief .*rotoscope run --folder DIR --method animate_anyone"
    ):
        choose_checkpoint(Lake(tmp_path / "nowhere"), "animate_anyone", "brief", None)
    lake = _lake_with(tmp_path / "lake", checkpoint, ["a" * 16])
    with pytest.raises(UserError, match="there are some of variant tiny: say --variant tiny"):
        choose_checkpoint(lake, "animate_anyone", "brief", None)
    with pytest.raises(UserError, match="neither a folder nor the id"):
        choose_checkpoint(lake, "animate_anyone", None, "f" * 16)


# --- long clips ------------------------------------------------------------------------------------------------------------


def _driven(frames: int) -> Driving:
    rng = np.random.default_rng(0)
    return Driving(points=rng.uniform(0, 32, (frames, KEYPOINTS, 2)).astype(np.float32), scores=np.ones((frames, KEYPOINTS), np.float32))


def _shown(level: int) -> Reference:
    still = _driven(1)
    return Reference(image=np.full((32, 32, 3), level, np.uint8), points=still.points[0], scores=still.scores[0])


def test_pieces_are_the_whole_clip(tiny: AnimateAnyoneConfig, checkpoint: Path, codec: LatentCodec) -> None:
    animator = DiffusionAnimator(tiny, load_network(tiny, checkpoint), codec, animate)
    pieces = list(animator.in_pieces(_shown(128), _driven(DECODED_AT_ONCE + 3), 0))
    assert [len(piece) for piece in pieces] == [DECODED_AT_ONCE, 3]
    np.testing.assert_array_equal(np.concatenate(pieces), animator(_shown(128), _driven(DECODED_AT_ONCE + 3), 0))


def test_no_array_of_pictures_as_long_as_a_long_clip_is_made(
    tiny: AnimateAnyoneConfig, checkpoint: Path, codec: LatentCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """104 frames, thirteen windows: decoded and drawn pictures pass by a few at a time; only latents are as many as frames."""
    decoded: list[int] = []
    real = codec.decode
    monkeypatch.setattr(codec, "decode", lambda latents, chunk=8: decoded.append(len(latents)) or real(latents, chunk))
    drawn: list[int] = []
    unit = to_unit
    monkeypatch.setattr("models.clip_sampling.to_unit", lambda frames: drawn.append(len(frames)) or unit(frames))
    config = replace(tiny, sampling=replace(tiny.sampling, steps=1, guidance_scale=1.0, window=8, overlap=0))
    pieces = DiffusionAnimator(config, load_network(config, checkpoint), codec, animate).in_pieces(_shown(0), _driven(104), 0)
    assert sum(len(piece) for piece in pieces) == 104
    assert max(decoded) == DECODED_AT_ONCE
    assert max(drawn) == 8


def test_the_file_is_written_from_disk_not_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[Any] = []
    monkeypatch.setattr(
        module, "encode_video", lambda path, frames, fps, comment: held.append((type(frames), frames.shape, frames[5, 0, 0, 0]))
    )
    pieces = (np.full((2, 32, 32, 3), i, np.uint8) for i in range(4))
    write_pieces(tmp_path / "o.mp4", pieces, 8, Fraction(24), "synthetic")
    assert held == [(np.memmap, (8, 32, 32, 3), 2)]
    with pytest.raises(ValueError, match=r"2 frames were made for o\.mp4, 8 were asked for"):
        write_pieces(tmp_path / "o.mp4", [np.zeros((2, 32, 32, 3), np.uint8)], 8, Fraction(24), "synthetic")


def test_the_driving_video_is_let_go_before_sampling_begins(
    scene: Callable[..., Request], chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long clip's own frames are held while poses and signals are found in them, not while the method works."""
    import gc
    import weakref

    from models import animate

    held: list[weakref.ref[Any]] = []
    real = animate.read_frames

    class Watched(np.ndarray):  # type: ignore[type-arg]
        pass

    def reading(clip: Clip) -> Frames:
        frames: Frames = real(clip).view(Watched)
        held.append(weakref.ref(frames))
        return frames

    def sampling(self: DiffusionAnimator, reference: Reference, driving: Driving, seed: int, advance: Any = None) -> Any:
        gc.collect()
        assert held[0]() is None
        yield np.zeros((len(driving.points), 32, 32, 3), np.uint8)

    monkeypatch.setattr(animate, "read_frames", reading)
    monkeypatch.setattr(DiffusionAnimator, "in_pieces", sampling)
    _animated(scene(frames=3), chosen)
    assert len(held) == 1
