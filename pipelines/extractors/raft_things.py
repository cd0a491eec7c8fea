"""RAFT as its authors published it (Teed and Deng 2020, raft-things.pth), in torchvision's RAFT: the names of its tensors.

Both are one architecture (torchvision ported its first weights from these files), under other names. A batch norm on a
shortcut is in the file twice, as `norm3` and as `downsample.1`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.extractors.pretrained_folder import load_state

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = tuple(
    (re.compile(pattern), published)
    for pattern, published in (
        (r"^feature_encoder\.", "fnet."),
        (r"^context_encoder\.", "cnet."),
        (r"net\.conv\.", "net.conv2."),
        (r"\.convnormrelu\.0\.", ".conv1."),
        (r"\.convnormrelu\.1\.", ".norm1."),
        (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
        (r"\.convnormrelu(\d)\.1\.", r".norm\1."),
        (r"\.motion_encoder\.conv(corr|flow)(\d)\.0\.", lambda found: f".encoder.conv{found[1][0]}{found[2]}."),
        (r"\.motion_encoder\.conv\.0\.", ".encoder.conv."),
        (r"\.recurrent_block\.convgru(\d)\.conv(\w)\.", r".gru.conv\2\1."),
        (r"^mask_predictor\.convrelu\.0\.", "update_block.mask.0."),
        (r"^mask_predictor\.conv\.", "update_block.mask.2."),
    )
)


def published_name(name: str) -> str:
    """What the published file calls a tensor of torchvision's network."""
    for pattern, published in _NAMES:
        name = pattern.sub(published, name)
    return f"module.{name}"


def load_published(network: Any, path: Path) -> Any:
    """torchvision's raft_large with exactly the tensors of raft-things.pth, in evaluation mode.

    Raises UserError where one is missing, unknown or misshapen, or where the two copies of a batch norm differ.
    """
    import torch

    state = load_state(path)
    own = network.state_dict()
    names = {name: published_name(name) for name in own}
    copies = {published.replace("downsample.1", "norm3"): published for published in names.values() if ".downsample.1." in published}
    _require_names(path, state, {*names.values(), *copies})
    for copy, published in copies.items():
        if copy in state and not torch.equal(state[copy], state[published]):
            raise UserError(f"{path}: {copy} and {published} differ, but are one batch norm of RAFT; fetch it again")
    for name, published in names.items():
        if published in state and state[published].shape != own[name].shape:
            shapes = f"{tuple(state[published].shape)}, not {tuple(own[name].shape)}"
            raise UserError(f"{path}: {published} has the shape {shapes}; this is no raft-things.pth; fetch it again")
    network.load_state_dict({name: state[published] for name, published in names.items() if published in state}, strict=True)
    return network.eval()


def _require_names(path: Path, state: dict[str, Tensor], wanted: set[str]) -> None:
    """The counters of batch norm, which nothing reads, may be absent (older files lack them); all else must be there."""
    missing = sorted(name for name in wanted - state.keys() if not name.endswith(".num_batches_tracked"))
    unknown = sorted(state.keys() - wanted)
    if missing or unknown:
        said = [f"{what}: {', '.join(names[:5])}" for what, names in (("missing", missing), ("unexpected", unknown)) if names]
        raise UserError(f"{path} is no raft-things.pth ({'; '.join(said)}); fetch it again")
