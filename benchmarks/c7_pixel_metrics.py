"""C7: SSIM, PSNR and L1 of a clip, against scikit-image and torchmetrics on the same frames.

python -m benchmarks.c7_pixel_metrics [--frames 64] [--size 512] [--rounds 3]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.side_by_side import alternate, report
from eval.metrics.l1 import l1
from eval.metrics.psnr import psnr
from eval.metrics.ssim import gray, ssim
from pipelines.clip import Frames


def clip(frames: int, size: int) -> tuple[Frames, Frames]:
    """(prediction, truth): smooth moving noise, and the same with errors."""
    import cv2

    rng = np.random.default_rng(0)
    truth = np.stack([cv2.resize(rng.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8), (size, size)) for _ in range(frames)])
    return np.clip(truth + rng.normal(0, 12, truth.shape), 0, 255).astype(np.uint8), truth


def scikit_image(prediction: Frames, truth: Frames) -> dict[str, Callable[[], float]]:
    """As its users call it, frame by frame."""
    pairs = list(zip(prediction, truth, strict=True))
    return {
        "ssim": lambda: float(np.mean([structural_similarity(gray(p), gray(t)) for p, t in pairs])),
        "psnr": lambda: float(np.mean([peak_signal_noise_ratio(t, p) for p, t in pairs])),
        "l1": lambda: float(np.mean([np.abs(p.astype(np.float64) - t).mean() / 255 for p, t in pairs])),
    }


def torchmetrics(prediction: Frames, truth: Frames) -> dict[str, Callable[[], float]]:
    """Its functions with the same definitions: SSIM with the uniform 7x7 window on gray, mean of the frames' PSNR."""
    import torch
    from torchmetrics.functional import mean_absolute_error
    from torchmetrics.functional.image import peak_signal_noise_ratio as tm_psnr
    from torchmetrics.functional.image import structural_similarity_index_measure as tm_ssim

    def grays(frames: Frames) -> torch.Tensor:
        return torch.from_numpy(np.stack([gray(frame) for frame in frames]))[:, None].float()

    def colour(frames: Frames) -> torch.Tensor:
        return torch.from_numpy(frames).float()

    return {
        "ssim": lambda: float(tm_ssim(grays(prediction), grays(truth), gaussian_kernel=False, kernel_size=7, data_range=255.0)),
        "psnr": lambda: float(tm_psnr(colour(prediction), colour(truth), data_range=255.0, dim=(1, 2, 3), reduction="elementwise_mean")),
        "l1": lambda: float(mean_absolute_error(colour(prediction), colour(truth))) / 255,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    prediction, truth = clip(options.frames, options.size)
    peers = {"scikit_image": scikit_image(prediction, truth), "torchmetrics": torchmetrics(prediction, truth)}
    for name, metric in (("ssim", ssim), ("psnr", psnr), ("l1", l1)):
        value = float(metric(prediction, truth).mean())
        off = {peer: abs(functions[name]() - value) for peer, functions in peers.items()}
        assert off["scikit_image"] < 1e-9, off
        assert off["torchmetrics"] < (2e-2 if name == "ssim" else 1e-3), off  # torchmetrics' SSIM uses the plain covariance, and pads
        seconds = alternate(
            {"ours": lambda m=metric: m(prediction, truth), **{peer: fs[name] for peer, fs in peers.items()}}, options.rounds
        )
        ratios = {peer: (seconds[peer] / seconds["ours"], 2.0) for peer in peers}
        report(f"C7 {name}", seconds, ratios, "differences " + ", ".join(f"{peer} {value:.1e}" for peer, value in off.items()))


if __name__ == "__main__":
    main()
