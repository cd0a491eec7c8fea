"""Ablation tables: means and differences over clips and seeds, what is beyond the interval, and the paper's numbers apart from ours."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.ablation import ablation_tables
from eval.ablation_page import Subject, ablation_text, write_ablation
from eval.ablation_study import Run, Study, Wanted, run_study
from eval.ablation_table import ablation_table, difference_grid, findings
from eval.training_curves import noise_curve, stage_curves
from eval.uncertainty import bootstrap_ratio, bootstrap_seeds, interval_of_seeds
from pipelines.lake import Lake

FULL, WITHOUT = "IPM: w/", "IPM: w/o"
CLIPS, SEEDS = 6, (0, 1, 2)


def _rows(variant: str, values: dict[str, np.ndarray], sets: dict[str, list[float]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(benchmark, scores) of one variant. values: metric -> [S, N] per seed and clip, of 4 frames each; sets: metric -> [S]."""
    benchmark, scores = [], []
    for position, seed in enumerate(SEEDS):
        named = {"protocol": "demo_standin", "dataset": "people", "split": "test", "prediction_id": f"{variant}-{seed}"}
        mine = {metric: float(value[position].mean()) for metric, value in values.items()} | {
            metric: v[position] for metric, v in sets.items()
        }
        benchmark += [{**named, "method": "hfca", "variant": variant, "seed": seed, "metric": metric, "value": value, "better": "up",
                       "clips": CLIPS, "frames": 4 * CLIPS} for metric, value in mine.items()]  # fmt: skip
        scores += [{**named, "clip_id": f"c{clip}", "metric": metric, "sum": 4 * float(value[position, clip]), "count": 4, "truth_sha256": f"t{clip}",
                    "prediction_sha256": "p", "status": "ok"} for metric, value in values.items() for clip in range(CLIPS)]  # fmt: skip
    return benchmark, scores


def _values(shift: float = 0.0) -> dict[str, np.ndarray]:
    """Clips differ by much, seeds by little; the shift is the same everywhere."""
    rng = np.random.default_rng(0)
    clips, noise = rng.normal(25, 3, CLIPS), rng.normal(0, 0.1, (len(SEEDS), CLIPS))
    return {"psnr": clips[None] + noise + shift, "ssim": 0.8 + 0.01 * noise, "psnr_face": clips[None] + 0.1 * noise + shift}


def _study(shift: float, *, sets: tuple[list[float], list[float]] = ([80.0, 81.0, 82.0], [95.0, 96.5, 97.0])) -> Study:
    runs = {}
    for label, variant, moved, fvd in ((WITHOUT, "demo-no_ipm", shift, sets[1]), (FULL, "demo", 0.0, sets[0])):
        aims = ("psnr_face",) if label == WITHOUT else ()
        benchmark, scores = _rows(variant, _values(moved), {"fvd": fvd})
        runs[label] = Run(Wanted(label=label, method="hfca", variant=variant, aims=aims), benchmark, scores)
    return Study(protocol="demo_standin", dataset="people", split="test", full=FULL, runs=runs)


def test_one_seed_is_the_bootstrap_over_clips() -> None:
    sums, counts = np.array([3.0, 8.0, 2.0, 9.0]), np.array([4.0, 5.0, 3.0, 6.0])
    assert bootstrap_seeds(sums[None], counts[None]) == pytest.approx(bootstrap_ratio(sums, counts), abs=0.02)


def test_equal_models_differ_by_nothing_and_a_shift_by_itself() -> None:
    """What both share, hard clips and seeds, does not widen the interval of a difference."""
    values = _values()["psnr"]
    counts = np.full_like(values, 4.0)
    assert bootstrap_seeds(4 * values, counts, less=(4 * values, counts)) == (0.0, 0.0)
    low, high = bootstrap_seeds(4 * (values - 0.5), counts, less=(4 * values, counts)) or (0, 0)
    assert (low, high) == (pytest.approx(-0.5), pytest.approx(-0.5))
    wide = bootstrap_seeds(4 * values, counts) or (0, 0)
    assert wide[1] - wide[0] > 1.0  # of the number itself


def test_more_seeds_do_not_narrow_what_clips_decide() -> None:
    """The interval is over both: equal seeds add nothing, and clips that agree leave the spread of the seeds."""
    clips = np.random.default_rng(1).normal(0, 1, (1, 8))
    ones = np.ones_like(clips)
    one, three = bootstrap_seeds(clips, ones) or (0, 0), bootstrap_seeds(np.repeat(clips, 3, 0), np.repeat(ones, 3, 0)) or (0, 0)
    assert three == pytest.approx(one, abs=0.05)
    apart = np.repeat(np.array([[0.0], [1.0], [2.0]]), 8, axis=1)
    low, high = bootstrap_seeds(apart, np.ones_like(apart)) or (0, 0)
    assert (low, high) == (0.0, 2.0)
    assert bootstrap_seeds(apart[:, :1], np.ones((3, 1))) is None  # one clip says nothing about other clips


def test_sets_have_an_interval_over_seeds_alone() -> None:
    low, high = interval_of_seeds([1.0, 2.0, 3.0]) or (0, 0)
    assert (low, high) == (pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-5), pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-5))
    assert interval_of_seeds([1.0]) is None
    assert interval_of_seeds([0.1, 0.1, 0.1]) is None


def test_which_metric_moves() -> None:
    study = _study(-0.5)
    assert study.differences[WITHOUT, "psnr"].value == pytest.approx(-0.5)
    assert study.differences[WITHOUT, "fvd"].value == pytest.approx(15 + 1 / 6)
    assert [study.verdict(WITHOUT, metric) for metric in ("psnr", "psnr_face", "fvd", "ssim")] == ["worse", "worse", "worse", ""]
    assert (study.differences[WITHOUT, "psnr"].seeds, study.differences[WITHOUT, "psnr"].clips) == (3, 6)


def test_findings_say_what_moved_what_it_is_for_and_where_the_full_method_does_not_win() -> None:
    (text,) = findings(_study(-0.5))
    moved, aim, lost = text.partition(". The part is meant for ")[0], *text.partition(". The part is meant for ")[2].split(". ")
    assert moved.startswith("IPM: w/o: worse in PSNR (-0.50), FVD (+15.17)")
    assert moved.endswith("no difference shown in 1 of 4 metrics")
    assert aim.startswith("PSNR face, the full method wins, beyond the interval (")
    assert lost.startswith("The full method does not win in SSIM (")
    assert "within the interval" in lost
    better = " ".join(findings(_study(0.5)))
    assert "better in PSNR (+0.50)" in better
    assert "meant for PSNR face, the full method is not better, beyond the interval (" in better
    assert "does not win in" in better


def test_a_difference_is_of_the_frames_that_both_have() -> None:
    """A face that one of two methods spoils leaves its frame to neither: here the full method's worst frames have no face to compare."""
    ours = [[0.9, 0.8, 0.2, 0.1], [0.9, 0.8, None, None]]

    def run(label: str, variant: str, frames: list[float | None]) -> Run:
        found = [value for value in frames if value is not None]
        named = {"seed": 0, "prediction_id": variant, "metric": "csim", "value": sum(found) / len(found), "clips": 2}
        scores = [{"prediction_id": variant, "clip_id": f"c{clip}", "metric": "csim", "sum": sum(found), "count": len(found),
                   "per_frame": [None, *frames], "truth_sha256": "t", "status": "ok"} for clip in range(2)]  # fmt: skip
        return Run(Wanted(label=label, method="hfca", variant=variant, aims=("csim",)), [named], scores)

    runs = {WITHOUT: run(WITHOUT, "demo-no_ipm", [0.7, 0.6, None, None]), FULL: run(FULL, "demo", list(ours[0]))}
    study = Study(protocol="demo", dataset="people", split="test", full=FULL, runs=runs)
    difference = study.differences[WITHOUT, "csim"]
    assert difference.value == pytest.approx(-0.2)
    assert difference.sides == (pytest.approx(0.65), pytest.approx(0.85))
    assert (difference.clips, difference.interval) == (2, (pytest.approx(-0.2), pytest.approx(-0.2)))
    number = runs[FULL].number("csim")
    assert number is not None
    assert number.value == pytest.approx(0.5)  # of its own frames, all of them: less than the row it beats
    assert "the full method wins, beyond the interval (0.850 against 0.650)" in findings(study)[0]
    apart = {WITHOUT: run(WITHOUT, "demo-no_ipm", [None, None, 0.7, 0.6]), FULL: run(FULL, "demo", ours[1])}
    assert (WITHOUT, "csim") not in Study(protocol="demo", dataset="people", split="test", full=FULL, runs=apart).differences


def test_the_papers_numbers_and_ours_never_share_a_column() -> None:
    table = ablation_table(_study(-0.5), title="HFCA, Table 3", paper="hfca", number="3")
    joined = table.joined()
    names = [re.split(r"\s", text)[0] for text in joined.head]
    assert names == ["Row", *["printed"] * 7, *["here"] * (len(joined.head) - 8)]
    assert joined.rows[0][:4] == ("IPM: w/o", "4.39", "26.84", "0.785")
    assert [row[0] for row in joined.rows] == ["IPM: w/o", "", "IPM: w/", ""]  # small print below: the interval
    assert set(joined.rows[1][1:8]) == {""}
    assert "under demo_standin" in joined.title
    left, right = table.apart()
    assert [len(grid.head) for grid in (left, right)] == [8, len(joined.head) - 7]
    assert any("compares with protocol disco" in note for note in joined.notes)


def test_a_difference_beyond_the_interval_is_marked() -> None:
    grid = difference_grid(_study(-0.5))
    assert grid is not None
    at = {row[0].split()[0]: i for i, row in enumerate(grid.rows)}
    assert (at["PSNR"], 1) in grid.bold
    assert (at["SSIM"], 1) not in grid.bold
    assert grid.rows[at["PSNR"]][1] == "-0.50 (-0.50 to -0.50) worse"


def test_a_row_that_was_not_run_says_why(tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    benchmark, scores = _rows("demo", _values(), {"fvd": [1.0, 2.0, 3.0]})
    lake.write("benchmark", benchmark)
    lake.write("scores", scores)
    wanted = [Wanted(label=WITHOUT, method="hfca", variant=None, why_not="hfca has no variant demo-no_ipm yet"),
              Wanted(label=FULL, method="hfca", variant="demo")]  # fmt: skip
    study = run_study(lake, wanted, full=FULL, protocol="demo_standin", dataset="people", split="test", seeds=(0, 1))
    assert study.runs[FULL].seeds == (0, 1)
    assert findings(study) == ("IPM: w/o: nothing to compare, hfca has no variant demo-no_ipm yet.",)
    assert difference_grid(study) is None
    table = ablation_table(study, title="HFCA, Table 3", paper="hfca", number="3")
    assert table.lines[0][2] == ("–",) * len(table.here_head)
    assert "IPM: w/o was not run: hfca has no variant demo-no_ipm yet" in table.here_notes
    page = write_ablation(lake, study, Subject(paper="hfca", number="3", title="HFCA, Table 3", about="a <module>"), tmp_path / "a.html")
    assert "A &lt;module&gt;" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("style", ["text", "markdown", "latex", "csv"])
def test_every_format_holds_the_rows_and_a_narrow_screen_gets_two_tables(style: str) -> None:
    study = _study(-0.5)
    table = ablation_table(study, title="HFCA, Table 3", paper="hfca", number="3")
    text = ablation_text(study, table, style, width=100)
    assert text.count("IPM: w/o") >= 2
    if style == "text":
        assert "4.39" in text
        assert max(len(line) for line in text.splitlines() if "26.84" in line or "0.785" in line) <= 100
    if style == "csv":
        rows = list(csv.DictReader(text.splitlines()))
        (psnr,) = [row for row in rows if (row["row"], row["metric"], row["source"]) == (WITHOUT, "psnr", "people/test/demo_standin")]
        assert float(psnr["difference"]) == pytest.approx(-0.5)
        assert (psnr["verdict"], psnr["seeds"], psnr["clips"]) == ("worse", "3", "6")


def test_a_figure_has_only_our_columns() -> None:
    table = ablation_table(_study(-0.5), title="PoseAnimate, Figure 5", paper="pose_animate", number=None)
    assert table.printed_head == ()
    assert len(table.apart()) == 1
    assert {text.split()[0] for text in table.joined().head[1:]} == {"here"}


def test_the_loss_by_noise_level_stands_beside_its_curve() -> None:
    """Bins in the order of their noise, sums divided once, the end thick and the beginning thin."""
    early, late = {"0-99": [8.0, 2], "900-999": [3.0, 3]}, {"100-199": [1.0, 4], "0-99": [2.0, 4]}
    svg = noise_curve([early, early, late])
    assert svg is not None
    assert ">0.5<" in svg  # of 0-99
    assert ">0.25<" in svg  # of 100-199; 900-999 was not seen at the end
    assert "noise level 0" in svg
    assert noise_curve([early, late]) is None
    ordered = noise_curve([{f"{low:.2f}..{low + 0.5:.2f}": [low + 3, 1] for low in (0.5, -1.0, -0.5)}] * 3)
    assert ordered is not None
    assert 'points="0.0,' in ordered  # one line from the lowest bin on


def test_the_reports_ablation_takes_each_variant_from_its_own_base() -> None:
    """`brief-x` is not held against `demo`, although `demo` has the shorter name."""
    named = {"protocol": "demo_standin", "dataset": "d", "split": "test", "method": "hfca", "seed": 0, "metric": "psnr", "low": None, "high": None,
             "better": "up", "clips": 3, "frames": 9, "windows": None, "note": None}  # fmt: skip
    values = {"demo": 20.0, "brief": 10.0, "brief-no_ipm": 9.0, "demo-no_ipm": 18.0, "other": 21.0}
    (section,) = ablation_tables(
        [{**named, "variant": variant, "prediction_id": variant, "value": value} for variant, value in values.items()]
    )
    assert [(line.detail.partition(",")[0], line.cells[0].interval) for line in section.lines] == [
        ("demo", ""), ("other", "+1.00"), ("demo-no_ipm", "-2.00"), ("brief", ""), ("brief-no_ipm", "-1.00")
    ]  # fmt: skip


def test_a_small_difference_keeps_its_digits_and_one_seed_gives_sets_no_interval() -> None:
    study = _study(-0.004)
    one = Study(protocol="demo_standin", dataset="people", split="test", full=FULL, runs={
        label: Run(run.wanted, [row for row in _rows(run.wanted.variant or "", _values(moved), {"fvd": fvd})[0] if row["seed"] == 0], [])
        for (label, run), moved, fvd in zip(study.runs.items(), (-0.5, 0.0), ([9.0] * 3, [8.0] * 3), strict=True)})  # fmt: skip
    assert "PSNR (-0.004)" in " ".join(findings(study))
    assert one.differences[WITHOUT, "fvd"].interval is None
    assert one.verdict(WITHOUT, "fvd") == ""
    assert not one.differences.get((WITHOUT, "psnr"))  # no score per clip, so nothing is compared clip by clip


def test_a_shared_stage_has_one_curve_with_all_variants_that_build_on_it(tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    parents = {"first": None, "late": "first", "other": "first"}
    lake.write("checkpoints", [{"checkpoint_id": name, "method": "hfca", "variant": "demo", "stage": "stage_2" if parent else "stage_1", "seed": 0,
                                "parent": parent, "steps": 3, "seconds": 1.0} for name, parent in parents.items()])  # fmt: skip
    lake.write("training_log", [{"checkpoint_id": name, "step": step, "loss": 1.0 / (step + 1)} for name in parents for step in range(3)])
    curves = stage_curves(lake, [("late", "demo"), ("other", "demo-no_ipm"), ("late", "demo-no_hand")])
    assert [(curve.title, curve.variants) for curve in curves] == [
        ("HFCA · stage_1 · seed 0", "demo, demo-no_ipm, demo-no_hand"),
        ("HFCA · stage_2 · seed 0", "demo, demo-no_hand"),
        ("HFCA · stage_2 · seed 0", "demo-no_ipm"),
    ]
