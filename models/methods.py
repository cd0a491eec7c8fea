"""Every method by name. A method trains its stages one after the other and then makes clips; some have no stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from models.animator import Animator as Animator
from models.clip_dataset import TrainingClip
from models.signals import SignalName
from models.training_loop import StepRecord
from pipelines.errors import UserError


class Method(Protocol):
    """What a method offers. Every function that takes a variant raises UserError for one that the method does not have."""

    @property
    def variants(self) -> Mapping[str, Any]:
        """Settings of every variant by name: paper, demo, brief, and one for each ablation of those."""

    @property
    def default_variant(self) -> str:
        """The one that is meant where none is named."""

    @property
    def needs(self) -> tuple[SignalName, ...]:
        """What it reads beside pictures and poses, in training and sampling."""

    @property
    def sampling_code(self) -> tuple[str, ...]:
        """Source files that turn a checkpoint into clips, relative to the project."""

    @property
    def training_code(self) -> tuple[str, ...]:
        """Source files that shape a checkpoint."""

    def config(self, variant: str) -> dict[str, Any]:
        """All settings of a variant, as plain values."""
        ...

    def stages_of(self, variant: str) -> tuple[str, ...]:
        """What a variant trains, in order; empty where it does not train."""
        ...

    def stage_config(self, variant: str, stage: str) -> dict[str, Any]:
        """What shapes one stage and nothing else (network, noise, that stage's settings): variants that differ only later share its checkpoint."""
        ...

    def weights_digest(self, variant: str) -> str:
        """Digest of the pretrained files that training reads; "" where there are none. Raises MissingWeightsError."""
        ...

    def train(
        self,
        stage: str,
        *,
        variant: str,
        clips: Sequence[TrainingClip],
        parent: Path | None,
        out: Path,
        seed: int,
        identity: Mapping[str, str],
        on_record: Callable[[StepRecord], None] | None = None,
    ) -> list[StepRecord]:
        """Train one stage into the folder `out`; resumes what was cut off. identity: what its manifest begins with."""
        ...

    def load(self, variant: str, checkpoint: Path | None) -> Animator:
        """A model ready to make clips."""
        ...


def methods() -> dict[str, Method]:
    """Every method by name (loads torch and diffusers)."""
    from models.animate_anyone.method import ANIMATE_ANYONE
    from models.baselines.copy_reference import CopyReferenceMethod
    from models.baselines.ip_controlnet import IP_CONTROLNET
    from models.baselines.ipc.method import IPC
    from models.baselines.sd_2v.method import SD_2V
    from models.baselines.warp_reference import WarpReferenceMethod
    from models.hfca.method import HFCA
    from models.hia.method import HIA
    from models.pose_animate.method import POSE_ANIMATE
    from models.stable_animator.method import STABLE_ANIMATOR

    return {
        "animate_anyone": ANIMATE_ANYONE,
        "hfca": HFCA,
        "hia": HIA,
        "stable_animator": STABLE_ANIMATOR,
        "pose_animate": POSE_ANIMATE,
        "sd_2v": SD_2V,
        "ipc": IPC,
        "ip_controlnet": IP_CONTROLNET,
        "copy_reference": CopyReferenceMethod(),
        "warp_reference": WarpReferenceMethod(),
    }


def method_named(name: str) -> Method:
    """One method; UserError lists what there is."""
    known = methods()
    if name not in known:
        raise UserError(f"no method {name!r}; there are: {', '.join(sorted(known))}")
    return known[name]
