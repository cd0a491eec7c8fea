"""What runs: MagicAnimate's network with, or without, face tokens in its denoiser."""

# R = references, K = frames per reference, N = R * K, E = numbers of the face embedding

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from models.checkpoint import load_part
from models.hia.network import Hia, HiaCondition, add_motion, fresh_network, load_network
from models.stable_animator.face_encoder import FaceEncoder
from models.stable_animator.magic.config import MagicConfig
from models.stable_animator.magic.face_bank import FaceBank, IdAdapters, fresh_adapters, read_faces
from models.stable_animator.network import make_face_encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class MagicCondition(HiaCondition):
    """What steers the denoiser; where a reference is dropped, its face is, too. `blur` is empty: MagicAnimate has no blur map."""

    per_reference: ClassVar[tuple[str, ...]] = (*HiaCondition.per_reference, "face")

    face: Tensor  # [R, E] raw embeddings; zeros where no face was found


class MagicAnimate(Hia):
    """The denoiser with its conditions. `adapters` and `face_encoder` are None in the rows without face tokens."""

    def __init__(self, magic: MagicConfig, plain: Hia, adapters: IdAdapters | None, face_encoder: FaceEncoder | None) -> None:
        super().__init__(magic.backbone, plain.denoiser, plain.appearance, plain.controlnet, plain.hint, plain.image_tokens)
        self.magic, self.adapters, self.face_encoder, self.faces = magic, adapters, face_encoder, FaceBank()
        if adapters is not None:
            read_faces(self.denoiser, adapters, self.faces)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: HiaCondition) -> Tensor:
        """Prediction for noisy latents [R, K, C, h, w] at timesteps [R] or [R * K]; same shape as `noisy`."""
        with self.faces.held(self.face_tokens(condition)):
            return super().forward(noisy, timesteps, condition)

    def face_tokens(self, condition: HiaCondition) -> Tensor | None:
        """[R, tokens, D]; zeros for dropped references."""
        if self.face_encoder is None:
            return None
        assert isinstance(condition, MagicCondition)
        tokens = self.face_encoder(condition.face, condition.image_tokens)
        return tokens * (~condition.dropped).to(tokens)[:, None, None]

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by folder."""
        added = {"id_adapters": self.adapters, "face_encoder": self.face_encoder}
        return {**super().parts(), **{name: part for name, part in added.items() if part is not None}}

    def trainable(self, stage: str) -> Mapping[str, nn.Parameter]:
        """stage_1: everything but the appearance encoder's dead tail. stage_2: the temporal layers."""
        return super().trainable("stage_1" if stage == "stage_1" else "stage_3")


def fresh_magic(config: MagicConfig) -> MagicAnimate:
    """Stage 1's start. Raises MissingWeightsError."""
    plain = fresh_network(config.backbone)
    encoder = make_face_encoder(config.faces, plain.denoiser.config.cross_attention_dim)
    return MagicAnimate(config, plain, None if encoder is None else fresh_adapters(plain.denoiser, config.faces), encoder)


def with_motion_modules(network: MagicAnimate) -> MagicAnimate:
    """Stage 2's start: the same weights with motion modules."""
    return MagicAnimate(network.magic, add_motion(network), network.adapters, network.face_encoder)


def load_magic(config: MagicConfig, folder: Path) -> MagicAnimate:
    """From a checkpoint of either stage, strictly."""
    plain, faces = load_network(config.backbone, folder), config.faces.face_method != "none"
    adapters = load_part(IdAdapters, folder / "id_adapters") if faces else None
    return MagicAnimate(config, plain, adapters, load_part(FaceEncoder, folder / "face_encoder") if faces else None)
