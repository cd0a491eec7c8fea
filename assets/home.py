"""Where things are: the project's folder, its lake and its Dagster instance; no environment variable is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.code_version import ROOT
from pipelines.lake import Lake

if TYPE_CHECKING:
    from dagster import DagsterInstance


def in_checkout() -> bool:
    """Whether this code runs from a checkout (and not from an installed package)."""
    return (ROOT / "dagster.yaml").is_file() and (ROOT / "workspace.yaml").is_file()


def lake_root() -> str:
    """ROTOSCOPE_HOME, or `lake` in the checkout, or ~/rotoscope; never the current folder."""
    return os.environ.get("ROTOSCOPE_HOME") or str(ROOT / "lake" if in_checkout() else Path.home() / "rotoscope")


def tiny_work() -> Path:
    """Where the tiny family's trainings keep drawn people and their state: in a local lake, else in ~/rotoscope."""
    root = lake_root()
    return (Path.home() / "rotoscope" if "://" in root else Path(root)) / "tiny"


def open_lake() -> Lake:
    """The lake, made where it is missing. Raises UserError where it cannot be written."""
    return Lake(lake_root()).create()


def open_instance() -> DagsterInstance:
    """The project's Dagster instance: the one that `dg dev` shows when it is started in the project's folder.

    DAGSTER_HOME wins where it is set. The paths in dagster.yaml start at the project's folder, wherever the command is called.
    """
    from dagster import DagsterInstance
    from dagster._core.instance.ref import InstanceRef

    if os.environ.get("DAGSTER_HOME"):
        return DagsterInstance.get()
    if not in_checkout():
        home = Path.home() / "rotoscope" / "dagster"
        home.mkdir(parents=True, exist_ok=True)
        return DagsterInstance.from_ref(InstanceRef.from_dir(os.fspath(home)))
    base = ROOT / ".dagster"
    logs = {
        "module": "dagster._core.storage.local_compute_log_manager",
        "class": "LocalComputeLogManager",
        "config": {"base_dir": str(base / "compute_logs")},
    }
    artifacts = {"module": "dagster._core.storage.root", "class": "LocalArtifactStorage", "config": {"base_dir": str(base)}}
    overrides = {"storage": {"sqlite": {"base_dir": str(base / "storage")}}, "compute_logs": logs, "local_artifact_storage": artifacts}
    return DagsterInstance.from_ref(InstanceRef.from_dir(os.fspath(ROOT), overrides=overrides))
