"""Where a variant's base networks lie: those of the tiny family (`demo`), a local folder, or the Hugging Face cache."""

from __future__ import annotations

from pathlib import Path

from models.tiny.job import SHIPPED
from pipelines.errors import MissingWeightsError, UserError
from pipelines.packed_weights import whole

_MODEL = ("config.json", "diffusion_pytorch_model.safetensors")  # of diffusers
_TOWER = ("config.json", "model.safetensors")  # of transformers


def base_unet_folder(name: str) -> Path:
    """Folder of a UNet2DConditionModel: `unet` of `demo`, of a local pipeline's folder, or of a hub id. Raises MissingWeightsError."""
    return _shipped("base_unet") / "unet" if name == "demo" else _folder_of(name, "unet", _MODEL)


def motion_adapter_folder(name: str) -> Path:
    """Folder of a MotionAdapter: of `demo`, a local one, or of a hub id. Raises MissingWeightsError."""
    return _shipped("motion_module") if name == "demo" else _folder_of(name, "", _MODEL)


def controlnet_folder(name: str) -> Path:
    """Folder of a ControlNetModel: of `demo`, a local one, or of a hub id. Raises MissingWeightsError."""
    return _shipped("controlnet") if name == "demo" else _folder_of(name, "", _MODEL)


def ip_adapter_folder(name: str) -> Path:
    """Folder with an IP-Adapter's one file (models/ip_adapter.py reads it): `demo`, a local one, or `models` of a hub id. Raises MissingWeightsError."""
    return _shipped("ip_adapter") if name == "demo" else _folder_of(name, "models", ("ip-adapter_sd15.safetensors",))


def ip_adapter_file(name: str) -> Path:
    """The safetensors file of an IP-Adapter. Raises MissingWeightsError, and UserError where a local folder holds none or several."""
    folder = ip_adapter_folder(name)
    found = sorted(folder.glob("ip-adapter*.safetensors"))
    chosen = [path for path in found if path.name == "ip-adapter_sd15.safetensors"] if len(found) > 1 else found
    if len(chosen) != 1:
        raise UserError(f"{folder} must hold one ip-adapter*.safetensors, it has {[path.name for path in found]}; name a folder with one")
    return chosen[0]


def svd_vae_folder() -> Path:
    """The tiny family's temporal autoencoder. Raises MissingWeightsError."""
    return _shipped("svd_vae")


def text_encoder_folder(name: str) -> Path:
    """Folder that models/text_tokens.py reads: the tiny CLIP of `demo`, a local folder, or text_encoder/ and tokenizer/ of a hub id.

    Raises MissingWeightsError.
    """
    if name == "demo":
        return _shipped("clip")
    tower = tuple(f"text_encoder/{file}" for file in _TOWER)
    return _folder_of(name, "", (*tower, "tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer_config.json"))


def image_encoder_folder(name: str) -> Path:
    """Folder of a CLIP image encoder: the tiny CLIP of `demo`, a local one, or, of a hub id with an IP-Adapter, models/image_encoder, else image_encoder.

    Raises MissingWeightsError.
    """
    if name == "demo":
        return _shipped("clip")
    return _folder_of(name, "models/image_encoder" if name == "h94/IP-Adapter" else "image_encoder", _TOWER)


def _shipped(job: str) -> Path:
    folder = SHIPPED / job
    if not (folder / "card.json").is_file():
        raise MissingWeightsError(
            f"the tiny family's {job} is not shipped: {folder} has no card; run: rotoscope tiny train {job}, or use a variant without it"
        )
    return whole(folder)


def _folder_of(name: str, subfolder: str, files: tuple[str, ...]) -> Path:
    """A local folder's `subfolder` where it has one, else the folder itself; or those files of a hub id."""
    if Path(name).is_dir():
        inner = Path(name) / subfolder
        return inner if inner.is_dir() else Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    inside = f"{subfolder}/" if subfolder else ""
    try:
        return Path(snapshot_download(name, allow_patterns=[inside + file for file in files])) / subfolder
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise MissingWeightsError(
            f"no weights {inside or 'of '}{name}: not a folder, not in the Hugging Face cache, and not to be downloaded ({type(error).__name__}); "
            f"run `hf download {name}` on a machine with network, or use the variant `demo`"
        ) from None
