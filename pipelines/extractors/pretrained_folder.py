"""Networks published as a folder (config.json beside the weights): found, opened strictly, run in half precision on CUDA only."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pipelines.errors import MissingWeightsError, UserError
from pipelines.extractors.person_box import digest_of_lines
from pipelines.micro_batch import is_out_of_memory
from pipelines.weights import WEIGHTS, digest_of, find_weights


def folder_of(role: str, *needed: str) -> Path:
    """The folder of a role, with the files `needed` in it; those of a repository on Hugging Face are fetched.

    Raises MissingWeightsError, which names the first file that is not there.
    """
    path = find_weights(role)
    folder = path if path.is_dir() else path.parent
    for name in needed:
        if not (folder / name).exists():
            _fetch(role, folder, name)
    return folder


def folder_digest(role: str, *needed: str) -> str:
    """sha256 over the weights of a role and the files beside them that the rows depend on."""
    folder = folder_of(role, *needed)
    return digest_of_lines(digest_of(find_weights(role)), *(f"{name} {digest_of(folder / name)}" for name in needed))


def load_strictly(kind: Any, folder: Path, device: str) -> Any:
    """kind.from_pretrained of a folder, in evaluation mode on the device; pickles only as plain tensors.

    Raises UserError where a parameter is missing, has another shape, or is unknown, or where the file is none of its kind.
    """
    only_tensors: dict[str, bool] = {}
    if not kind.__module__.startswith("diffusers"):  # which opens plain tensors only, and shows no bar
        from transformers.utils.logging import disable_progress_bar

        only_tensors = {"weights_only": True}
        disable_progress_bar()  # a bar over the seconds of opening, amid the lines of the run that waits for it
    try:
        model, info = kind.from_pretrained(str(folder), local_files_only=True, output_loading_info=True, **only_tensors)
    except Exception as error:  # each library has its own types for a file that is not what it should be
        if is_out_of_memory(error):
            raise
        raise UserError(f"{folder} cannot be opened as {kind.__name__} ({str(error)[:200]}); fetch its files again") from None
    wrong = {what: sorted(map(str, info.get(f"{what}_keys") or ()))[:5] for what in ("missing", "mismatched", "unexpected")}
    if any(wrong.values()):
        said = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in wrong.items() if keys)
        raise UserError(f"{folder} does not hold the weights of {kind.__name__} ({said}); fetch its files again")
    return model.to(device).eval()


def load_state(path: Path) -> dict[str, Any]:
    """The tensors of a .safetensors or .pth file, without running anything in it. Raises UserError for other files."""
    import torch
    from safetensors.torch import load_file

    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(f"{path} is no file of plain tensors ({str(error).splitlines()[0][:200]}); fetch it again") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} holds no dictionary of tensors; fetch it again")
    return state


def fill(model: Any, state: dict[str, Any], path: Path) -> Any:
    """The model with exactly these tensors, in evaluation mode. Raises UserError for missing, unknown or misshapen ones."""
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        words = " ".join(str(error).split())[:300]
        raise UserError(f"{path} does not hold the weights of {type(model).__name__} ({words}); fetch it again") from None
    return model.eval()


def half_on_cuda(device: str) -> AbstractContextManager[Any]:
    """float16 arithmetic on CUDA; float32 elsewhere."""
    import torch

    return torch.autocast("cuda", torch.float16) if device.startswith("cuda") else nullcontext()


def _fetch(role: str, folder: Path, name: str) -> None:
    from huggingface_hub import hf_hub_download

    weight = WEIGHTS[role]
    in_repository = f"{weight.file}/{name}" if weight.is_folder else str(Path(weight.file).with_name(name))
    try:
        fetched = Path(hf_hub_download(weight.source, in_repository))
    except Exception as error:
        raise MissingWeightsError(
            f"weights for {role!r}: {folder} has no {name} (of {weight.source}; {type(error).__name__}); put it there, "
            f"or run: huggingface-cli download {weight.source} {in_repository}"
        ) from None
    if fetched.parent.resolve() != folder.resolve():
        raise MissingWeightsError(f"weights for {role!r}: {folder} has no {name}; copy {fetched} there")
