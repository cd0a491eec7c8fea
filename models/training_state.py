"""What a training run is at one moment, as files that appear whole: a run that was killed goes on from them as if nothing had happened."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.loop_config import LoopConfig, rate_at
from models.noise_levels import ByNoise, NoiseLevels
from models.optimizers import make_optimizer, moments_of, put_moments
from models.precision import make_scaler
from models.whole_folder import replace_folder, settle_folder


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One row of the training log. probe_loss: the loss at fixed noise and timesteps, on some steps only.

    gradient_norm: before clipping; None before the first step, and where float16 overflowed and the step was left out.
    by_noise: sums and counts of the training loss by noise level since they were last noted; with the probes.
    metrics: what the stage measures on its fixed samples, on some steps only.
    """

    step: int
    loss: float | None
    probe_loss: float | None
    learning_rate: float
    gradient_norm: float | None
    seconds: float
    by_noise: ByNoise | None = None
    metrics: Mapping[str, float] | None = None


class TrainingState:
    """Weights in training, their running average, the optimiser's moments, the loss scale, the losses by noise level and the log."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: LoopConfig, levels: NoiseLevels | None = None) -> None:
        self.parameters, self.config, self.levels = dict(parameters), config, levels
        self.device = next(iter(parameters.values())).device
        self.optimizer = make_optimizer(parameters.values(), config)
        self.scaler = make_scaler(config.precision, self.device)
        self.average = {name: p.detach().clone() for name, p in parameters.items()}
        self.step, self.records = 0, list[StepRecord]()
        if levels is not None:
            levels.reset()

    def save(self, folder: Path) -> None:
        """Write to `folder`, replacing what was there in one rename."""
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({name: p.detach().contiguous() for name, p in self.parameters.items()}, partial / "weights.safetensors")
        save_file({name: p.contiguous() for name, p in self.average.items()}, partial / "average.safetensors")
        save_file(moments_of(self.optimizer, self.parameters), partial / "moments.safetensors")
        facts = {"step": self.step, "scaler": self.scaler.state_dict(), "records": [asdict(r) for r in self.records]}
        levels = {} if self.levels is None else {"levels": self.levels.totals.tolist()}
        (partial / "state.json").write_text(json.dumps(facts | levels))
        replace_folder(partial, folder)

    def load(self, folder: Path) -> bool:
        """Continue from `folder`; False where there is nothing to continue from."""
        settle_folder(folder)
        if not (folder / "state.json").is_file():
            return False
        facts = json.loads((folder / "state.json").read_text())
        self.step, self.records = facts["step"], [StepRecord(**record) for record in facts["records"]]
        if facts.get("scaler"):  # states written before there was one have none
            self.scaler.load_state_dict(facts["scaler"])
        if self.levels is not None and "levels" in facts:
            self.levels.totals.copy_(torch.tensor(facts["levels"], dtype=torch.float64))
        weights, average, moments = (load_file(folder / f"{name}.safetensors") for name in ("weights", "average", "moments"))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
                self.average[name].copy_(average[name])
        put_moments(self.optimizer, self.parameters, moments)
        return True

    def take_step(self, loss: float) -> tuple[float, float | None]:
        """Clip, step, average; returns (learning rate, gradient norm or None where float16 overflowed and nothing was changed)."""
        rate = rate_at(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm))
        overflowed = self.scaler.is_enabled() and not math.isfinite(norm)
        if not math.isfinite(loss) or not (math.isfinite(norm) or overflowed):
            raise FloatingPointError(f"loss {loss} and gradient norm {norm} at step {self.step}; lower the learning rate")
        self.scaler.step(self.optimizer)  # nothing after an overflow
        self.scaler.update()
        if overflowed and self.scaler.get_scale() < 1:
            raise FloatingPointError(f"gradients overflow float16 at step {self.step} unscaled; lower the learning rate, or use bfloat16")
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if not overflowed:
            self._update_average()
        return rate, None if overflowed else norm

    def _update_average(self) -> None:
        decay = self.config.ema_decay
        keep = 0.0 if decay is None else min(decay, (1 + self.step) / (10 + self.step))  # short memory at first
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.average[name].lerp_(parameter, 1 - keep)

    def finish(self) -> None:
        """Put the running average into the network."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.average[name])
