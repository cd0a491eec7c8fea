"""C3D's tokens against a plain re-statement; windows; files that are not C3D."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import MissingWeightsError, UserError
from pipelines.extractors.action import Action, c3d, load_c3d, window, window_starts
from pipelines.masks import unpack_array
from pipelines.weights_table import WEIGHTS
from tests.small_clips import clip_of, noise

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("own_weights")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("c3d") / WEIGHTS["action"].file
    state = {f"backbone.{name}": value for name, value in c3d().state_dict().items()}
    torch.save({"state_dict": {**state, "backbone.fc6.weight": torch.zeros(2), "cls_head.fc_cls.weight": torch.zeros(2)}}, path)
    return path


def _plainly(state: dict[str, object], x: object) -> object:
    for name, pool in zip(["1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b"], [(1, 2, 2), 2, 0, 2, 0, 2, 0, 0], strict=True):
        x = torch.conv3d(x, state[f"conv{name}.conv.weight"], state[f"conv{name}.conv.bias"], padding=1).clamp(min=0)
        x = torch.max_pool3d(x, pool) if pool else x
    return x


def test_tokens_are_the_pooled_conv5b(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(checkpoint.parent))
    frames = noise(24)
    rows = Action().load("cpu")(clip_of(frames), frames)["actions"]
    assert [row["frame"] for row in rows] == [0, 8]
    state = load_c3d(checkpoint).state_dict()
    with torch.no_grad():
        conv5b = _plainly(state, torch.from_numpy(window(frames, 8))[None])
    assert conv5b.shape == (1, 512, 2, 7, 7)
    expected = torch.nn.functional.adaptive_avg_pool3d(conv5b, (4, 8, 8))[0].flatten(1).T.numpy()
    tokens = unpack_array(rows[1]["tokens"], rows[1]["shape"], rows[1]["dtype"])
    assert tokens.shape == (256, 512)
    assert tokens.dtype == np.float16
    assert tokens.any()
    np.testing.assert_allclose(tokens, expected, rtol=2e-3, atol=1e-5)  # float16 storage


def test_the_window_is_the_middle_minus_the_mean_and_a_short_clip_repeats_its_last_frame() -> None:
    frames = np.empty((3, 128, 171, 3), np.uint8)
    frames[:] = np.arange(3, dtype=np.uint8)[:, None, None, None] + 100
    values = window(frames, 0)
    assert values.shape == (3, 16, 112, 112)
    assert values[:, :, 5, 5].T.tolist() == [[100 + min(t, 2) - mean for mean in (104, 117, 128)] for t in range(16)]


@pytest.mark.parametrize(("frames", "starts"), [(1, [0]), (16, [0]), (23, [0]), (24, [0, 8]), (40, [0, 8, 16, 24])])
def test_windows_begin_every_eighth_frame_and_end_inside_theclip_of(frames: int, starts: list[int]) -> None:
    assert window_starts(frames) == starts


@pytest.mark.parametrize("fault", ["missing key", "wrong shape", "pickled object", "not a dictionary"])
def test_a_file_that_is_not_c3d_is_refused(fault: str, tmp_path: Path) -> None:
    small = {"backbone.conv1a.conv.weight": torch.zeros(64, 3, 3, 3, 3)}
    content = {"missing key": small, "wrong shape": {"conv1a.conv.weight": torch.zeros(1)}, "not a dictionary": torch.zeros(3)}
    torch.save(content.get(fault, Path("x")), tmp_path / "c3d.pth")
    with pytest.raises(UserError, match=r"c3d\.pth.*fetch it again"):
        load_c3d(tmp_path / "c3d.pth")


def test_weights_that_are_not_here_are_named() -> None:
    with pytest.raises(MissingWeightsError, match="action"):
        Action().weights_digest()
