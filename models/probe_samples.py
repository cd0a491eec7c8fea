"""What a network in training makes of its probe batch: sampled once a step, with a fixed seed, for the picture and the measures alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from models.clip_dataset import Batch
from models.latents import LatentCodec
from models.pictures import save_batch_picture

EQUAL_DB = 100.0  # of pictures without any difference


def psnr(images: Tensor, truth: Tensor) -> float:
    """PSNR in dB of pictures in [-1, 1]: 10 log10(2^2 / MSE), with one MSE over all values of all pictures; 100 where nothing differs."""
    error = (images.float() - truth.float()).square().mean().item()
    return EQUAL_DB if error == 0 else min(EQUAL_DB, 10 * math.log10(4 / error))


class ProbeSamples:
    """Picture and measures of one batch, of the weights as they are (not of their running average).

    generated: [R, K, 3, H, W] in [-1, 1] for a batch, the same for the same weights. It samples, which is costly: once a step.
    first: the step at which what does not change is measured, too. folder: of the pictures.
    """

    def __init__(self, batch: Batch, codec: LatentCodec, generated: Callable[[Batch], Tensor], *, first: int, folder: Path) -> None:
        self.batch, self.codec, self.first, self.folder = batch, codec, first, folder
        self._generated = generated
        self._made: tuple[int, Tensor] | None = None

    def at(self, step: int) -> Tensor:
        """[R, K, 3, H, W] in [-1, 1], sampled when a step is asked for the first time."""
        if self._made is None or self._made[0] != step:
            self._made = step, self._generated(self.batch).cpu()
        return self._made[1]

    def measure(self, step: int) -> dict[str, float]:
        """psnr: of the samples against the target frames. psnr_ceiling: of the autoencoder alone against the same frames, at the first step."""
        truth = self.batch.target_image.cpu()
        measured = {"psnr": psnr(self.at(step).flatten(0, 1), truth)}
        if step == self.first:
            rebuilt = torch.cat([self.codec.decode(clip).cpu() for clip in self.batch.latents])  # one by one: a decoder may see time
            measured["psnr_ceiling"] = psnr(rebuilt, truth)
        return measured

    def picture(self, step: int) -> None:
        """Save `folder/<step>.png`."""
        save_batch_picture(self.folder / f"{step:06d}.png", self.codec, self.batch, self.at(step))
