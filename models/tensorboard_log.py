"""The training log as TensorBoard event files: curves while a run goes on, in a program that people know."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from models.training_state import StepRecord


def tensorboard_folder(state_folder: Path) -> Path:
    """Beside the checkpoint: `.stage_1-0123.state` -> `stage_1-0123.tensorboard`."""
    return state_folder.with_name(f"{state_folder.name.removeprefix('.').removesuffix('.state')}.tensorboard")


class TensorBoardLog:
    """Scalars of every step. The first one opens a file, and hides what an earlier run that was killed wrote of this step and later ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def add(self, record: StepRecord) -> None:
        """Write one row of the log."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=record.step)
        for name, value in scalars_of(record).items():
            self._writer.add_scalar(name, value, record.step)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._writer is not None:
            self._writer.close()


def open_log(folder: Path) -> TensorBoardLog | None:
    """The log in `folder`; None, and one line that says so, where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        print('TensorBoard is off: it is not installed; run: pip install "rotoscope[tensorboard]"', file=sys.stderr)
        return None
    return TensorBoardLog(folder)


def scalars_of(record: StepRecord) -> dict[str, float]:
    """What a row shows, by name: loss/train, loss/probe, learning_rate, gradient_norm, loss_by_noise/<bin>, metrics/<name>."""
    shown = {
        "loss/train": record.loss,
        "loss/probe": record.probe_loss,
        "learning_rate": record.learning_rate,
        "gradient_norm": record.gradient_norm,
        **{f"loss_by_noise/{name}": total / count for name, (total, count) in (record.by_noise or {}).items()},
        **{f"metrics/{name}": value for name, value in (record.metrics or {}).items()},
    }
    return {name: value for name, value in shown.items() if value is not None}
