"""What `rotoscope run` does with its options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from assets.home import open_instance, open_lake
from assets.run import Outcome, outcome, prepare, run_benchmark, run_model
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources import registry
from pipelines.sources.folder import find_videos


def run_folder_or_dataset(
    folder: Path | None,
    dataset: str | None,
    extractors: str | None,
    methods: tuple[str, ...],
    variant: str | None,
    seed: int,
    clips: tuple[str, ...],
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
    if folder is not None:
        find_videos(folder)  # before a lake is made
    lake = open_lake()
    chosen = _chosen(lake, folder, dataset, names, clips)
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


def _chosen(
    lake: Lake, folder: Path | None, dataset: str | None, extractors: tuple[str, ...] | None, clips: tuple[str, ...]
) -> registry.Dataset:
    if (folder is None) == (dataset is None):
        raise UserError(
            "give either --folder DIR (videos of your own) or --dataset NAME (one that is there already, see `rotoscope status`)"
        )
    if dataset is not None:
        known = registry.load(lake, dataset)
        known = replace(known, extractors=extractors, training_extractor=extractors[0]) if extractors else known
        return replace(known, training_clips=clips or known.training_clips)
    assert folder is not None
    return registry.with_free_name(lake, registry.folder_dataset(folder, extractors or ("mediapipe",), clips))
