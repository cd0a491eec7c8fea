"""What `rotoscope run` does with its options."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assets.demo import DEMO, DEMO_EXTRACTORS, plan_demo
from assets.home import open_instance, open_lake
from assets.run import Outcome, outcome, prepare, run_benchmark, run_model
from eval.method_names import FLOORS
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources import registry
from pipelines.sources.folder import find_videos


@dataclass(frozen=True, kw_only=True, slots=True)
class Videos:
    """Where the videos are: exactly one of a folder, a known data set's name, or a source with its options."""

    folder: Path | None = None
    dataset: str | None = None
    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str | None = None  # of the data set that a source makes
    clips: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.folder, self.dataset, self.source)) != 1:
            raise UserError(
                "give one of --folder DIR (videos of your own), --source NAME (a published data set or a list of links) "
                "or --dataset NAME (one that is there already, see `rotoscope status`)"
            )
        if self.source is None and (self.options or self.name):
            raise UserError("--option, --accept-terms and --name belong to --source")


def parse_options(pairs: Sequence[str], accept_terms: bool) -> dict[str, Any]:
    """KEY=VALUE pairs; a value that reads as JSON (number, true, list) is taken as such. Raises UserError."""
    options: dict[str, Any] = {"accept_terms": True} if accept_terms else {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UserError(f"--option {pair}: write KEY=VALUE, for example --option archive=TikTok.zip")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return options


def run_videos(
    videos: Videos,
    extractors: str | None,
    methods: tuple[str, ...],
    variant: str | None,
    seed: int,
    engine: str,
) -> Outcome:
    """Prepare, and where methods are named also train, animate, score and report. Raises UserError before anything runs when an option is wrong."""
    from models.methods import method_named
    from pipelines.extract import engine_named
    from pipelines.extractors.registry import extractors_named

    names = tuple(name.strip() for name in extractors.split(",")) if extractors else None
    if names:
        extractors_named(names)
    engine_named(engine)
    models = _models(methods, variant, seed)
    for model in models:
        method_named(model.split(":")[0]).config(model.split(":")[1])
    if videos.folder is not None:
        find_videos(videos.folder)  # before a lake is made
    lake = open_lake()
    chosen = _chosen(lake, videos, names)
    chosen = chosen if names else _seen_enough(chosen, methods)
    with open_instance() as instance:
        done = prepare(instance, lake, chosen, engine=engine)
        for model in models:
            run_model(instance, lake, chosen.name, model)
        page = run_benchmark(instance, lake, chosen.name) if models else None
    return replace(outcome(lake, chosen), report=page, sheet=done.sheet)


def _models(methods: tuple[str, ...], variant: str | None, seed: int) -> list[str]:
    from models.methods import method_named

    named = [f"{name}:{variant or method_named(name).default_variant}:{seed}" for name in methods if name != "copy_reference"]
    return ["copy_reference:default:0", *named] if methods else []


def _chosen(lake: Lake, videos: Videos, extractors: tuple[str, ...] | None) -> registry.Dataset:
    if videos.folder is not None:
        made = registry.folder_dataset(videos.folder, extractors or ("mediapipe",), videos.clips)
        return registry.with_free_name(lake, made)
    if videos.source is not None:
        made = registry.source_dataset(videos.source, videos.options, extractors or (), videos.name)
        return replace(made, training_clips=videos.clips)
    known = registry.load(lake, str(videos.dataset))
    known = replace(known, extractors=extractors, training_extractor=extractors[0]) if extractors else known
    return replace(known, training_clips=videos.clips or known.training_clips)


def _seen_enough(dataset: registry.Dataset, methods: tuple[str, ...]) -> registry.Dataset:
    """The demo's people seen through what these methods need, too, as `rotoscope demo --methods` sees them; another data set as it is."""
    trained = [name for name in methods if name not in FLOORS]
    of_the_demo = dataset.name == DEMO and dataset.training_extractor == DEMO_EXTRACTORS[0]
    return registry.seen_through(dataset, plan_demo(trained).dataset.extractors) if of_the_demo and trained else dataset


def write_clips(lake: Lake, dataset: str, folder: Path, clips: tuple[str, ...], mode: str) -> tuple[int, int]:
    """(failed, written) clips of a data set as files `<clip id>.mp4`; a clip that fails is said on standard error. Raises UserError."""
    import click

    from pipelines.clip_export import export_clip
    from pipelines.errors import ClipError

    chosen = [clip for clip in lake.clips(registry.load(lake, dataset).name) if not clips or clip.clip_id in clips]
    if not chosen:
        raise UserError(f'data set {dataset} has no such usable clip; `rotoscope query "select clip_id from clips"` lists them')
    failed = 0
    for clip in chosen:
        try:
            export_clip(clip, folder / f"{clip.clip_id}.mp4", "copy" if mode == "copy" else "exact")
        except ClipError as error:
            failed += 1
            click.echo(str(error), err=True)
    return failed, len(chosen) - failed
