"""What the page of a run shows."""

from __future__ import annotations

import io

import pyarrow as pa
from PIL import Image

from assets.pictures import histograms
from assets.step import reasons


def test_histograms_of_any_number_of_columns_nulls_included() -> None:
    rows = pa.table({name: pa.array([0.1, None, 3.0], pa.float64()) for name in "abcde"} | {"empty": pa.nulls(3, pa.float64())})
    with Image.open(io.BytesIO(histograms(rows, [*list("abcde"), "empty"]))) as image:
        assert image.size == (960, 304)


def test_reasons_are_neutralised_and_counted() -> None:
    text = str(reasons([("<script>x</script>|y.mp4", "not_a_video", "a\nb")] * 25).value)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "\\|y.mp4" in text
    assert "and 5 more" in text
    assert reasons([]).value == "nothing failed"
