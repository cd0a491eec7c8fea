"""`rotoscope animate` through click's runner, and drawn people end to end with MediaPipe and a checkpoint that was trained."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from assets.cli import cli
from models.animate import Animated, Request
from models.chosen_checkpoint import Chosen
from pipelines.errors import UserError
from pipelines.performers.dataset import write_dataset
from pipelines.video import encode_video, probe, read_video


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A photograph and a video without people, and a lake of the test's own that is not there yet."""
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise[0]).save("person.png")
    encode_video(Path("clip.mp4"), noise, Fraction(24))
    return ["animate", "--reference", "person.png", "--driving", "clip.mp4", "--output", "out.mp4"]


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def _refused(result: Result) -> str:
    """The message of a UserError, which the entry point prints before it leaves with status 2."""
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def test_the_help_names_every_option_and_an_example() -> None:
    said = _run("animate", "--help").output
    for option in (
        "reference",
        "driving",
        "output",
        "method",
        "variant",
        "checkpoint",
        "extractors",
        "signals",
        "caption",
        "retarget",
        "seed",
        "steps",
        "frames",
        "fps",
    ):
        assert f"--{option}" in said
    assert "--side-by-side / --no-side-by-side" in said
    assert "rotoscope animate --reference person.png --driving clip.mp4 --method animate_anyone --output out.mp4" in said


def test_options_arrive(inputs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []

    def record(request: Request, chosen: Chosen, *, say: Any) -> Animated:
        heard.append((request, chosen))
        return Animated(path=request.output, frames=7, fps=Fraction(12), size=(128, 128))

    monkeypatch.setattr("models.animate.animate_photograph", record)
    given = ["--method", "copy_reference", "--extractors", "truth", "--retarget", "linear", "--no-side-by-side"]
    given += ["--signals", "faces=scrfd", "--signals", "mediapipe", "--caption", "a man"]
    result = _run(*inputs, *given, "--seed", "3", "--steps", "5", "--frames", "7", "--fps", "12")
    assert result.output.endswith("out.mp4: 7 frames of 128x128 at 12 a second\n"), result.output
    _run(*inputs, "--method", "copy_reference")
    paths = {"reference": Path("person.png"), "driving": Path("clip.mp4"), "output": Path("out.mp4")}
    everything = {"retarget": "linear", "side_by_side": False, "seed": 3, "steps": 5, "frames": 7, "fps": Fraction(12)}
    seen = {"signals": ("faces=scrfd", "mediapipe"), "caption": "a man"}
    assert heard[0][0] == Request(**paths, extractor="truth", **everything, **seen)  # type: ignore[arg-type]
    assert heard[1][0] == Request(**paths)  # limb, side by side, mediapipe
    assert heard[0][1] == Chosen(method="copy_reference", variant="default", folder=None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "dreampose"], "no method 'dreampose'; there are: animate_anyone, copy_reference, hfca"),
        (["--variant", "huge"], "no variant 'huge'; it has: "),
        (["--variant", "demo"], "no trained checkpoint of animate_anyone:demo"),
        (["--checkpoint", "0123"], "--checkpoint 0123: neither a folder nor the id of a checkpoint"),
        (["--fps", "fast"], "--fps fast: give frames per second"),
        (["--fps", "0"], "--fps 0: give frames per second"),
        (["--method", "copy_reference", "--fps", "60"], "--fps 60 is above the 24 of clip.mp4"),
        (["--method", "copy_reference", "--extractors", "guess"], "no extractor 'guess'; there are: "),
        (["--method", "copy_reference", "--reference", "nobody.png"], "photograph nobody.png: there is no such file"),
        (["--method", "copy_reference", "--driving", "none.mp4"], "driving clip none.mp4: there is no such file"),
        (["--method", "copy_reference", "--signals", "faces=scrfd"], "--signals faces=scrfd: this method needs no signals, not 'faces'"),
        (["--method", "copy_reference", "--caption", "a man"], "--caption: copy_reference reads no caption; leave the option out"),
        (["--method", "copy_reference", "--output", "out.gif"], "--output out.gif: only mp4 is written"),
    ],
)
def test_wrong_input_is_the_users_error(inputs: list[str], options: list[str], said: str) -> None:
    assert said in _refused(_run(*inputs, *options))
    assert not Path("out.mp4").exists()


@pytest.mark.parametrize("option", [["--steps", "0"], ["--frames", "0"], ["--seed", "-1"], ["--retarget", "magic"]])
def test_impossible_values_are_refused_by_the_parser(inputs: list[str], option: list[str]) -> None:
    result = _run(*inputs, *option)
    assert result.exit_code == 2
    assert option[0] in result.output


def test_nobody_in_the_photograph_is_said(inputs: list[str]) -> None:
    pytest.importorskip("mediapipe", reason="the extra mediapipe is not installed")
    assert "no person in the photograph person.png" in _refused(_run(*inputs, "--method", "copy_reference"))


def test_a_drawn_person_follows_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mp4 and frame 0 of two performers through MediaPipe; the copying method needs no checkpoint."""
    pytest.importorskip("mediapipe", reason="the extra mediapipe is not installed")
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "lake"))
    one, other = write_dataset(tmp_path, identities=[1000], test_identities=[1001], clips_per_identity=1, frames=6, size=128)
    Image.fromarray(read_video(one.path)[0]).save(tmp_path / "person.png")
    paths = ["--reference", str(tmp_path / "person.png"), "--driving", str(other.path), "--output", str(tmp_path / "out.mp4")]
    result = _run("animate", *paths, "--method", "copy_reference")
    assert result.exit_code == 0, result.output
    info = probe(tmp_path / "out.mp4")
    assert (info.frames, info.width, info.height, info.fps) == (6, 384, 128, 24)
    photograph, pose, made = np.split(read_video(tmp_path / "out.mp4").astype(int), 3, axis=2)
    assert np.abs(made - photograph).mean() < 4
    assert pose.max() > 100
    assert np.median(pose) < 20


@pytest.mark.slow
def test_a_checkpoint_of_a_few_steps_animates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method's own training, both stages at the variant `brief`, then the command with that folder; pictures mean nothing yet."""
    from models.animate import driving_clip
    from models.clip_dataset import TrainingClip
    from models.methods import method_named
    from pipelines.performers.truth import Truth, truth_path

    pytest.importorskip("mediapipe", reason="the extra mediapipe is not installed")
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "lake"))
    videos = write_dataset(tmp_path, identities=[0, 1], test_identities=[1000, 1001], clips_per_identity=1, frames=16, size=128)
    truths = [Truth.load(truth_path(video.path)) for video in videos[:2]]
    clips = [
        TrainingClip(clip=driving_clip(video.path, None, None)[0], keypoints=t.keypoints, scores=t.scores, references=tuple(range(16)))
        for video, t in zip(videos, truths, strict=False)
    ]
    method, parent = method_named("animate_anyone"), None
    for stage in method.stages_of("brief"):
        identity = {"checkpoint_id": stage, "method": "animate_anyone", "variant": "brief", "dataset": "tests"}
        method.train(stage, variant="brief", clips=clips, parent=parent, out=tmp_path / "checkpoint" / stage, seed=0, identity=identity)
        parent = tmp_path / "checkpoint" / stage
    Image.fromarray(read_video(videos[2].path)[0]).save(tmp_path / "person.png")
    paths = ["--reference", str(tmp_path / "person.png"), "--driving", str(videos[3].path), "--output", str(tmp_path / "out.mp4")]
    result = _run("animate", *paths, "--checkpoint", str(parent))
    assert result.exit_code == 0, result.output
    strip = read_video(tmp_path / "out.mp4")
    assert strip.shape == (16, 128, 384, 3)
    assert strip[:, :, 256:].std() > 5
