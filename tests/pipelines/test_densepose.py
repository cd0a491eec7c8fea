"""DensePose's post-processing on planted charts; networks that are something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import ClipError, UserError
from pipelines.extractors.densepose import DensePose, network_input, paste
from pipelines.masks import unpack_array
from pipelines.weights_table import WEIGHTS
from tests.small_clips import clip_of

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("own_weights")


class _Export(torch.nn.Module):
    """Two people, the second larger, with the output structure of the public export; nobody in a black image."""

    def forward(self, image: torch.Tensor):  # type: ignore[no-untyped-def]
        h, w = image.shape[1] * 1.0, image.shape[2] * 1.0
        boxes = torch.tensor([[0.0, 0.0, 0.2 * w, 0.2 * h], [0.25 * w, 0.0, 0.75 * w, h]])
        n = 2 if int(image[0, image.shape[1] // 2, image.shape[2] // 2]) > 0 else 0
        coarse, fine = torch.zeros(2, 2, 8, 8), torch.zeros(2, 25, 8, 8)
        coarse[:, 1] = 1.0
        fine[0, 3], fine[1, 7] = 1.0, 1.0
        u, v = torch.full((2, 25, 8, 8), 0.5), torch.full((2, 25, 8, 8), 2.0)
        return boxes[:n], coarse[:n], fine[:n], u[:n], v[:n]


def _export(path: Path, module: torch.nn.Module) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))


def test_the_largest_person_is_stored_at_its_place_and_heads_are_whole(tmp_path: Path) -> None:
    _export(tmp_path / WEIGHTS["densepose"].file, _Export())
    frames = np.full((2, 100, 200, 3), 200, np.uint8)
    frames[1] = 0
    rows = DensePose().load("cpu")(clip_of(frames), frames)["densepose"]
    iuv = unpack_array(rows[0]["iuv"], rows[0]["shape"], rows[0]["dtype"])
    assert iuv.shape == (100, 200, 3)
    assert iuv.dtype == np.uint8
    ys, xs = np.nonzero(iuv[..., 0])
    # The box ends 5 px outside above and below: the margin lets it, and the part inside is complete.
    assert (ys.min(), ys.max()) == (0, 99)
    assert abs(xs.min() - 45) <= 1
    assert abs(xs.max() - 154) <= 1
    assert set(np.unique(iuv[..., 0])) == {0, 7}
    assert set(np.unique(iuv[..., 1])) == {0, 127}
    assert set(np.unique(iuv[..., 2])) == {0, 255}
    assert not unpack_array(rows[1]["iuv"], rows[1]["shape"], "uint8").any()


def test_part_u_and_v_follow_the_charts() -> None:
    rng = torch.Generator().manual_seed(1)
    coarse, fine, u, v = (torch.rand(c, 6, 5, generator=rng) for c in (2, 25, 25, 25))
    iuv = paste((20, 20), np.array([3.5, 4.25, 8.5, 10.25]), [coarse, fine, u, v])
    for y in range(6):
        for x in range(5):  # box of 5 x 6 px: charts are not resampled
            part = int(fine[:, y, x].argmax()) if coarse[1, y, x] > coarse[0, y, x] else 0
            expected = [part, int(u[part, y, x] * 255), int(v[part, y, x] * 255)] if part else [0, 0, 0]
            assert iuv[4 + y, 3 + x].tolist() == expected
    assert iuv[:4].sum() == 0
    assert iuv[10:].sum() == 0


def test_the_network_sees_blue_first_with_its_short_side_800() -> None:
    frame = np.zeros((100, 200, 3), np.uint8)
    frame[..., 0] = 250
    image, scale, margin = network_input(frame)
    assert min(image.shape[:2]) <= 800
    assert max(image.shape[:2]) in (1333, 1600)
    assert margin == (10, 5)
    assert image[image.shape[0] // 2, image.shape[1] // 2].tolist() == [0, 0, 250]
    assert scale == pytest.approx(min(800 / 110, 1333 / 220))


def test_a_clip_without_people_is_no_person(tmp_path: Path) -> None:
    _export(tmp_path / WEIGHTS["densepose"].file, _Export())
    frames = np.zeros((2, 60, 60, 3), np.uint8)
    with pytest.raises(ClipError) as error:
        DensePose().load("cpu")(clip_of(frames), frames)
    assert error.value.code == "no_person"


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS["densepose"].file
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="not a TorchScript file"):
        DensePose().load("cpu")
    _export(path, torch.nn.ReLU())
    frames = np.full((1, 60, 60, 3), 9, np.uint8)
    with pytest.raises(UserError, match=r"DensePose|parts"):
        DensePose().load("cpu")(clip_of(frames), frames)
