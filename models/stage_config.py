"""How a stage draws its batches: single frames, or windows of frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from models.training_loop import LoopConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PairStage:
    """Single frames: targets of the same video beside their reference."""

    loop: LoopConfig
    references: int = 4  # per micro-batch
    targets: int = 1  # per reference
    distance: int = 30  # frames between reference and target, where the clip has them (Moore-AnimateAnyone)
    drop_probability: float = 0.1  # of the reference, for classifier-free guidance
    augment: bool = True
    flip: float = 0.0  # probability of mirroring picture, pose and signals
    timesteps: tuple[int, int] | None = None  # noise levels that are drawn, first and one past the last; None = all of the schedule
    size: tuple[int, int] | None = None  # height, width; None = the method's own


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowStage:
    """Windows of frames: clips in which frames see each other."""

    loop: LoopConfig
    batch: int = 4  # clips per micro-batch
    window: int = 24  # frames
    stride: int = 4  # Moore-AnimateAnyone
    drop_probability: float = 0.1
    augment: bool = True
    flip: float = 0.0
    shared_noise: bool = False  # the same initial noise for all frames of a window, in training as in sampling
    static: float = 0.0  # probability that a micro-batch holds single frames instead of windows (HIA, MagicAnimate: static images)
    size: tuple[int, int] | None = None


Stage = PairStage | WindowStage


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedConfig:
    """What the configs of methods that train in stages have in common: a field for each stage."""

    def stage(self, name: str) -> Stage:
        """Settings of a stage."""
        settings: Stage = getattr(self, name)
        return settings

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for manifests and digests."""
        return asdict(self)


def check_windows(limit: str, longest: int, **windows: int) -> None:
    """ValueError for a window that is longer than the temporal layers can see. limit: the name of what says so; windows: by the field that has them."""
    for name, window in windows.items():
        if window > longest:
            raise ValueError(f"{name}.window={window} is longer than {limit}={longest}")


def shaping_of(stage: Any) -> dict[str, Any]:
    """The settings that decide what a stage learns; where it is computed and how often it is looked at are left out."""
    return {**asdict(stage), "loop": stage.loop.shaping()}
