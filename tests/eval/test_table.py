"""The benchmark table: one table per group, small values readable, verdicts of the main group only."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from eval.metrics import METRICS
from eval.metrics.metric import Metric
from eval.prediction_flags import departures, handicaps, said_of_clips
from eval.table import GROUPS, MAIN, WIDEST, beats_floor, benchmark_table, shown, table_text


def row(metric: str, value: float | None, method: str = "hfca", **changed: Any) -> dict[str, Any]:
    named = {"protocol": "standard", "dataset": "tiktok", "split": "tiktok_335_340", "prediction_id": method, "method": method,
             "variant": "demo", "seed": 0, "metric": metric, "value": value, "low": None, "high": None, "better": "up", "clips": 5,
             "frames": 80, "windows": None, "note": None}  # fmt: skip
    return {**named, **changed}


@pytest.fixture
def extra(monkeypatch: pytest.MonkeyPatch) -> list[Metric]:
    """Nine metrics of the group regions and one of people."""
    made = [replace(METRICS["l1"], id=f"l1_test_{i}", title=f"L1 of part {i}", group="regions") for i in range(WIDEST + 1)]
    made.append(replace(METRICS["ssim"], id="ssim_test", title="Likeness", group="people"))
    for metric in made:
        monkeypatch.setitem(METRICS, metric.id, metric)
    return made


def test_each_group_has_its_table_and_none_is_too_wide(extra: list[Metric]) -> None:
    rows = [row(m.id, 0.5) for m in extra] + [row("l1", 0.1), row("psnr", 20.0)]
    table = benchmark_table(rows)
    assert [section.title for section in table.sections] == ["", GROUPS["people"], GROUPS["regions"], GROUPS["regions"]]
    assert [len(section.columns) for section in table.sections] == [2, 1, WIDEST, 1]
    assert all(len(section.columns) <= WIDEST for section in benchmark_table([row(m, 0.5) for m in METRICS]).sections)
    assert [m.id for m in table.columns] == ["l1", "psnr"]
    assert {m.id for m in table.metrics} == {r["metric"] for r in rows}
    text = table_text(table)
    assert text.index("PSNR ↑") < text.index(GROUPS["people"]) < text.index("Likeness ↑") < text.index("L1 of part 0 ↓")
    assert table_text(benchmark_table(rows[-2:])).startswith("method")


def test_every_region_has_its_own_table() -> None:
    table = benchmark_table([row(m.id, 0.5) for m in METRICS.values() if m.group in (MAIN, "regions")])
    assert [section.title for section in table.sections] == ["", "Face", "Hands", "Background"]
    assert all(len({metric.region for metric in section.columns}) == 1 for section in table.sections)


def test_a_group_without_a_value_is_left_out_and_the_reason_is_said(extra: list[Metric]) -> None:
    rows = [row("l1", 0.1), row("ssim_test", None, note="no face in any frame")]
    table = benchmark_table(rows)
    assert [section.title for section in table.sections] == [""]
    assert table.notes == ("Likeness: no face in any frame",)
    (only,) = benchmark_table(rows[1:]).sections
    assert only.lines[0].cells[0].value == "–"


def test_a_protocol_without_main_metrics_still_has_a_table(extra: list[Metric]) -> None:
    table = benchmark_table([row("ssim_test", 0.5)])
    assert [section.title for section in table.sections] == [GROUPS["people"]]


def test_the_verdict_speaks_of_the_main_group_only(extra: list[Metric]) -> None:
    mine, floor = ({m: row(m, value, method) for m in ("l1", "ssim_test")} for method, value in (("hfca", 0.1), ("copy_reference", 0.2)))
    assert beats_floor(mine, floor) == {"l1": True}
    (verdict,) = benchmark_table([*mine.values(), *floor.values()]).verdicts
    assert "every metric" in verdict
    assert "Likeness" not in verdict
    assert MAIN == "frames"


def test_numbers_of_other_clips_are_not_compared_with_the_floor() -> None:
    floor = {m: row(m, 0.2, "copy_reference") for m in ("l1", "ssim")}
    fewer = {m: row(m, 0.1, clips=4) for m in ("l1", "ssim")}
    assert beats_floor(fewer, floor) == {}
    (verdict,) = benchmark_table([*fewer.values(), *floor.values()]).verdicts
    assert "was scored on 4 clips, copying the reference frame on 5" in verdict
    assert beats_floor({**fewer, "ssim": row("ssim", 0.1)}, floor) == {"ssim": False}


def test_lossy_clips_and_knowledge_of_the_truth_are_said() -> None:
    table = benchmark_table([row("l1", 0.1), row("l1", 0.2, "copy_reference"), row("l1", 0.3, "champ")])

    def clips(*flags: tuple[bool, bool], status: str = "ok") -> dict[str, dict[str, Any]]:
        return {str(i): {"status": status, "lossy": lossy, "truth_sharpness": sharp} for i, (lossy, sharp) in enumerate(flags)}

    held = {"hfca": clips((True, False), (False, False)), "copy_reference": clips((False, False)), "champ": clips((False, True))}
    lossy, sharp = handicaps(table, held)
    assert lossy.startswith("HFCA (demo, seed 0): clips came as lossy files")
    assert sharp.startswith("Champ (demo, seed 0): the method was given")
    assert handicaps(table, dict.fromkeys(held, clips((True, False)))) == []  # no difference where all are
    assert said_of_clips(list(held["hfca"].values())) == "1 of 2 lossy"
    refused = list(clips((False, False), status="failed").values())
    assert said_of_clips([*held["champ"].values(), *refused]) == "lossless, 1 of 1 with the truth's sharpness, 1 not usable"
    assert said_of_clips(refused) == "1 not usable"
    assert said_of_clips([]) == "none"


def test_what_no_paper_has_is_named_once_for_all_methods_that_have_it() -> None:
    table = benchmark_table([row("l1", 0.1, method) for method in ("hfca", "hia", "copy_reference", "champ", "disco")])
    both, alone = (json.dumps({"steps": 10, "additions": names}) for names in (["a hint", "a skip"], []))
    samplers = {"hfca": both, "hia": both, "copy_reference": alone, "champ": "50 steps of DDIM", "disco": None}
    held = {method: {"0": {"sampler": sampler}} for method, sampler in samplers.items()}
    assert departures(table, held) == ["HFCA (demo, seed 0), HIA (demo, seed 0): beside what the paper says, this has a hint, a skip."]
    assert departures(table, {method: {} for method in samplers}) == []


def test_small_values_keep_their_digits() -> None:
    l1, psnr, fid = METRICS["l1"], METRICS["psnr"], METRICS["fid"]
    assert shown(l1, 2.934e-4) == "2.93E-04"
    assert shown(l1, 0.0) == "0.0000"
    assert shown(l1, 0.0211) == "0.0211"
    assert shown(l1, 1.1e-3, like=9e-4) == "1.10E-03"
    assert shown(l1, -2e-4, sign=True) == "-2.00E-04"
    assert shown(psnr, 1.25, sign=True) == "+1.25"
    assert shown(fid, 1e-12) == "0.00"
    (line,) = benchmark_table([row("l1", 9e-4, low=8e-4, high=1.2e-3)]).lines
    assert line.cells[0].interval == "8.00E-04 – 1.20E-03"


def test_notes_say_which_variant_they_are_about() -> None:
    rows = [row("l1", 0.1, prediction_id=v, variant=v, note="2 clips missing" if v == "b" else None) for v in "ab"]
    assert benchmark_table(rows).notes == ("L1 of HFCA (b, seed 0): 2 clips missing",)


def test_what_is_said_of_the_main_table_is_not_repeated_in_the_text(extra: list[Metric]) -> None:
    rows = [row("l1", 0.1, note="rough interval"), row("psnr", 9.0), row("ssim_test", 0.5, note="rough interval; no face in 2 clips")]
    lines = table_text(benchmark_table(rows)).splitlines()
    assert [line for line in lines if line.startswith("note:")] == ["note: Likeness: no face in 2 clips", "note: L1: rough interval"]
    assert len(benchmark_table(rows).notes) == 3


def test_rows_of_metrics_that_are_gone_are_left_out() -> None:
    table = benchmark_table([row("l1", 0.1), row("no_such_metric", 1.0)])
    assert [m.id for m in table.metrics] == ["l1"]
