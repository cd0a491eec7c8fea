"""Where a variant's base networks lie: those of the tiny family (`demo`), a local folder, or the Hugging Face cache."""

from __future__ import annotations

from pathlib import Path

from models.tiny.job import SHIPPED
from pipelines.errors import MissingWeightsError


def base_unet_folder(name: str) -> Path:
    """Folder of a UNet2DConditionModel: `unet` of `demo`, of a local pipeline's folder, or of a hub id. Raises MissingWeightsError."""
    return _shipped("base_unet") / "unet" if name == "demo" else _folder_of(name, "unet")


def motion_adapter_folder(name: str) -> Path:
    """Folder of a MotionAdapter: of `demo`, a local one, or of a hub id. Raises MissingWeightsError."""
    return _shipped("motion_module") if name == "demo" else _folder_of(name, "")


def _shipped(job: str) -> Path:
    folder = SHIPPED / job
    if not (folder / "card.json").is_file():
        raise MissingWeightsError(
            f"the tiny family's {job} is not shipped: {folder} has no card; run: rotoscope tiny train {job}, or use a variant without it"
        )
    return folder


def _folder_of(name: str, subfolder: str) -> Path:
    if Path(name).is_dir():
        return Path(name) / subfolder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    inside = f"{subfolder}/" if subfolder else ""
    wanted = [f"{inside}config.json", f"{inside}diffusion_pytorch_model.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted)) / subfolder
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise MissingWeightsError(
            f"no weights {inside or 'of '}{name}: not a folder, not in the Hugging Face cache, and not to be downloaded ({type(error).__name__}); "
            f"run `hf download {name}` on a machine with network, or use the variant `demo`"
        ) from None
