"""Where a variant's autoencoder lies: the shipped demo one, a local folder, or the Hugging Face cache."""

from __future__ import annotations

import json
from pathlib import Path

from models.latents import packing_of
from models.tiny.autoencoder import SHIPPED


def autoencoder_folder(name: str) -> Path:
    """Folder of `demo`, of a local path, or of a hub id (downloaded once, unless HF_HUB_OFFLINE). Raises MissingWeightsError."""
    if name == "demo":
        return SHIPPED
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    from pipelines.errors import MissingWeightsError

    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", "*.safetensors"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise MissingWeightsError(
            f"no weights for the autoencoder {name}: not a folder, not in the Hugging Face cache, and not to be downloaded ({type(error).__name__}); "
            f"run `hf download {name}` on a machine with network, or use the variant `demo`"
        ) from None


def latent_channels(folder: Path) -> int:
    """Channels of the packed latents of an autoencoder's folder: what a UNet on them takes."""
    channels: int = json.loads((folder / "config.json").read_text())["latent_channels"]
    return channels * packing_of(folder) ** 2


DEMO_CHANNELS = latent_channels(SHIPPED)
"""Of what the demo's UNets see; those of the shipped autoencoder, whatever it was trained with."""
