"""The card's numbers are the tables', and no name of the data acts in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.dataset_card import escaped, write_card
from pipelines.errors import UserError
from pipelines.forget import forget
from pipelines.lake import Lake

EVIL = "<script>alert(1)</script> | [x](javascript:alert(2))\n# head"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake").create()
    ok = {
        "dataset": "d",
        "status": "ok",
        "width": 640,
        "height": 360,
        "fps_num": 30000,
        "fps_den": 1001,
        "duration_s": 2.5,
        "split": "train",
    }
    terms = {"licence": EVIL, "terms_url": "https://example.org/terms", "terms_accepted": True, "source_url": "https://example.org/a"}
    made.write(
        "videos",
        [
            {**ok, **terms, "video_id": "a", "subject": "p1", "availability": "ok", "sha256": "s1"},
            {**ok, "video_id": "b", "split": "test", "sha256": "s2"},
            {"dataset": "d", "video_id": EVIL, "status": "failed", "code": "truncated", "reason": EVIL, "availability": "ok"},
            {"dataset": "d", "video_id": "gone", "status": "failed", "code": "not_downloaded", "availability": "private"},
        ],
    )
    made.write(
        "clips", [{"dataset": "d", "clip_id": "c", "video_id": "a", "split": "train", "start_frame": 4, "end_frame": 34, "status": "ok"}]
    )
    return made


def test_the_card_counts_what_the_tables_hold(lake: Lake) -> None:
    key = {"dataset": "d", "clip_id": "c", "extractor": "scrfd", "version": 2, "weights_digest": "abc123"}
    lake.write("faces", [{**key, "frame": frame, "embedding": [1.0], "embedding_norm": 1.0} for frame in range(3)])
    lake.write("screening_verdicts", [{"dataset": "d", "rule": "default", "clip_id": "c", "kept": False, "conditions": ["one_person"]}])
    text = write_card(lake, "d").read_text()
    for line in (
        "| train | 1 | 1 | 30 | 2.5 | 1 |",
        "| test | 1 | 0 | 0 | 2.5 | 0 |",
        "| 640x360 | 2 |",
        "| 29.970 | 2 |",
        "| private | 1 |",
        "| faces | scrfd | 2 | abc123 | 1 | 0 |",
        "| default | 0 | 1 |",
        r"| default | one\_person | 1 |",
        r"| video | failed | not\_downloaded | 1 |  |",
    ):
        assert line in text, line
    assert "biometric" in text


def test_names_of_the_data_are_shown_and_do_nothing(lake: Lake) -> None:
    text = write_card(lake, "d").read_text()
    assert "<" not in text
    assert "](" not in text
    assert "\n# head" not in text
    assert "&lt;script&gt;" in text
    assert escaped("a|b\n*c*") == r"a\|b \*c\*"


def test_without_embeddings_no_notice_and_without_request_no_picture(lake: Lake) -> None:
    (lake.root / "reports" / "d_mediapipe.jpg").write_bytes(b"\xff\xd8picture")
    plain, shown = write_card(lake, "d").read_text(), write_card(lake, "d", include_media=True).read_text()
    assert "biometric" not in plain
    assert "data:image" not in plain
    assert "data:image/jpeg;base64," in shown


def test_removals_are_counted_and_unknown_names_are_errors(lake: Lake) -> None:
    assert "0 videos, 0 requests" in write_card(lake, "d").read_text()
    forget(lake, video="b")
    assert "1 videos, 0 requests" in write_card(lake, "d").read_text()
    with pytest.raises(UserError, match=r"no data set 'zed'.*there are: d"):
        write_card(lake, "zed")
