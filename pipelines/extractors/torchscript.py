"""Opening a TorchScript file: the form in which Inception and I3D are published."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from pipelines.errors import UserError


def load_torchscript(path: Path, device: str) -> Any:
    """The module in evaluation mode. Raises UserError when the file is no TorchScript archive."""
    import torch

    with warnings.catch_warnings():
        # torch 2.15 announces torch.export; the published files exist as TorchScript only.
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*torch.jit.load.*", category=DeprecationWarning)
        try:
            return torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise UserError(f"{path} is not a TorchScript file ({str(error).splitlines()[0]}); download it again") from None
