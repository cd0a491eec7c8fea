"""What the baselines have in common that fine-tune published networks in two stages (IPC, SD-2V): config, condition, what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from models.clip_dataset import Batch
from models.guidance import Condition
from models.noise import NoiseConfig
from models.prompted_denoiser import PromptedNetworks
from models.stage_config import StagedConfig
from models.stage_loss import still_condition


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetunedConfig(StagedConfig):
    """Whether anything is trained: stage_1 on single frames, stage_2 on windows of them."""

    train: Literal["none", "finetune"] = "finetune"
    networks: PromptedNetworks
    noise: NoiseConfig

    @property
    def stages(self) -> tuple[str, ...]:
        """What this variant trains."""
        return ("stage_1", "stage_2") if self.train == "finetune" else ()


def condition_of(network: Any, batch: Batch) -> Condition:
    """Conditions of a batch, nothing dropped."""
    return Condition(**still_condition(network, batch))


def additions_of(config: FinetunedConfig, untrained: str = "nothing trained") -> list[str]:
    """What departs from the baseline in a variant, in words for the report. untrained: what there is to say where nothing is trained."""
    said = {
        "v-prediction, as the tiny base was trained": config.noise.objective == "v",
        untrained: config.train == "none",
        "untrained picture and text encoders": config.networks.image_encoder is None,
    }
    return [name for name, used in said.items() if used]
