"""Signals of a photograph and a video that are in no lake: whose networks look, what is carried over to the canvas, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.animate import Request, animate_photograph
from models.animator import Driving, Reference
from models.baselines.copy_reference import CopyReferenceMethod
from models.checkpoint import MANIFEST
from models.chosen_checkpoint import Chosen
from models.clip_dataset import TrainingClip
from models.cross_driving import cross_pairs, five_points, retargeted_signals
from models.signals import SignalName
from models.spot_signals import spot_signals
from pipelines.clip import Clip, Frames
from pipelines.errors import MissingWeightsError, UserError
from pipelines.extractors.body_mask import mask_row
from pipelines.extractors.registry import EXTRACTORS
from pipelines.video import read_video

MakeClip = Callable[..., TrainingClip]


@dataclass
class Looks:
    """An extractor without a network: rows as a test wants them, and a record of what it looked at."""

    name: str
    tables: tuple[str, ...]
    rows: Callable[[Clip, Frames], dict[str, list[dict[str, Any]]]]
    digest: str = "d"
    version: int = 1
    seen: list[tuple[str, int]] = field(default_factory=list)

    def weights_digest(self) -> str:
        if self.digest == "missing":
            raise MissingWeightsError(f"no weights of {self.name}; fetch them")
        return self.digest

    def load(self, device: str) -> Callable[[Clip, Frames], Any]:
        def look(clip: Clip, frames: Frames) -> Any:
            self.seen.append((clip.clip_id, len(frames)))
            return self.rows(clip, frames)

        return look


def _faces(clip: Clip, frames: Frames) -> dict[str, list[dict[str, Any]]]:
    """A face in the upper middle of every frame."""
    height, width = frames.shape[1:3]
    box = [width * 0.4, height * 0.1, width * 0.6, height * 0.3]
    row = {"boxes": box, "subject": 0, "warp": [2.0, 0, 1, 0, 2, 1], "embedding": [3.0, 4.0]}
    return {"faces": [row for _ in frames]}


def _nobody(clip: Clip, frames: Frames) -> dict[str, list[dict[str, Any]]]:
    return {"faces": [{"boxes": [], "subject": -1, "warp": None, "embedding": None} for _ in frames]}


def _left_half(clip: Clip, frames: Frames) -> dict[str, list[dict[str, Any]]]:
    soft = np.zeros(frames.shape[1:3], np.uint8)
    soft[:, : soft.shape[1] // 2] = 255
    return {"body_masks": [mask_row(soft) for _ in frames]}


class Method(CopyReferenceMethod):
    """Needs signals, and remembers what it was given."""

    def __init__(self, needs: tuple[SignalName, ...]) -> None:
        self.needs = needs
        self.given: list[tuple[Reference, Driving]] = []

    def load(self, variant: str, checkpoint: Path | None) -> Any:
        given = self.given

        class Animator:
            size: tuple[int, int] | None = (32, 32)
            sampler: Mapping[str, Any] = {}

            def in_pieces(self, reference: Reference, driving: Driving, seed: int, advance: Any = None) -> Iterator[Frames]:
                given.append((reference, driving))
                yield np.repeat(reference.image[None], len(driving.points), axis=0)

        return Animator()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Looks]:
    made = {look.name: look for look in (Looks("faces_a", ("faces",), _faces), Looks("masks_a", ("body_masks",), _left_half))}
    for name, look in made.items():
        monkeypatch.setitem(EXTRACTORS, name, look)
    return made


@pytest.fixture
def request_of(make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Request]:
    """A photograph of 96x96 and a driving clip of 8 frames at 12 a second, with poses that are known."""
    driver, person = make_clip("driver", frames=8, colour=(40, 60, 220)), make_clip("person", frames=1, shift=4.0)
    photograph, video = tmp_path / "person.png", tmp_path / "driver.mp4"
    Image.fromarray(np.repeat(np.repeat(read_video(Path(person.clip.uri))[0], 2, axis=0), 2, axis=1)).save(photograph)
    video.write_bytes(Path(driver.clip.uri).read_bytes())
    fan = np.linspace(-2, 2, 21, dtype=np.float32)[:, None] * np.array([1, 0.5], np.float32)  # hands that are more than a point
    for item in (driver, person):
        item.keypoints[:, 91:112] += fan
        item.keypoints[:, 112:] += fan
    poses = {"person.png": (person.keypoints * 2, person.scores), "driver.mp4": (driver.keypoints, driver.scores)}

    def rows(clip: Clip, frames: Frames) -> Any:
        points, scores = poses[clip.clip_id]
        return {
            "poses": [{"keypoints": p.ravel().tolist(), "scores": s.tolist()} for p, s in zip(points, scores, strict=True)][: len(frames)]
        }

    monkeypatch.setitem(EXTRACTORS, "known", Looks("known", ("poses",), rows))

    def request(**changes: Any) -> Request:
        plain = {"reference": photograph, "driving": video, "output": tmp_path / "o.mp4", "extractor": "known", "side_by_side": False}
        return Request(**{**plain, **changes})

    return request


def _method(monkeypatch: pytest.MonkeyPatch, *needs: SignalName) -> Method:
    method = Method(needs)
    monkeypatch.setattr("models.methods.methods", lambda: {"watcher": method})
    return method


def _checkpoint(folder: Path, **facts: Any) -> Chosen:
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_text(json.dumps({"method": "watcher", "variant": "default", "files": {}, **facts}))
    return Chosen(method="watcher", variant="default", folder=folder)


def _quiet(line: str) -> None:
    pass


def _trained(name: str, extractor: str, digest: str = "d") -> str:
    return json.dumps({name: {"extractor": extractor, "version": 1, "weights_digest": digest}})


# --- what the method is given ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["limb", "none"])
def test_a_method_is_given_what_it_needs_and_nothing_is_looked_at_twice(
    request_of: Callable[..., Request], looks: dict[str, Looks], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    method = _method(monkeypatch, "faces", "body_mask", "hands")
    chosen = _checkpoint(tmp_path / "c", signals=_trained("faces", "faces_a"), hand_sharpness_p99="40.0")
    animate_photograph(request_of(retarget=kind, signals=("masks_a",)), chosen, say=_quiet, progress=False)
    ((reference, driving),) = method.given
    assert reference.signals.face_embeddings is not None
    assert reference.signals.face_boxes is not None
    assert reference.signals.body_mask is not None
    assert reference.signals.face_embeddings.tolist() == [[3, 4]]
    np.testing.assert_allclose(reference.signals.face_boxes[0, 0], [0.4 * 32, 0.1 * 32, 0.6 * 32, 0.3 * 32], atol=1e-3)
    assert reference.signals.body_mask[0, 0].mean(dim=0).tolist() == [1.0] * 16 + [0.0] * 16
    assert driving.signals.body_mask is None  # of the person that is shown only
    assert driving.signals.hand_boxes is not None
    assert driving.signals.hand_boxes.shape == (8, 2, 4)
    assert driving.signals.face_found is not None
    assert looks["masks_a"].seen == [("person.png", 1)]
    assert looks["faces_a"].seen == [("person.png", 1)] + ([("driver.mp4", 8)] if kind == "none" else [])


def test_a_method_without_needs_looks_at_nothing(
    request_of: Callable[..., Request], looks: dict[str, Looks], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = _method(monkeypatch)
    animate_photograph(request_of(), Chosen(method="watcher", variant="default", folder=None), say=_quiet, progress=False)
    assert method.given[0][0].signals.face_boxes is None
    assert all(look.seen == [] for look in looks.values())


def test_movement_is_per_native_frame_whatever_rate_is_followed(
    request_of: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every second frame of a steady walk moves twice as far; the map says the same."""
    method = _method(monkeypatch, "hands")
    chosen = _checkpoint(tmp_path / "c", hand_sharpness_p99="40.0")
    for fps in (12, 6):
        animate_photograph(request_of(fps=Fraction(fps)), chosen, say=_quiet, progress=False)
    whole, half = (driving for _, driving in method.given)
    values = []
    for driving in (whole, half):
        assert driving.signals.blur is not None
        hand = driving.signals.blur[2].amax(dim=(1, 2))  # constants in one box, which both hands share in x and y
        assert hand.max() > 0
        values.append(hand[:2])
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=2e-3)
    assert (whole.fps, half.fps) == (12, 6)
    assert float(values[0][0]) > 0.5  # to the right


# --- whose networks look ------------------------------------------------------------------------------------------------------


def test_named_extractors_come_before_the_trainings_and_those_before_the_usual_ones(
    looks: dict[str, Looks], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = _checkpoint(tmp_path / "c", signals=_trained("faces", "faces_a"))
    assert spot_signals(chosen, ["faces"], [], _quiet).extractors["faces"].name == "faces_a"
    monkeypatch.setitem(EXTRACTORS, "faces_b", Looks("faces_b", ("faces",), _faces))
    said: list[str] = []
    assert spot_signals(chosen, ["faces"], ["faces_b"], said.append).extractors["faces"].name == "faces_b"
    assert said == ["faces by faces_b, not as in training (faces_a with other weights or by another name)"]
    plain = _checkpoint(tmp_path / "p")
    for name in ("scrfd", "scrfd_tiny"):
        monkeypatch.setitem(EXTRACTORS, name, Looks(name, ("faces",), _faces))
    assert spot_signals(plain, ["faces"], [], _quiet).extractors["faces"].name == "scrfd_tiny"
    paper = Chosen(method="watcher", variant="paper-no_mask", folder=None)
    assert spot_signals(paper, ["faces"], [], _quiet).extractors["faces"].name == "scrfd"


def test_extractors_that_do_not_help_are_refused(looks: dict[str, Looks], tmp_path: Path) -> None:
    chosen = _checkpoint(tmp_path / "c", signals=_trained("faces", "faces_a"))
    with pytest.raises(UserError, match=r"--signals masks_a is of no use to this method, which needs faces; those that help: .*faces_a"):
        spot_signals(chosen, ["faces"], ["masks_a"], _quiet)
    with pytest.raises(UserError, match="--signals masks_a is of no use to this method, which needs no signals; leave the option out"):
        spot_signals(chosen, [], ["masks_a"], _quiet)


def test_an_extractor_is_named_for_one_signal_or_for_all_that_it_gives(
    looks: dict[str, Looks], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("both_a", "both_b"):
        monkeypatch.setitem(EXTRACTORS, name, Looks(name, ("faces", "body_masks"), _faces))
    chosen, needs = _checkpoint(tmp_path / "c"), ["faces", "body_mask"]

    def names(*named: str) -> list[str]:
        return [extractor.name for extractor in spot_signals(chosen, needs, named, _quiet).extractors.values()]  # type: ignore[arg-type]

    assert names("both_a") == ["both_a", "both_a"]
    assert names("both_a", "body_mask=both_b") == ["both_a", "both_b"]
    assert names("faces=faces_a", "body_mask=masks_a") == ["faces_a", "masks_a"]
    with pytest.raises(UserError, match=r"--signals hats=faces_a: this method needs faces, body_mask, not 'hats'"):
        names("hats=faces_a")
    with pytest.raises(UserError, match=r"--signals faces=masks_a: masks_a gives no faces; those that do: .*both_a"):
        names("faces=masks_a")
    with pytest.raises(UserError, match="no extractor 'nobody'; there are"):
        names("faces=nobody")


def test_an_extractor_of_several_signals_looks_once(
    request_of: Callable[..., Request], looks: dict[str, Looks], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    both = Looks("both", ("faces", "body_masks"), lambda clip, frames: {**_faces(clip, frames), **_left_half(clip, frames)})
    monkeypatch.setitem(EXTRACTORS, "both", both)
    method = _method(monkeypatch, "faces", "body_mask")
    animate_photograph(request_of(signals=("both",), retarget="none"), _checkpoint(tmp_path / "c"), say=_quiet, progress=False)
    assert both.seen == [("person.png", 1), ("driver.mp4", 8)]
    assert method.given[0][0].signals.body_mask is not None


def test_a_caption_of_the_users_takes_the_captioners_place(
    request_of: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    captioner = Looks("caption_tiny", ("captions",), _nobody, digest="missing")
    monkeypatch.setitem(EXTRACTORS, "caption_tiny", captioner)
    method = _method(monkeypatch, "caption")
    animate_photograph(request_of(caption="a tall woman in red"), _checkpoint(tmp_path / "c"), say=_quiet, progress=False)
    shown = method.given[0][0].signals
    assert (shown.caption, shown.character) == ("a tall woman in red", "woman")
    assert captioner.seen == []
    with pytest.raises(
        MissingWeightsError, match=r"caption by caption_tiny: no weights .*or --signals caption=EXTRACTOR .*or --caption TEXT"
    ):
        animate_photograph(request_of(), _checkpoint(tmp_path / "c"), say=_quiet, progress=False)
    with pytest.raises(UserError, match="--caption: watcher needs a sentence"):
        animate_photograph(request_of(caption="  "), _checkpoint(tmp_path / "c"), say=_quiet, progress=False)
    _method(monkeypatch)
    with pytest.raises(UserError, match="--caption: watcher reads no caption; leave the option out"):
        animate_photograph(request_of(caption="a man"), _checkpoint(tmp_path / "c"), say=_quiet, progress=False)


def test_annotations_that_hold_no_tokens_are_no_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.small_clips import clip_of

    def labels(clip: Clip, frames: Frames) -> dict[str, list[dict[str, Any]]]:
        return {"actions": [{"frame": 0, "tokens": None, "shape": None, "dtype": None, "action_class": "jump"}]}

    monkeypatch.setitem(EXTRACTORS, "labels", Looks("labels", ("actions",), labels))
    spot = spot_signals(_checkpoint(tmp_path / "c"), ["actions"], ["labels"], _quiet)
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    nothing = (np.zeros((2, 133, 2), np.float32), np.zeros((2, 133), np.float32))
    with pytest.raises(
        UserError, match=r"actions of the clip: labels holds no network's tokens; name another extractor: --signals actions="
    ):
        spot.of(["actions"], clip_of(frames), frames, nothing, "clip")


def test_every_signal_without_weights_is_named_at_once(looks: dict[str, Looks], tmp_path: Path) -> None:
    looks["faces_a"].digest = looks["masks_a"].digest = "missing"
    with pytest.raises(MissingWeightsError) as raised:
        spot_signals(_checkpoint(tmp_path / "c"), ["faces", "body_mask"], ["faces_a", "masks_a"], _quiet)
    said = str(raised.value)
    assert said.startswith("watcher:default looks at more than poses, and networks are missing:")
    assert "faces by faces_a: no weights of faces_a; fetch them; or --signals faces=EXTRACTOR" in said
    assert "body_mask by masks_a: no weights of masks_a; fetch them; or --signals body_mask=EXTRACTOR" in said


def test_missing_weights_are_said_before_anything_is_computed(
    request_of: Callable[..., Request], looks: dict[str, Looks], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _method(monkeypatch, "faces")
    looks["faces_a"].digest = "missing"
    with pytest.raises(MissingWeightsError, match="no weights of faces_a"):
        animate_photograph(request_of(signals=("faces_a",)), _checkpoint(tmp_path / "c"), say=pytest.fail, progress=False)
    assert EXTRACTORS["known"].seen == []  # type: ignore[attr-defined]


def test_a_photograph_without_a_face_is_refused_where_a_face_is_needed(
    request_of: Callable[..., Request], looks: dict[str, Looks], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _method(monkeypatch, "faces")
    looks["faces_a"].rows = _nobody
    with pytest.raises(UserError, match=r"no face in the photograph .*person.png that faces_a can tell apart"):
        animate_photograph(request_of(signals=("faces_a",)), _checkpoint(tmp_path / "c"), say=_quiet, progress=False)


def test_hands_need_the_scale_of_their_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not say how sharp the hands of its training were"):
        spot_signals(_checkpoint(tmp_path / "c"), ["hands"], [], _quiet)
    assert spot_signals(_checkpoint(tmp_path / "d", hand_sharpness_p99="7.5"), ["hands"], [], _quiet).sharpness_p99 == 7.5


# --- another person's motion ------------------------------------------------------------------------------------------------


def test_pairs_follow_ids_and_never_the_same_person(make_clip: MakeClip) -> None:
    from dataclasses import replace

    base = make_clip("one", frames=2).clip
    clips = [replace(base, clip_id=name, subject=who) for name, who in (("c", "ann"), ("a", "ann"), ("b", "ben"), ("d", "cy"))]
    names = [(shown.clip_id, driver.clip_id) for shown, driver in cross_pairs(clips)]
    assert names == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")]
    assert names == [(shown.clip_id, driver.clip_id) for shown, driver in cross_pairs(clips[::-1])]
    nameless = [replace(base, clip_id=name, subject=None, video_id=name) for name in ("x", "y")]
    assert [driver.clip_id for _, driver in cross_pairs(nameless)] == ["y", "x"]
    with pytest.raises(UserError, match="nobody can drive it"):
        cross_pairs([clip for clip in clips if clip.subject == "ann"])


def test_retargeted_signals_of_a_driver_who_stays_are_the_drivers() -> None:
    """Moved by nothing but a scale and an offset, hands, faces and rasters are those of the video in that crop."""
    from models.clip_signals import ClipSignals, PackedFrames, fit_signals
    from models.signal_rows import signals_of_rows
    from pipelines.extractors.hands import hands_of
    from pipelines.masks import pack_array
    from pipelines.performers.performer import perform

    made = perform(identity=3, motion=1, frames=4, size=128)
    truth, clip = made.truth, _clip_of(made.frames)
    hands = signals_of_rows(clip, {"hands": hands_of(made.frames, truth.keypoints, truth.scores, 128, 128)}, sharpness_p99=50.0)
    source = hands.joined(ClipSignals(frames=4, fps=24.0, densepose=PackedFrames([pack_array(iuv) for iuv in truth.iuv])))
    box, size, scores = (16.0, 8.0, 96.0, 96.0), (192, 192), np.where(truth.scores > 0, 1, 0).astype(np.float32)
    followed = ((truth.keypoints - np.array(box[:2])) * 2).astype(np.float32)
    moved = retargeted_signals(source, range(4), truth.keypoints, followed, scores, size, faces=True)
    plain = fit_signals(source, box, size)
    assert moved.densepose is not None
    assert plain.densepose is not None
    assert moved.blur is not None
    assert plain.blur is not None
    torch.testing.assert_close(moved.densepose, plain.densepose)
    changed = (moved.blur - plain.blur).abs().amax(dim=1)
    assert float((changed > 0.02).float().mean()) < 0.01  # the boxes' rims, which are rounded to whole pixels
    assert moved.face_boxes is not None
    assert moved.face_warps is not None
    assert moved.face_found is not None
    assert moved.face_found.any()
    for t in np.flatnonzero(moved.face_found.numpy()):
        x1, y1, x2, y2 = moved.face_boxes[t, 0].tolist()
        five = five_points(followed[t, 23:91])
        assert ((five > (x1, y1)) & (five < (x2, y2))).all()
        warped = five @ moved.face_warps[t, :, :2].numpy().T + moved.face_warps[t, :, 2].numpy()
        assert ((warped > 20) & (warped < 112)).all()
        assert warped[0, 0] < warped[1, 0]  # the eye at the left of the image comes first


def _clip_of(frames: Frames) -> Clip:
    return Clip(
        dataset="d", clip_id="c", video_id="v", uri="", start_frame=0, end_frame=len(frames), start_pts=None, end_pts=None,
        time_base=Fraction(1, 24), fps=Fraction(24), width=frames.shape[2], height=frames.shape[1],
    )  # fmt: skip
