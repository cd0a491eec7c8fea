"""Adaptation to actions (Sec. 3.2, Eq. 5): pose features look at the tokens of a spatio-temporal network."""

# N = frames of all references, R = references, L = places (h * w), M = motion tokens (256), C = channels

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.hfca.pose_descriptor import DESCRIPTOR, pose_descriptor
from pipelines.errors import UserError
from pipelines.keypoints import Points, Scores


class ActionAttention(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Cross-attention from pose to motion,

        Q = Wq f_pose,   K = Wk f_motion,   V = Wv f_motion,   f = sum_j softmax_j(Q_i K_j / sqrt(d)) V_j   (j = 1 ... 256),

    added to the pose features through Wout = 0, so that a fresh one changes nothing. The formula has one head; `heads` is ours, as are
    Wout, the null tokens (for dropped references and for motion that nobody saw) and the bank of class prototypes.
    """

    prototypes: Tensor  # [classes, M, tokens' channels]
    descriptors: Tensor  # [classes, D] of the poses of each class

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, pose_channels: int = 320, token_channels: int = 512, tokens: int = 256, heads: int = 8, classes: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.heads, self.classes = heads, tuple(classes)
        self.to_q = nn.Linear(pose_channels, pose_channels, bias=False)
        self.to_k, self.to_v = (nn.Linear(token_channels, pose_channels, bias=False) for _ in range(2))
        self.to_out = nn.Linear(pose_channels, pose_channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)
        self.null = nn.Parameter(0.02 * torch.randn(tokens, token_channels))
        self.register_buffer("prototypes", torch.zeros(len(self.classes), tokens, token_channels))
        self.register_buffer("descriptors", torch.zeros(len(self.classes), DESCRIPTOR))

    def forward(self, pose: Tensor, actions: Tensor | None, dropped: Tensor) -> Tensor:
        """f_pose' of pose features [N, C, h, w]; actions [R, M, C'] or None for the null tokens; dropped [R] bool: null tokens there."""
        height, width = pose.shape[-2:]
        queries = pose.flatten(2).transpose(1, 2)  # [N, L, C]
        motion = self.motion(actions, dropped)  # [R, M, C']
        each = len(pose) // len(motion)
        keys, values = (self._heads(layer(motion)).repeat_interleave(each, dim=0) for layer in (self.to_k, self.to_v))
        found = F.scaled_dot_product_attention(self._heads(self.to_q(queries)), keys, values)
        added = self.to_out(found.transpose(1, 2).flatten(2))
        return pose + added.transpose(1, 2).unflatten(-1, (height, width))

    def motion(self, actions: Tensor | None, dropped: Tensor) -> Tensor:
        """[R, M, C'] tokens that are looked at. Raises UserError for tokens of another network."""
        null = self.null.expand(len(dropped), -1, -1)
        if actions is None:
            return null
        if actions.shape[1:] != self.null.shape:
            got, wanted = (" x ".join(map(str, shape)) for shape in (actions.shape[1:], self.null.shape))
            raise UserError(
                f"action tokens are {got}, this network takes {wanted}; extract `actions` with the network of the variant (role action or action_tiny)"
            )
        return torch.where(dropped[:, None, None], null, actions)

    def _heads(self, x: Tensor) -> Tensor:
        """[.., T, C] -> [.., heads, T, C / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    @torch.no_grad()
    def learn(self, tokens: Mapping[str, Sequence[Tensor]], poses: Mapping[str, Sequence[Tensor]]) -> None:
        """Set the prototypes: per class, the mean of its samples' tokens [M, C'] and of their pose descriptors [D]."""
        for index, name in enumerate(self.classes):
            self.prototypes[index] = torch.stack(list(tokens[name])).mean(dim=0)
            self.descriptors[index] = torch.stack(list(poses[name])).mean(dim=0)

    def nearest_class(self, points: Points, scores: Scores) -> int | None:
        """The class whose poses are most like these, [T, 133, 2] px and [T, 133]; None where the bank is empty.

        Nearest mean of pose descriptors, each number in units of its spread over the classes ([D]: the paper names no classifier).
        """
        if not self.classes:
            return None
        spread = self.descriptors.std(dim=0, correction=0).clamp(min=1e-3)
        distances = (self.descriptors - pose_descriptor(points, scores).to(spread)) / spread
        return int(distances.square().sum(dim=1).argmin())
