"""The demo's person mask: SAM 2 (Ravi et al. 2024) of transformers at a small size, prompted by the person's box; pipelines.extractors.body_mask opens it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.tiny.augmentation import uniform
from models.tiny.boxed_people import BoxedPeople, learnt_from, measured_on
from models.tiny.job import TinyJob
from models.tiny.scenes import boxes_of, scenes
from models.training_loop import LoopConfig, LossAt
from pipelines import accuracy
from pipelines.extractors.body_mask import MaskNetwork
from pipelines.masks import unpack_array

SIZE = 128  # px of the network's picture; its masks have half of it
BATCH = 8
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WIDTHS, _FPN = (16, 24, 32, 48), 32


def build() -> nn.Module:
    """Untrained. Patches every 2 px, so that a mask has 64 x 64 cells."""
    from transformers import Sam2Config, Sam2Model
    from transformers.models.sam2.configuration_sam2 import (
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    cells = SIZE // 2
    backbone = Sam2HieraDetConfig(
        hidden_size=_WIDTHS[0], num_attention_heads=1, image_size=[SIZE, SIZE], patch_stride=[2, 2],
        window_positional_embedding_background_size=[8, 8], blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=list(_WIDTHS),
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[8, 4, 8, 4], global_attention_blocks=[3], mlp_ratio=2.0,
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=list(_WIDTHS[::-1]), fpn_hidden_size=_FPN, fpn_top_down_levels=[0, 1, 2, 3],
        backbone_feature_sizes=[[cells, cells], [cells // 2, cells // 2], [cells // 4, cells // 4]],
    )  # fmt: skip
    prompt = Sam2PromptEncoderConfig(hidden_size=_FPN, image_size=SIZE, patch_size=8, mask_input_channels=4)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=_FPN, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=16, dynamic_multimask_via_stability=False
    )
    return Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))


def loss_of(network: nn.Module, data: BoxedPeople) -> LossAt:
    """Cross entropy and overlap (Milletari et al. 2016) of the mask of one person, prompted by a box that is a little off."""
    device = next(network.parameters()).device
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (_MEAN, _STD))

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        images, masks = scenes(data, BATCH, SIZE, generator)
        boxes, own = boxes_of(masks), 0
        sides = (boxes[:, own, 2:] - boxes[:, own, :2]).repeat(1, 2)
        prompts = (boxes[:, own] + sides * uniform(generator, (BATCH, 4), -0.05, 0.05)).clamp(0, SIZE)
        there = (boxes[:, own, 2] > 0).float().to(device)
        logits = network(
            pixel_values=(images.to(device) - mean) / std, input_boxes=prompts[:, None].to(device), multimask_output=False
        ).pred_masks[:, 0]
        return mask_loss(logits, F.avg_pool2d(masks[:, own : own + 1], 2).to(device), there)

    return loss_at


def mask_loss(logits: Tensor, masks: Tensor, there: Tensor) -> Tensor:
    """logits, masks [B, 1, y, x]; there [B] 0 for pictures without their person, which do not count."""
    crossing = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean((1, 2, 3))
    soft = logits.sigmoid()
    dice = 1 - (2 * (soft * masks).sum((1, 2, 3)) + 1) / ((soft + masks).sum((1, 2, 3)) + 1)
    return ((5 * crossing + dice) * there).sum() / there.sum().clamp_min(1)


def export(network: Any, folder: Path) -> None:
    """config.json, preprocessor_config.json, model.safetensors."""
    from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor

    network.save_pretrained(folder)
    cells = {"height": SIZE // 2, "width": SIZE // 2}
    processor = Sam2ImageProcessor(size={"height": SIZE, "width": SIZE}, mask_size=cells, image_mean=list(_MEAN), image_std=list(_STD))
    processor.save_pretrained(folder)


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen."""
    return scores_of(MaskNetwork(folder, "cpu"), measured_on(cache))


def scores_of(network: MaskNetwork, data: BoxedPeople) -> dict[str, float]:
    """Mean IoU from true boxes, and the mean distance in px of the found mask's edge from the true one's and back."""
    frames, true = data.people.frames, data.people.truth["iuv"][..., 0] > 0
    found = np.concatenate([_hard(network, frames[i : i + 16], data.boxes[i : i + 16]) for i in range(0, len(frames), 16)])
    errors = [boundary_error(a, b) for a, b in zip(found, true, strict=True)]
    return {"mask_iou": float(np.nanmean(accuracy.mask_iou(found, true))), "boundary_error_px": float(np.nanmean(errors))}


def _hard(network: MaskNetwork, frames: Any, boxes: Any) -> Any:
    rows = network.rows(frames, list(boxes))
    return np.stack([unpack_array(row["soft"], row["soft_shape"], row["soft_dtype"]) >= 128 for row in rows])


def boundary_error(found: Any, true: Any) -> float:
    """Mean of the distances in px from each edge pixel of one mask [H, W] to the other's edge, both ways; NaN where one is empty."""
    import cv2

    edges = [mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) for mask in (found, true)]
    if not (edges[0].any() and edges[1].any()):
        return float("nan")
    far = [cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5) for edge in edges]
    return float((far[1][edges[0]].mean() + far[0][edges[1]].mean()) / 2)


JOB = TinyJob(
    name="person_mask",
    title="Person masks of the demo",
    purpose="A SAM 2.1 of a few channels, prompted by the person's box, for Rotoscope's demo on performers.",
    loop=LoopConfig(steps=3000, learning_rate=1.5e-3, warmup_steps=50, decay="cosine", pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    measure=measure,
)
