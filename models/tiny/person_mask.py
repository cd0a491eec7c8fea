"""The demo's person mask: SAM 2 (Ravi et al. 2024) of transformers at a small size, shown and prompted with the person's box.

pipelines.extractors.body_mask opens it. Shown whole frames, a network of this size spends its few cells on the background.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.tiny.augmentation import Looks, chance, change_looks, cut_out, paste_behind, region, uniform, warp
from models.tiny.boxed_people import BoxedPeople, learnt_from, measured_on, pictures
from models.tiny.clip import save_half
from models.tiny.job import TinyJob
from models.tiny.scenes import boxes_of
from models.training_loop import LoopConfig, LossAt
from pipelines import accuracy
from pipelines.extractors.body_mask import TINY_MARGIN, MaskNetwork
from pipelines.masks import unpack_array

SIZE = 80  # px of the network's picture, which is the person's box; its masks have half of it
BATCH = 8
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WIDTHS, _FPN = (24, 32, 48, 64), 48
_OFF = 0.05  # how far the sides of a box are off at most, of its width or height
_BEHIND = 0.2  # share of pictures with another person behind
_CUT_OUT = 0.1  # share of pictures with a rectangle of one colour
_LOOKS = Looks(brightness=0.15, contrast=0.2, blur_share=0.15, soften_share=0.1, recode_share=0.15, noise_share=0.3, noise=0.04)


def build() -> nn.Module:
    """Untrained. Patches every 2 px, so that a mask has 40 x 40 cells."""
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
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[8, 4, 10, 5], global_attention_blocks=[3], mlp_ratio=2.0,
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=list(_WIDTHS[::-1]), fpn_hidden_size=_FPN, fpn_top_down_levels=[0, 1, 2, 3],
        backbone_feature_sizes=[[cells, cells], [cells // 2, cells // 2], [cells // 4, cells // 4]],
    )  # fmt: skip
    prompt = Sam2PromptEncoderConfig(hidden_size=_FPN, image_size=SIZE, patch_size=8, mask_input_channels=4)
    decoder = Sam2MaskDecoderConfig(
        hidden_size=_FPN, mlp_dim=64, num_attention_heads=2, iou_head_hidden_dim=16, dynamic_multimask_via_stability=False
    )
    return widely_drawn(Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)))


def widely_drawn(network: nn.Module) -> nn.Module:
    """With matrices drawn anew in proportion to their sizes (Glorot and Bengio 2010): the published deviation of 0.02 is for widths of
    hundreds, and at a tenth of them signals fade from layer to layer."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_normal_(module.weight)
    return network


def loss_of(network: nn.Module, data: BoxedPeople) -> LossAt:
    """Cross entropy and overlap (Milletari et al. 2016) of the mask of the person in the box, which is a little off."""
    device = next(network.parameters()).device
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (_MEAN, _STD))

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        images, masks = views(data, BATCH, generator, device)
        boxes = boxes_of(masks.cpu())[:, 0]
        there = (boxes[:, 2] > 0).float().to(device)
        prompts = (boxes + _sides(boxes) * uniform(generator, (BATCH, 4), -_OFF, _OFF)).clamp(0, SIZE)
        logits = network(pixel_values=(images - mean) / std, input_boxes=prompts[:, None].to(device), multimask_output=False).pred_masks[
            :, 0
        ]
        return mask_loss(logits, F.avg_pool2d(masks, 2), there)

    return loss_at


def views(data: BoxedPeople, count: int, generator: torch.Generator, device: Any = "cpu") -> tuple[Tensor, Tensor]:
    """Pictures [B, 3, SIZE, SIZE] RGB in 0..1 of boxes that are a little off, cut as the extractor cuts them and changed at random, and
    masks [B, 1, SIZE, SIZE] of their persons. Some have another person behind."""
    chosen = torch.randint(len(data.boxes), (count,), generator=generator).numpy()
    frames, masks = (values.to(device) for values in pictures(data, chosen))
    frames = paste_behind(frames, masks, generator, _BEHIND)
    height, width = frames.shape[-2:]
    boxes = torch.from_numpy(data.boxes[chosen])
    boxes = boxes + _sides(boxes) * uniform(generator, (count, 4), -_OFF, _OFF)
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * TINY_MARGIN
    first, last = (corner.clamp(torch.zeros(2), torch.tensor([width, height]).float()) for corner in (middle - half, middle + half))
    maps = region((first + last) / 2, (last - first).clamp_min(4), (SIZE, SIZE), flip=chance(generator, count, 0.5))
    cut = warp(torch.cat([frames, masks], 1), maps, (SIZE, SIZE))
    return cut_out(change_looks(cut[:, :3], generator, _LOOKS), generator, _CUT_OUT), cut[:, 3:]


def _sides(boxes: Tensor) -> Tensor:
    """Width, height, width, height [B, 4] of boxes [B, 4]."""
    return (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)


def mask_loss(logits: Tensor, masks: Tensor, there: Tensor) -> Tensor:
    """logits, masks [B, 1, y, x]; there [B] 0 for pictures without their person, which do not count."""
    crossing = F.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean((1, 2, 3))
    soft = logits.sigmoid()
    dice = 1 - (2 * (soft * masks).sum((1, 2, 3)) + 1) / ((soft + masks).sum((1, 2, 3)) + 1)
    return ((5 * crossing + dice) * there).sum() / there.sum().clamp_min(1)


def export(network: Any, folder: Path) -> None:
    """config.json, preprocessor_config.json, model.safetensors with weights in half precision."""
    from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor

    save_half(network, folder)
    cells = {"height": SIZE // 2, "width": SIZE // 2}
    processor = Sam2ImageProcessor(size={"height": SIZE, "width": SIZE}, mask_size=cells, image_mean=list(_MEAN), image_std=list(_STD))
    processor.save_pretrained(folder)


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen."""
    return scores_of(MaskNetwork(folder, "cpu", TINY_MARGIN), measured_on(cache))


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
    purpose="A SAM 2.1 of a few channels that is shown the person's box, for Rotoscope's demo on performers.",
    loop=LoopConfig(steps=4000, learning_rate=2e-3, warmup_steps=50, decay="cosine", pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    measure=measure,
)
