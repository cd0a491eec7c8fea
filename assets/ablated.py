"""Running an ablation: what differs is trained, everything is animated and scored, and the table is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pyarrow.compute as pc

from assets.benchmarked import split_of
from assets.demo import DEMO, plan_demo
from assets.partitions import ablation_partition, add_partitions
from assets.run import demo_dataset, execute, prepare, run_benchmark, run_model
from eval.ablation_page import Subject, write_ablation
from eval.ablation_study import Study, Wanted, run_study
from eval.method_names import TITLES
from eval.training_cost import ModelCost, training_costs
from models.ablation_plan import Plan, minutes_of, plan
from models.ablations import ABLATIONS, BASES, Ablation, not_offered
from pipelines.errors import MissingWeightsError, UserError
from pipelines.lake import Lake
from pipelines.sources import registry

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Which table, on which data set, with which size and seeds."""

    ablation: Ablation
    dataset: str
    base: str
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"--seeds {','.join(map(str, self.seeds))}: give whole numbers from 0, each once, for example 0,1,2")

    @classmethod
    def named(cls, ablation: str, *, dataset: str, base: str | None, seeds: tuple[int, ...]) -> Request:
        """By the ablation's name, as its partition has it. Raises UserError."""
        if ablation not in ABLATIONS:
            raise UserError(f"no ablation {ablation!r}; there are: {', '.join(ABLATIONS)}")
        return cls(ablation=ABLATIONS[ablation], dataset=dataset, base=base or ABLATIONS[ablation].base, seeds=seeds)

    def missing(self) -> dict[str, str]:
        """Label -> why the row cannot be run. Raises UserError where the full method itself cannot."""
        missing = {**not_offered(self.ablation, self.base)}
        missing |= _without_weights(self, [row.printed for row in self.ablation.rows if row.printed not in missing])
        if self.ablation.full in missing:
            raise UserError(
                f"{self.ablation.name} cannot be run with --base {self.base}: {missing[self.ablation.full]} (the sizes are: {', '.join(BASES)})"
            )
        return missing

    def labels(self) -> list[str]:
        """Labels of the rows that can be run, the full method first."""
        missing = self.missing()
        there = [row.printed for row in self.ablation.rows if row.printed not in missing]
        return sorted(there, key=lambda label: label != self.ablation.full)


def _without_weights(request: Request, labels: Sequence[str]) -> dict[str, str]:
    """Label -> which pretrained file is not at hand."""
    from models.methods import method_named

    method, said = method_named(request.ablation.method), dict[str, str]()
    for label in labels:
        try:
            method.weights_digest(str(request.ablation.row(label).variant(request.base)))
        except MissingWeightsError as error:
            said[label] = str(error)
    return said


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A table that was written. not_run: rows of ours, or seeds of them, that are not in it, each with a reason."""

    page: Path
    study: Study
    not_run: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a run of an ablation left; failed: model -> reason; clips: how many were asked for, and of how many nothing came.

    longest: the training of the model that took longest against the budget of its size; "" without a budget, or when nothing was trained.
    """

    written: Written
    failed: dict[str, str]
    clips: int
    missing_clips: int
    longest: str


def prepared(instance: dg.DagsterInstance, lake: Lake, request: Request) -> registry.Dataset:
    """The data set; the demo's is drawn, and seen through what the method needs, where it is not yet. Raises UserError for another one."""
    if request.dataset == DEMO:
        wanted = plan_demo([request.ablation.method]).dataset if request.base in (BASES[0], request.ablation.base) else demo_dataset()
        known = registry.load(lake, DEMO) if DEMO in registry.registered(lake) else wanted
        seen = registry.seen_through(known, wanted.extractors)
        if set(seen.extractors) != set(known.extractors) or not lake.clips(DEMO):
            prepare(instance, lake, seen)
    return registry.load(lake, request.dataset)


def planned(lake: Lake, dataset: registry.Dataset, request: Request) -> Plan:
    """What is to be trained."""
    return plan(lake, dataset, request.ablation, request.base, request.seeds, request.labels())


def ablate(instance: dg.DagsterInstance, lake: Lake, request: Request, say: Say) -> Outcome:
    """Train, animate and score every model of the table, each in a run of its own, and lay the table out; what is there is kept.

    A model that cannot be made is said and left out. Raises UserError when the first one, the full method, cannot be made.
    """
    for label, reason in request.missing().items():
        say(f"not run: {label} ({reason})")
    dataset = prepared(instance, lake, request)
    todo = planned(lake, dataset, request)
    for line in todo.lines():
        say(line)
    failed: dict[str, str] = {}
    started = time.monotonic()
    for number, key in enumerate(todo.models, start=1):
        say(f"{number}/{len(todo.models)} {key}")
        try:
            run_model(instance, lake, request.dataset, str(key))
        except UserError as error:
            if len(failed) == number - 1:
                raise
            failed[str(key)] = str(error)
            say(f"{key} is left out: {error}")
        left = (time.monotonic() - started) / number * (len(todo.models) - number)
        say(f"  {(time.monotonic() - started) / 60:.1f} min so far, about {left / 60:.1f} min left")
    run_benchmark(instance, lake, request.dataset)
    lay_out(instance, lake, request)
    return _outcome(lake, request, failed)


def lay_out(instance: dg.DagsterInstance, lake: Lake, request: Request) -> None:
    """Materialize the table from what was run."""
    add_partitions(instance, request.dataset, [])
    config = {"base": request.base, "seeds": list(request.seeds)}
    settings = {"ops": {"ablation": {"config": config}}, "resources": {"lake": {"config": {"root": lake.address}}}}
    execute(instance, "ablation_table", ablation_partition(request.dataset, request.ablation.name), settings)


def _outcome(lake: Lake, request: Request, failed: dict[str, str]) -> Outcome:
    """Counts over the clips that follow their own motion, which are those that the table scores."""
    where = (
        (pc.field("dataset") == request.dataset) & (pc.field("method") == request.ablation.method) & pc.field("driving_clip_id").is_null()
    )
    variants = {request.ablation.row(label).variant(request.base) for label in request.labels()}
    rows = lake.rows("predictions", where, ["variant", "seed", "status"])
    status = [row["status"] for row in rows if row["variant"] in variants and row["seed"] in request.seeds]
    bad = sum(one != "ok" for one in status)
    written = written_table(lake, request)
    longest = _longest(request.base, training_costs(lake, written.study))
    return Outcome(written=written, failed=failed, clips=len(status), missing_clips=bad, longest=longest)


def _longest(base: str, costs: Sequence[ModelCost]) -> str:
    """Said after a run: the clock also counts what ran beside the training, so more than the budget is no error."""
    budget, known = minutes_of(base), [cost for cost in costs if cost.seconds is not None]
    if budget is None or not known:
        return ""
    most = max(known, key=lambda cost: cost.seconds or 0.0)
    took = most.seconds or 0.0
    side, why = ("within", "") if took <= 60 * budget else ("over", "; other work on the same cores, or a slower machine, counts too")
    return f"training took {took:.0f} s at most ({most.variant}, seed {most.seed}): {side} the {budget} CPU-minutes of this size{why}"


def page_of(lake: Lake, request: Request) -> Path:
    """Where the table is written."""
    return lake.root / "reports" / "ablations" / request.dataset / f"{request.ablation.name}_{request.base}.html"


def write_table(lake: Lake, request: Request) -> Written:
    """Write the page and its twins. Raises UserError when the full method was not run."""
    made = written_table(lake, request)
    write_ablation(lake, made.study, subject_of(request), made.page)
    for path in sorted(made.page.parent.glob(f"{made.page.stem}.*")):
        lake.put(path)
    return made


def written_table(lake: Lake, request: Request) -> Written:
    """The table's numbers from the lake, without writing. Raises UserError when the full method was not run."""
    dataset, missing = registry.load(lake, request.dataset), request.missing()
    wanted = [_wanted(request, row.printed, missing) for row in request.ablation.rows]
    study = run_study(
        lake, wanted, full=request.ablation.full, protocol=dataset.protocol, dataset=dataset.name, split=split_of(lake, dataset.name),
        seeds=request.seeds,
    )  # fmt: skip
    if not study.runs[study.full].seeds:
        raise UserError(
            f"{request.ablation.method}:{request.base} was not scored on {dataset.name} with any of the seeds {', '.join(map(str, request.seeds))}; "
            f"run `rotoscope ablate --paper {request.ablation.paper} --table {request.ablation.table}` first"
        )
    return Written(page=page_of(lake, request), study=study, not_run=tuple(_not_run(request, study)))


def _wanted(request: Request, label: str, missing: dict[str, str]) -> Wanted:
    row, method = request.ablation.row(label), request.ablation.method
    variant = None if label in missing else row.variant(request.base)
    return Wanted(label=label, method=method, variant=variant, aims=row.aims, why_not=missing.get(label, ""))


def _not_run(request: Request, study: Study) -> list[str]:
    """Rows that should be ours and are not, or not with every seed."""
    said = []
    for label, run in study.runs.items():
        absent = [seed for seed in request.seeds if seed not in run.seeds]
        if absent and request.ablation.row(label).switch is not None:
            said.append(f"{label}: {run.wanted.why_not or 'seeds ' + ', '.join(map(str, absent)) + ' were not run'}")
    return said


def subject_of(request: Request) -> Subject:
    """The table in words."""
    ablation = request.ablation
    title = f"{TITLES[ablation.paper]}, {ablation.place}: ablation"
    return Subject(paper=ablation.paper, number=ablation.table if ablation.printed else None, title=title, about=ablation.about)
