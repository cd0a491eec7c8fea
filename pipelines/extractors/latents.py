"""Cache of an autoencoder's posterior: mean and standard deviation per frame, times 0.18215, for training at one fixed size and crop.

Training that augments has to encode again; the id in `codec` says what size, crop and scale the numbers are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.clip import Clip, Frames
from pipelines.errors import UserError
from pipelines.extractors.person_box import digest_of_lines
from pipelines.extractors.pretrained_folder import folder_digest, folder_of, half_on_cuda, load_strictly
from pipelines.masks import pack_array

Rows = dict[str, list[dict[str, Any]]]

SCALE = 0.18215


@dataclass(frozen=True, kw_only=True, slots=True)
class Latents:
    """float16 [4, H/8, W/8] mean and std of frames whose size is (width, height): short side resized, middle cut out."""

    name: str = "latents"
    role: str = "sd_vae"
    size: tuple[int, int] = (512, 512)  # width, height px
    batch_frames: int = 4
    version = 1
    tables = ("latents",)

    def __post_init__(self) -> None:
        if any(side <= 0 or side % 8 for side in self.size):
            raise UserError(f"latents: size={self.size} must be (width, height) in positive multiples of 8")

    @property
    def codec(self) -> str:
        """Id of what the numbers are for."""
        return f"{self.role}:{self.size[0]}x{self.size[1]}:centre:scale={SCALE}"

    def weights_digest(self) -> str:
        """sha256 over the network, its settings, the size and the crop."""
        return digest_of_lines(folder_digest(self.role, "config.json"), self.codec)

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows."""
        from diffusers import AutoencoderKL

        network = load_strictly(AutoencoderKL, folder_of(self.role, "config.json"), device)

        def extract(clip: Clip, frames: Frames) -> Rows:
            rows: list[dict[str, Any]] = []
            for start in range(0, len(frames), self.batch_frames):
                rows += self._rows_of(network, frames[start : start + self.batch_frames], device)
            return {"latents": rows}

        return extract

    def _rows_of(self, network: Any, frames: Frames, device: str) -> Iterator[dict[str, Any]]:
        import torch

        x = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode(), half_on_cuda(device):
            posterior = network.encode(centre_crop(x, self.size)).latent_dist
        means, stds = ((values.float() * SCALE).half().cpu().numpy() for values in (posterior.mean, posterior.std))
        for mean, std in zip(means, stds, strict=True):
            packed, shape, dtype = pack_array(mean)
            yield {"codec": self.codec, "mean": packed, "std": pack_array(std)[0], "shape": shape, "dtype": dtype}


def centre_crop(x: Any, size: tuple[int, int]) -> Any:
    """[N, 3, H, W] scaled to just cover size (width, height), antialiased bilinear, and its middle cut out."""
    import torch

    width, height = size
    scale = max(width / x.shape[3], height / x.shape[2])
    large = (max(round(x.shape[2] * scale), height), max(round(x.shape[3] * scale), width))
    if large != tuple(x.shape[2:]):
        x = torch.nn.functional.interpolate(x, large, mode="bilinear", align_corners=False, antialias=True)
    top, left = (large[0] - height) // 2, (large[1] - width) // 2
    return x[:, :, top : top + height, left : left + width]
