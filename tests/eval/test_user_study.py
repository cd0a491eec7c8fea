"""The user study: what the page holds, that clicking through it saves the right answers, and that the table is what they say."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from assets.user_study_command import user_study
from eval.published import published_rows
from eval.user_study.agreement import krippendorff_alpha
from eval.user_study.answers import FORMAT, read_answers
from eval.user_study.preference import preference, wilson
from eval.user_study.questions import QUESTIONS
from eval.user_study.study import StudySettings, make_study, spoilt
from eval.user_study.table import FORMATS, printed_rows, study_table
from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.video import read_video

ASKED = [question.id for question in QUESTIONS]


def still(truth: Frames) -> Frames:
    return np.repeat(truth[:1], len(truth), axis=0)


@pytest.fixture
def made(make_lake: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Call with settings: (page, what it knows)."""

    def make(**settings: Any) -> tuple[Path, dict[str, Any]]:
        tiny = make_lake(clips=3, frames=4, size=64)
        tiny.add_method("stable_animator", lambda truth: truth)
        tiny.add_method("disco", still)
        tiny.add_method("champ", lambda truth: truth[:, ::-1])
        report = make_study(tiny.lake, ["stable_animator", "disco", "champ"], tmp_path / "study", StudySettings(**settings))
        return report.page, knows(report.page)

    return make


def knows(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found is not None
    return dict(json.loads(found[1]))


def test_the_page_holds_every_pair_and_its_files_say_nothing(made: Callable[..., Any]) -> None:
    page, study = made(seed=3, catch=2)
    pairs = [(trial["clip"], trial["other"]["method"]) for trial in study["trials"] if not trial["catch"]]
    assert len(set(pairs)) == 6
    assert {trial["ours"]["method"] for trial in study["trials"]} == {"stable_animator", "truth"}
    assert sum(trial["catch"] for trial in study["trials"]) == 2
    addresses = {address for trial in study["trials"] for address in trial["files"].values()}
    assert {path.name for path in (page.parent / "media").iterdir()} == {address.removeprefix("media/") for address in addresses}
    assert all(re.fullmatch(r"media/[0-9a-f]{16}\.(mp4|png)", address) for address in addresses)
    assert all({"reference", "pose", "ours", "other"} == set(trial["files"]) for trial in study["trials"])
    lengths = {read_video(page.parent / trial["files"][side]).shape for trial in study["trials"] for side in ("ours", "other", "pose")}
    assert lengths == {(4, 64, 64, 3)}
    assert [question["text"] for question in study["questions"]] == [
        f"Which one has better {aspect} alignment with the reference?" for aspect in ("motion", "appearance", "background", "ID")
    ]
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*//', text)  # nothing from elsewhere
    assert "default-src 'none'" in text


def test_html_in_a_title_stays_text(made: Callable[..., Any]) -> None:
    title = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    page, study = made(title=title)
    assert study["title"] == title
    text = page.read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert "<img src=x" not in text
    assert text.count("<script") == 2


def test_a_study_is_named_by_what_it_asks(made: Callable[..., Any], tmp_path: Path) -> None:
    first, second = made(seed=1)[1], made(seed=2)[1]
    again = made(seed=1)[1]
    assert first["study"] == again["study"] != second["study"]
    assert first["trials"] == again["trials"]


def test_embedded_everything_is_in_the_page(made: Callable[..., Any]) -> None:
    page, study = made(embed=True, clips=1)
    assert not (page.parent / "media").exists()
    assert all(address.startswith("data:") for trial in study["trials"] for address in trial["files"].values())


def test_what_cannot_be_asked(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=2, frames=3, size=32)
    tiny.add_method("disco", still)
    tiny.add_method("disco", still, seed=1)
    for names, said in [(["disco"], "several predictions"), (["disco:large"], "no such prediction"), (["nobody"], "no such prediction")]:
        with pytest.raises(UserError, match=said):
            make_study(tiny.lake, names, tmp_path / "out", StudySettings())
    ids = sorted({row["prediction_id"] for row in tiny.lake.rows("predictions")})
    with pytest.raises(UserError, match="each competitor once"):
        make_study(tiny.lake, [ids[0], ids[0]], tmp_path / "out", StudySettings())
    (tiny.lake.root / "generated" / "disco-1" / f"{tiny.clip_ids[0]}.mp4").unlink()
    made = make_study(tiny.lake, ids, tmp_path / "out", StudySettings())
    assert (made.trials, len(made.skipped)) == (1, 1)
    with pytest.raises(UserError, match="--catch -1"):
        StudySettings(catch=-1)


def test_clips_that_another_person_drives_show_that_persons_poses(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=2, frames=4, size=32)
    ours, other = tiny.add_method("stable_animator", lambda truth: truth), tiny.add_method("disco", still)
    a, b = tiny.clip_ids
    tiny.lake.write("predictions", [{**row, "driving_clip_id": {a: b, b: a}[row["clip_id"]]} for row in tiny.lake.rows("predictions")])
    page = make_study(tiny.lake, [ours, other], tmp_path / "study", StudySettings()).page
    of_clip = {trial["clip"]: trial["files"] for trial in knows(page)["trials"]}
    tiny.lake.write("predictions", [{**row, "driving_clip_id": None} for row in tiny.lake.rows("predictions")])
    own = {
        trial["clip"]: trial["files"]
        for trial in knows(make_study(tiny.lake, [ours, other], tmp_path / "own", StudySettings()).page)["trials"]
    }
    assert (of_clip[a]["pose"], of_clip[b]["pose"]) == (own[b]["pose"], own[a]["pose"])
    assert of_clip[a]["reference"] == own[a]["reference"]
    row = next(row for row in tiny.lake.rows("predictions") if row["clip_id"] == a)
    tiny.lake.write("predictions", [{**row, "driving_clip_id": b}])
    mixed = make_study(tiny.lake, [ours, other], tmp_path / "mixed", StudySettings())
    assert [clip for clip, _, why in mixed.skipped if "follow the motion" in why] == [a]


def test_a_spoilt_clip_is_worse_in_everything() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    bad = spoilt(frames, 0)
    assert bad.shape == frames.shape
    assert all(len(np.unique(image.reshape(-1, 3), axis=0)) <= 64 for image in bad)  # 8x8 blocks of 4 px
    assert np.abs(bad.astype(int) - frames).mean() > 40


# --- in a browser ---------------------------------------------------------------------------------------------------


def _browser() -> str:
    found = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine")
    return found


def drive(page: Path, profile: Path, script: str) -> Any:
    """Open the page with a script behind its own ones; returns what the script leaves in `result`."""
    driven = page.with_name("driven.html")
    behind = f"<script>{{ let result; {script}; const box = document.createElement('pre'); box.id = 'result'; \
        box.textContent = JSON.stringify(result); document.body.append(box); }}</script>"
    driven.write_text(page.read_text(encoding="utf-8").replace("</body>", behind + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", f"--user-data-dir={profile}", "--dump-dom", driven.as_uri()],
        capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.S)
    assert found is not None, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


_CLICK_THROUGH = """
const seen = [];
byId("rater").value = "Anna <b>";
byId("who").requestSubmit();
for (let pair = 0; pair < plan.length; pair++) {
  const sides = {};
  study.questions.forEach((question, i) => {
    const side = (pair + i) % 2 ? "right" : "left";
    sides[question.id] = byId(side).getAttribute("src");
    if (i === 1) document.dispatchEvent(new KeyboardEvent("keydown", { key: side === "left" ? "ArrowLeft" : "ArrowRight" }));
    else document.querySelector(`button[data-question=${question.id}][data-side=${side}]`).click();
  });
  seen.push({ sides, pressed: document.querySelectorAll(".question [aria-pressed=true]").length, blocked: byId("next").disabled });
  if (STOP === pair) break;
  if (pair % 2) byId("next").click(); else { document.activeElement.blur(); document.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" })); }
}
result = { seen, answers: JSON.parse(JSON.stringify(answers())), ended: !byId("end").hidden, kept: localStorage.length, title: byId("title").children.length };
"""


def test_clicking_and_typing_through_saves_what_was_chosen(made: Callable[..., Any], tmp_path: Path) -> None:
    page, study = made(catch=1, title="A <b>study</b>")
    got = drive(page, tmp_path / "profile", _CLICK_THROUGH.replace("STOP", "-1"))
    saved, files = got["answers"], {trial["id"]: trial["files"] for trial in study["trials"]}
    assert (got["ended"], got["kept"], got["title"]) == (True, 1, 0)
    assert (saved["format"], saved["study"], saved["rater"], saved["seed"]) == (FORMAT, study["study"], "Anna <b>", 0)
    assert sorted(saved["order"]) == sorted(files)
    assert saved["order"] != list(files)
    assert len(saved["answers"]) == 7
    for seen, row in zip(got["seen"], saved["answers"], strict=True):
        assert {question: files[row["trial"]][choice] for question, choice in row["choices"].items()} == seen["sides"]
        assert (seen["pressed"], seen["blocked"]) == (4, False)
    assert len({row["left"] for row in saved["answers"]}) == 2
    (tmp_path / "answers.json").write_text(json.dumps(saved))
    answers = read_answers([tmp_path / "answers.json"])
    assert (len(answers.answers), answers.raters) == (28, ("Anna <b>",))


def test_a_rater_goes_on_where_the_page_was_left_and_another_has_another_order(made: Callable[..., Any], tmp_path: Path) -> None:
    page, _ = made(per_rater=4)
    first = drive(page, tmp_path / "profile", _CLICK_THROUGH.replace("STOP", "1"))
    again = drive(page, tmp_path / "profile", "begin('Anna <b>'); result = { at, answers: answers() }")
    assert again["at"] == 1
    assert again["answers"]["started"] == first["answers"]["started"]
    assert [row["choices"] for row in again["answers"]["answers"]] == [row["choices"] for row in first["answers"]["answers"]]
    assert len(first["answers"]["order"]) == 4
    orders = drive(
        page, tmp_path / "profile", "result = [1, 2, 3, 4].map(i => planOf('rater ' + i).map(({ trial, left }) => [trial.id, left]))"
    )
    assert len({json.dumps(order) for order in orders}) == 4


# --- the table ------------------------------------------------------------------------------------------------------


def saved(folder: Path, who: str, choices: Mapping[str, str | Mapping[str, str]], **named: Any) -> Path:
    """A rater's file. choices: `<clip> <competitor>` (or `catch`) -> the choice, for all questions or per question."""
    rows = []
    for name, choice in choices.items():
        clip, _, other = name.partition(" ")
        caught = other == "catch"
        sides = ({"method": "truth", "name": "truth"}, {"method": "spoilt", "name": "spoilt"}) if caught else (
            {"method": "stable_animator", "name": "Ours"}, {"method": other, "name": other})  # fmt: skip
        made = dict.fromkeys(ASKED, choice) if isinstance(choice, str) else dict(choice)
        rows.append({"trial": name, "clip": clip, "ours": sides[0], "other": sides[1], "catch": caught, "left": "ours", "choices": made})
    file = {
        "format": FORMAT,
        "study": "s",
        "title": "Study",
        "seed": 0,
        "rater": who,
        "saved": "2026-01-01T00:00:00Z",
        "answers": rows,
        **named,
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{who}-{file['saved'][:4]}.json"
    path.write_text(json.dumps(file))
    return path


def test_shares_are_counted_per_competitor_and_question(tmp_path: Path) -> None:
    a = saved(tmp_path, "a", {"1 disco": "ours", "2 disco": "ours", "1 champ": {"motion": "other", "identity": "ours"}})
    b = saved(tmp_path, "b", {"1 disco": "ours", "2 disco": "other"})
    table = study_table([a, b])
    disco, champ = table.cells["disco"], table.cells["champ"]
    assert [(disco[q].ours, disco[q].answers, disco[q].raters) for q in ASKED] == [(3, 4, 2)] * 4
    assert (champ["motion"].ours, champ["identity"].ours, set(champ)) == (0, 1, {"motion", "identity"})
    assert champ["motion"].clustered is None
    assert disco["motion"].clustered == (0.5, 1.0)  # raters 2/2 and 1/2: drawn again, the share is one of 0.5, 0.75, 1
    assert list(table.cells) == ["champ", "disco"]


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (3, 7), (0, 30), (30, 30), (286, 300)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_wider_interval_is_shown(tmp_path: Path) -> None:
    agree = read_answers([saved(tmp_path, rater, {"1 disco": "ours"}) for rater in "ab"]).answers
    one = preference([answer for answer in agree if answer.question == "motion"])
    assert one.clustered == (1.0, 1.0)
    assert one.interval == one.wilson
    torn = {"a": "ours", "b": "other"}
    rows = [saved(tmp_path / "torn", rater, {f"{i} disco": choice for i in range(20)}) for rater, choice in torn.items()]
    two = preference([answer for answer in read_answers(rows).answers if answer.question == "motion"])
    assert two.interval == two.clustered == (0.0, 1.0)  # twenty answers of one rater are one opinion


def test_krippendorffs_own_example_and_what_must_hold() -> None:
    a, b, c, d = (
        row.split() for row in ("1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .")
    )
    units = [[value for value in unit if value != "."] for unit in zip(a, b, c, d, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)  # Krippendorff 2011, example C
    assert krippendorff_alpha([["x", "x"], ["y", "y"]]) == 1.0
    assert krippendorff_alpha([["x", "x"], ["x", "x"]]) is None
    assert krippendorff_alpha([["x"], ["y"]]) is None
    values = np.random.default_rng(0).integers(0, 2, (4000, 3)).tolist()
    assert krippendorff_alpha(values) == pytest.approx(0, abs=0.03)


def test_raters_who_fail_the_hidden_pairs_do_not_count(tmp_path: Path) -> None:
    good = saved(tmp_path, "good", {"1 disco": "ours", "1 catch": "ours"})
    bad = saved(tmp_path, "bad", {"1 disco": "other", "1 catch": "other"})
    table = study_table([good, bad])
    assert (table.raters, dict(table.dropped), table.cells["disco"]["motion"].share) == (1, {"bad": 0.0}, 1.0)
    assert "spoilt" not in table.cells
    assert "bad got 0 %" in FORMATS["text"](table)
    assert study_table([good, bad], least_caught=0).cells["disco"]["motion"].answers == 2
    with pytest.raises(UserError, match="failed the hidden pairs"):
        study_table([bad])


def test_of_two_files_of_a_rater_the_later_counts(tmp_path: Path) -> None:
    old = saved(tmp_path, "a", {"1 disco": "other"})
    new = saved(tmp_path, "a", {"1 disco": "ours"}, saved="2027-01-01T00:00:00Z")
    table = study_table([new, old])
    assert (table.cells["disco"]["motion"].share, table.cells["disco"]["motion"].answers) == (1.0, 1)
    assert any("counts" in note for note in table.answers.notes)


def test_the_paper_stands_below_ours_and_is_never_mixed_with_it(tmp_path: Path) -> None:
    table = study_table(
        [saved(tmp_path, rater, {"1 disco": "ours", "2 disco": choice}) for rater, choice in {"a": "ours", "b": "other"}.items()]
    )
    printed = [row for row in published_rows() if (row["paper"], row["table"]) == ("stable_animator", "Table 6")]
    assert sorted(float(cell) for row in printed_rows() for cell in row[1:5]) == sorted(row["value"] for row in printed)
    assert printed_rows()[0][:5] == ("DisCo, printed (Table 6)", "95.6", "96.8", "94.2", "98.7")
    text = FORMATS["text"](table)
    ours, papers = text.split("DisCo, printed")
    assert "disco, measured here" in ours
    assert "measured here" not in papers
    assert re.search(r"disco, measured here\s+75\.0 \(\d", ours)
    assert "alpha" in text
    latex = FORMATS["latex"](table)
    assert r"\midrule" in latex
    assert "95.6" in latex
    whole = json.loads(FORMATS["json"](table))
    assert len(whole["cells"]) == 4
    assert whole["cells"][0]["share"] == 0.75
    assert FORMATS["csv"](table).splitlines()[0].startswith("study,ours,over,question,share")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "no answers of a user study"),
        ({"rater": " "}, "rater is missing"),
        ({"answers": [{"trial": "1"}]}, "not whole"),
        ({"answers": []}, "no question is answered"),
        ({"study": "another"}, "2 studies"),
    ],
)
def test_files_that_cannot_be_counted(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    good = saved(tmp_path, "good", {"1 disco": "ours"})
    bad = saved(tmp_path / "bad", "bad", {"1 disco": "ours"}, **change)
    with pytest.raises(UserError, match=said):
        read_answers([good, bad] if said == "2 studies" else [bad])
    (tmp_path / "no.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_answers([tmp_path / "no.json"])


def test_the_commands_make_a_page_and_a_table(make_lake: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_lake(clips=2, frames=3, size=32)
    ours, other = tiny.add_method("stable_animator", lambda truth: truth), tiny.add_method("disco", still)
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tiny.lake.root))
    folder = tiny.lake.root / "generated" / "disco-0"  # by its manifest
    asked = ["make", "--predictions", ours, "--predictions", str(folder), "--out", str(tmp_path / "study"), "--clips", "0"]
    done = CliRunner().invoke(user_study, asked)
    assert done.exit_code == 0, done.output
    assert "index.html: 2 pairs" in done.output
    assert {trial["other"]["prediction"] for trial in knows(tmp_path / "study" / "index.html")["trials"]} == {other}
    path = saved(tmp_path / "answers", "a", {"1 disco": "ours"})
    done = CliRunner().invoke(user_study, ["table", str(path), "--format", "markdown", "--output", str(tmp_path / "table.md")])
    assert done.exit_code == 0, done.output
    assert "| disco, measured here | 100.0 (" in (tmp_path / "table.md").read_text()
