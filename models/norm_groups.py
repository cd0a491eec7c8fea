"""Group norms of networks that are narrower than the published ones.

diffusers writes 32 groups into the blocks of Stable Video Diffusion's networks. Where 32 channels have a group each, every channel loses its
mean: the colour of a frame and the mean of its noise have a hard way through the last norm, and a small autoencoder learns slowly. So the tiny ones have
fewer groups, which their config.json says under a name that diffusers ignores.
"""

from __future__ import annotations

from typing import Any

from torch import nn

KEY = "_norm_groups"  # diffusers passes over names that begin so


def regrouped(network: Any, groups: int) -> Any:
    """The same network of diffusers with so many groups in every group norm, which its config says from then on.

    Raises ValueError where channels cannot be divided so.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    wide = sorted({norm.num_channels for norm in norms if norm.num_channels % groups})
    if wide:
        raise ValueError(f"groups={groups} does not divide {wide[0]} channels")
    for norm in norms:
        norm.num_groups = groups
    network.register_to_config(**{KEY: groups})
    return network
