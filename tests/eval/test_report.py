"""The report: self-contained, escaped, and true to the numbers."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from jinja2 import Environment, PackageLoader

from eval.benchmark import benchmark
from eval.chart import loss_curve
from eval.report import write_report
from eval.score import score
from eval.table import benchmark_table
from pipelines.errors import UserError
from pipelines.lake import Lake

GROUP = {"protocol": "demo_standin", "dataset": "performers_test", "split": "test"}
EVIL = "<script>alert(1)</script>|x"


def _train(tiny: Any) -> None:
    for parent, stage, checkpoint in (("", "stage_1", "aaa1"), ("aaa1", "stage_2", "bbb2")):
        tiny.lake.write(
            "checkpoints",
            [
                {
                    "checkpoint_id": checkpoint,
                    "method": "soft",
                    "variant": "tiny",
                    "stage": stage,
                    "seed": 0,
                    "parent": parent,
                    "digest": "d" * 64,
                    "steps": 300,
                    "seconds": 42.0,
                    "parameters": 1234567,
                    "code_version": "c" * 40,
                }
            ],
        )
        generator = np.random.default_rng(1)
        tiny.lake.write(
            "training_log",
            [
                {
                    "checkpoint_id": checkpoint,
                    "step": step,
                    "loss": 0.2 + 0.8 * np.exp(-step / 60) + 0.1 * generator.random(),
                    "probe_loss": 0.2 + 0.8 * np.exp(-step / 60) if step % 50 == 0 else None,
                }
                for step in range(300)
            ],
        )


@pytest.fixture(scope="module")
def reported(scored_once: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """(lake, page) with a method whose sampler and variant try to inject markup; made once, only read."""
    folder = tmp_path_factory.mktemp("reported")
    shutil.copytree(scored_once[0].lake.root, folder / "lake")
    tiny = copy.copy(scored_once[0])
    tiny.lake = Lake(folder / "lake")
    _train(tiny)
    evil = tiny.add_method("soft", lambda truth: truth, variant=EVIL, checkpoint_id="bbb2", sampler=EVIL, seed=1)
    score(tiny.lake, **GROUP, prediction_id=evil)
    benchmark(tiny.lake, **GROUP)
    return tiny, write_report(tiny.lake, **GROUP, path=folder / "out" / "report.html", ran=[{"step": "score", "result": EVIL}])


@pytest.fixture
def html(reported: tuple[Any, Path]) -> str:
    return reported[1].read_text(encoding="utf-8")


@pytest.fixture
def markdown(reported: tuple[Any, Path]) -> str:
    return reported[1].with_suffix(".md").read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_outside(html: str, markdown: str) -> None:
    assert not re.findall(r"https?:|//[a-z]+\.|@import|url\((?!#)", re.sub(r"data:[a-z/0-9]+;base64,[A-Za-z0-9+/=]+", "", html))
    assert all(source.startswith("data:") for source in re.findall(r'\ssrc="([^"]*)"', html))
    assert "http" not in markdown


def test_text_from_outside_is_escaped(html: str, markdown: str) -> None:
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html
    assert "<script>" not in markdown
    assert all(line.count(" |") < 12 for line in markdown.splitlines())


def test_the_page_shows_every_method_clip_and_stage(reported: Any, html: str, markdown: str) -> None:
    tiny, _ = reported
    assert html.count('<section class="strip" aria-label="clip') == len(tiny.clip_ids)
    drilled = html.count('<section class="strip"') - len(tiny.clip_ids)
    assert drilled == html.count('<svg class="frames"') == 6  # worst and best of three methods
    assert html.count("data:video/mp4;base64,") == len(tiny.clip_ids) * (1 + 3 + 1) + 2 * drilled  # pose, three methods, truth
    assert html.count("data:image/png;base64,") == len(tiny.clip_ids)
    assert html.count('<div class="curve">') == 2
    assert "beat copying the reference frame on every metric" in html
    assert "stand-in" in html
    for title in ("Copy of the reference", "FVD", "PSNR (overflow)"):
        assert title in html
        assert title in markdown


def test_the_page_warns_of_few_clips_and_says_what_the_papers_print(html: str, markdown: str) -> None:
    for text in (html, markdown):
        assert "3 clips are too few" in text
        assert "rank-deficient" in text
        assert "No paper printed numbers under the protocol demo_standin" in text
    assert html.index("rank-deficient") < html.index('class="scores"')
    assert "Ablation of soft" in html


def test_latex_and_parquet_lie_beside_the_page(reported: Any) -> None:
    tiny, page = reported
    rows = pq.read_table(page.with_suffix(".parquet")).to_pylist()
    held = {(r["prediction_id"], r["metric"]): r["value"] for r in tiny.lake.rows("benchmark")}
    assert {(r["prediction_id"], r["metric"]): r["value"] for r in rows} == held
    latex = page.with_suffix(".tex").read_text(encoding="utf-8")
    assert latex.startswith("% \\usepackage{booktabs}")
    assert r"\textless{}script\textgreater{}" in latex
    assert latex.isascii()
    assert {path.suffix for path in page.parent.iterdir()} == {".html", ".md", ".tex", ".parquet"}


def test_papers_numbers_stand_on_the_page_under_their_protocol(scored: Any) -> None:
    tiny, _ = scored
    rows = [
        {**row, "protocol": "disco", "dataset": "tiktok", "split": "tiktok_disco10"} for row in benchmark(tiny.lake, **GROUP).to_pylist()
    ]
    template = '{% from "scores.html" import printed %}{{ printed(beside, beside.lines, [("<Ours>", "1.25")]) }}'
    environment = Environment(loader=PackageLoader("eval"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    html = environment.from_string(template).render(beside=benchmark_table(rows).published)
    assert '<td class="impossible" title="under 24.169 dB' in html
    assert html.count("StableAnimator, Table 1") == 9
    assert "2.87E-04" in html
    assert "&lt;Ours&gt;" in html
    assert "<td>1.25</td>" in html
    assert "not certain" in html


def test_best_values_are_marked_in_the_right_direction(scored: Any) -> None:
    tiny, ids = scored
    table = benchmark_table(benchmark(tiny.lake, **GROUP).to_pylist())
    soft = next(line for line in table.lines if line.prediction_id == ids["soft"])
    best = {metric.id: cell.best for metric, cell in zip(table.columns, soft.cells, strict=True)}
    assert best["l1"]
    assert best["psnr"]
    assert best["fvd"]


def test_a_method_that_missed_clips_is_not_best(scored: Any) -> None:
    tiny, ids = scored
    rows = benchmark(tiny.lake, **GROUP).to_pylist()
    fewer = [{**row, "clips": 1} if row["prediction_id"] == ids["soft"] else row for row in rows]
    soft = next(line for line in benchmark_table(fewer).lines if line.prediction_id == ids["soft"])
    assert not any(cell.best for cell in soft.cells)


def test_the_verdict_follows_the_numbers(scored: Any) -> None:
    tiny, ids = scored
    rows = benchmark(tiny.lake, **GROUP).to_pylist()
    worst = [{**row, "value": 1e6 if row["better"] == "down" else -1e6} if row["prediction_id"] == ids["soft"] else row for row in rows]
    assert "does not beat copying the reference frame on any metric" in benchmark_table(worst).verdicts[0]
    alone = [row for row in rows if row["prediction_id"] == ids["soft"]]
    assert "cannot be said" in benchmark_table(alone).verdicts[0]


def test_methods_that_win_everywhere_or_nowhere_share_a_sentence(scored: Any) -> None:
    tiny, _ = scored
    floor = [row for row in benchmark(tiny.lake, **GROUP).to_pylist() if row["method"] == "copy_reference"]

    def as_method(name: str, sign: int) -> list[dict[str, Any]]:
        """The floor's rows, all better (sign 1) or all worse (-1), under another name."""
        better = {"up": 1.0, "down": -1.0}
        shift = [{**row, "value": row["value"] + sign * better.get(row["better"], 0.0)} for row in floor if row["value"] is not None]
        return [{**row, "method": name, "prediction_id": name} for row in shift]

    said = benchmark_table(
        [*floor, *as_method("aa", 1), *as_method("bb", -1), *as_method("cc", 1), *as_method("dd", -1), *as_method("ee", 1)]
    ).verdicts
    assert len(said) == 2
    assert "beat copying the reference frame on every metric" in said[0]
    assert [name in said[0] for name in ("aa", "bb", "cc", "dd", "ee")] == [True, False, True, False, True]
    assert "do not beat copying the reference frame on any metric" in said[1]
    lone = benchmark_table([*floor, *as_method("aa", 1), *as_method("bb", -1)]).verdicts
    assert ["every metric" in lone[0], "Not better: " in lone[1]] == [True, True]


def test_two_protocols_never_share_a_table(scored: Any) -> None:
    tiny, _ = scored
    rows = benchmark(tiny.lake, **GROUP).to_pylist()
    for column in ("protocol", "dataset", "split"):
        with pytest.raises(UserError, match="one protocol"):
            benchmark_table([*rows, {**rows[0], column: "other"}])
    with pytest.raises(UserError, match="one protocol"):
        benchmark_table([])


def test_real_people_are_shown_only_when_asked(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=1, frames=4, dataset="family_videos")
    group = {**GROUP, "dataset": "family_videos"}
    score(tiny.lake, **group, prediction_id=tiny.add_method("a", lambda truth: truth))
    benchmark(tiny.lake, **group)
    hidden = write_report(tiny.lake, **group, path=tmp_path / "a.html").read_text(encoding="utf-8")
    assert "data:video" not in hidden
    assert "data:image" not in hidden
    assert "--include-media" in hidden
    assert '<svg class="frames"' in hidden
    assert "data:video" in write_report(tiny.lake, **group, path=tmp_path / "b.html", include_media=True).read_text(encoding="utf-8")


def test_a_failed_clip_is_named_in_the_page(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=2, frames=4)
    prediction_id = tiny.add_method("a", lambda truth: truth)
    tiny.lake.path(tiny.lake.rows("predictions")[0]["uri"]).unlink()
    score(tiny.lake, **GROUP, prediction_id=prediction_id)
    benchmark(tiny.lake, **GROUP)
    html = write_report(tiny.lake, **GROUP, path=tmp_path / "a.html").read_text(encoding="utf-8")
    assert 'class="absent"' in html
    assert "1 of 2 clips missing" in html


def test_numbers_outlive_their_clips(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=2, frames=4)
    prediction_id = tiny.add_method("a", lambda truth: truth)
    score(tiny.lake, **GROUP, prediction_id=prediction_id)
    benchmark(tiny.lake, **GROUP)
    tiny.lake.delete("predictions", pc.field("prediction_id") == prediction_id)
    html = write_report(tiny.lake, **GROUP, path=tmp_path / "a.html").read_text(encoding="utf-8")
    assert "not delivered" in html
    assert '<svg class="frames"' in html


def test_a_report_needs_a_benchmark(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="python -m eval benchmark"):
        write_report(make_lake(clips=1, frames=2).lake, **GROUP, path=tmp_path / "a.html")


def test_a_loss_curve_follows_the_page() -> None:
    svg = loss_curve([{"step": step, "loss": 1 / (step + 1), "probe_loss": None} for step in range(40)])
    assert svg.startswith("<svg")
    assert "currentColor" in svg
    assert "http" not in svg
    with pytest.raises(ValueError, match="no row"):
        loss_curve([{"step": 0, "loss": None, "probe_loss": None}])
