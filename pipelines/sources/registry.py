"""Which data sets this lake knows, and where each one's videos come from: one small JSON file per data set.

A data set is registered once (by `rotoscope run --folder DIR` or `rotoscope demo`); from then on its name is enough to
materialize it again, from a click as well.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources.folder import dataset_name, scan_folder
from pipelines.tables import FEATURES

if TYPE_CHECKING:
    from pipelines.screen_rule import ScreeningRule

# fmt: off
Kind = Literal[
    "folder", "performers", "tiktok", "ted_talks", "ubc_fashion", "ucf101", "url_list",
    "performers_dance", "performers_talk", "performers_fashion", "performers_actions",
]
# fmt: on
Progress = Callable[[int, int], None]
Scan = Callable[[Lake, str, Mapping[str, Any], Progress | None], list[dict[str, Any]]]
"""(lake, data set's name, the source's options, progress) -> rows of `videos`."""

DRAWN = "performers"  # what kinds of drawn people begin with
PUBLISHED: tuple[str, ...] = ("tiktok", "ted_talks", "ubc_fashion", "ucf101")  # data sets of others, under their terms


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One data set: its source, the extractors to run, the one whose rows feed training, and the source's own options."""

    name: str
    kind: Kind
    folder: str | None = None  # of kind "folder": an absolute path
    extractors: tuple[str, ...] = ("truth",)
    training_extractor: str = "truth"  # whose poses train and drive
    signal_extractors: dict[str, str] = field(
        default_factory=dict
    )  # table -> whose rows train and drive, where `extractor_of` is not wanted
    screening: str | None = None  # name of the rule that decides which clips train and are scored; None = all of them
    protocol: str = "demo_standin"  # under which its models are scored
    failed_share_limit: float = 0.2  # above it, the checks of a data set fail (on a user's folder they warn)
    training_clips: tuple[str, ...] = ()  # only these train and are animated; empty = all of the split
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UserError(f"data set {self.name}: no source {self.kind!r}; there are: {', '.join(get_args(Kind))}")
        if self.kind == "folder" and not self.folder:
            raise UserError(f"data set {self.name}: a folder source needs its folder")
        unknown = sorted(set(self.signal_extractors) - set(FEATURES) | ({"poses"} & set(self.signal_extractors)))
        if unknown:
            raise UserError(
                f"data set {self.name}: signal_extractors names {unknown[0]!r}, which is no table of signals; poses come from training_extractor, "
                f"the others are: {', '.join(name for name in FEATURES if name != 'poses')}"
            )
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise UserError(f"--name {self.name!r}: a data set's name is a folder's, too; use letters, digits, - and _")

    def extractor_of(self, table: str) -> str:
        """Whose rows of a feature table train and drive: the one that `signal_extractors` names; else the poses' own where it fills
        the table (hands belong to the poses that they were found by); else the first of `extractors` that does. Raises UserError.
        """
        from pipelines.extractors.registry import EXTRACTORS, extractors_named

        named = self.signal_extractors.get(table)
        wanted = [named] if named else [self.training_extractor, *self.extractors]
        found = [extractor.name for extractor in extractors_named(wanted) if table in extractor.tables]
        if not found:
            able = ", ".join(sorted(extractor.name for extractor in EXTRACTORS.values() if table in extractor.tables))
            raise UserError(
                f"data set {self.name}: {', '.join(dict.fromkeys(wanted))} fill no table {table!r}, which this method needs; extractors that do: {able}; "
                f"run one of them, and name it in the data set's extractors or signal_extractors"
            )
        return found[0]

    @property
    def rule(self) -> ScreeningRule:
        """The screening rule that judges its clips; only where `screening` names it does it also decide."""
        from pipelines.screen_rule import rule_for, rule_named

        return rule_named(self.screening) if self.screening else rule_for(self.name)


def _rule_of(kind: str) -> str:
    from pipelines.screen_rule import rule_for

    return rule_for(kind).name


def folder_dataset(folder: Path, extractors: tuple[str, ...] = ("mediapipe",), training_clips: tuple[str, ...] = ()) -> Dataset:
    """A user's own folder: its first extractor drives, and scoring resizes real footage to the size that the demo's networks make."""
    return Dataset(
        name=dataset_name(folder),
        kind="folder",
        folder=str(folder.resolve()),
        extractors=extractors,
        training_extractor=extractors[0],
        protocol="standin_128_square",
        training_clips=training_clips,
    )


def source_dataset(kind: str, options: Mapping[str, Any], extractors: tuple[str, ...] = (), name: str | None = None) -> Dataset:
    """A data set of one of the sources; real footage is scored at the size that the demo's networks make. Raises UserError."""
    if kind not in get_args(Kind):
        raise UserError(f"no source {kind!r}; there are: {', '.join(get_args(Kind))}")
    if kind.startswith(DRAWN):
        return _drawn_dataset(kind, options, extractors or ("truth",), name)
    chosen = extractors or ("mediapipe",)
    return Dataset(
        name=name or kind,
        kind=kind,  # type: ignore[arg-type]  # checked by the data set
        extractors=chosen,
        training_extractor=chosen[0],
        screening=_rule_of(kind),
        protocol="standin_128_square",
        options=_absolute(kind, options),
    )


def _drawn_dataset(kind: str, options: Mapping[str, Any], extractors: tuple[str, ...], name: str | None) -> Dataset:
    """Performers are scored as they are drawn; only those of another size or shape than the demo's are resized."""
    return Dataset(
        name=name or (f"{DRAWN}_dance" if kind == DRAWN else kind),
        kind=kind,  # type: ignore[arg-type]  # checked by the data set
        extractors=extractors,
        training_extractor=extractors[0],
        protocol="demo" if options.get("size", 128) == 128 else "standin_128_square",
        options=dict(options),
    )


def _module(kind: str) -> ModuleType:
    """The source's module; the kinds of performers share one."""
    return importlib.import_module(f"pipelines.sources.{DRAWN if kind.startswith(DRAWN) else kind}")


def _absolute(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that name files, from wherever the data set is materialized later."""
    names = getattr(_module(kind), "PATHS", ())
    local = {name for name in names if isinstance(options.get(name), str) and "://" not in options[name]}
    return {name: str(Path(value).expanduser().resolve()) if name in local else value for name, value in options.items()}


def with_free_name(lake: Lake, dataset: Dataset) -> Dataset:
    """The data set, with six digits of its folder's path behind the name where another folder has that name already."""
    if dataset.name not in registered(lake) or load(lake, dataset.name).folder == dataset.folder:
        return dataset
    return replace(dataset, name=f"{dataset.name}_{hashlib.sha256(str(dataset.folder).encode()).hexdigest()[:6]}")


def _uri(name: str) -> str:
    return f"datasets/{name}.json"


def register(lake: Lake, dataset: Dataset) -> Dataset:
    """Write (or replace) a data set's file."""
    lake.write_text(_uri(dataset.name), json.dumps(asdict(dataset), indent=1, sort_keys=True))
    return dataset


def seen_through(dataset: Dataset, extractors: Sequence[str]) -> Dataset:
    """The data set with these extractors behind its own. `truth` stays the last where another one's poses train: there it only judges, and what
    a method is taught must not come from it because it was named first.
    """
    names = tuple(dict.fromkeys((*dataset.extractors, *extractors)))
    if dataset.training_extractor != "truth" and "truth" in names:
        names = (*(name for name in names if name != "truth"), "truth")
    return replace(dataset, extractors=names)


def and_known_extractors(lake: Lake, dataset: Dataset) -> Dataset:
    """The data set with the extractors behind its own that it is registered with: another method may still need their features."""
    return seen_through(dataset, load(lake, dataset.name).extractors if dataset.name in registered(lake) else ())


def registered(lake: Lake) -> list[str]:
    """Names of the data sets of this lake."""
    return sorted(Path(name).stem for name in lake.list_files("datasets") if name.endswith(".json"))


def load(lake: Lake, name: str) -> Dataset:
    """One data set by name; UserError lists what there is."""
    try:
        raw = json.loads(lake.read_text(_uri(name)))
    except FileNotFoundError:
        known = ", ".join(registered(lake)) or "none yet"
        raise UserError(
            f"no data set {name!r} in {lake.address} (there are: {known}); make it with `rotoscope run --folder DIR` or `rotoscope demo`"
        ) from None
    for name_of_tuple in ("extractors", "training_clips"):
        raw[name_of_tuple] = tuple(raw[name_of_tuple])
    return Dataset(**raw)


def scan(lake: Lake, dataset: Dataset, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Rows of `videos` for the data set, made or found by its source."""
    if dataset.kind == "folder":
        return scan_folder(lake, Path(dataset.folder or ""), dataset.name, progress)
    scan_source: Scan = getattr(_module(dataset.kind), f"scan_{dataset.kind}")
    return scan_source(lake, dataset.name, dataset.options, progress)
