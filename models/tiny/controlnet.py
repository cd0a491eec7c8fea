"""The tiny ControlNet (Zhang et al. 2023): skeletons steer the tiny base, in the place of control_v11p_sd15_openpose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.animate_anyone.config import DEMO
from models.autoencoders import autoencoder_folder
from models.checkpoint import load_part
from models.clip_dataset import Points, draw_poses, to_frames, to_unit
from models.guidance import draw_dropped
from models.latents import LatentCodec
from models.noise import add_noise, alpha_bar, diffusion_loss, draw_noise, loss_weight, make_scheduler, target_of
from models.pretrained_networks import base_unet_folder
from models.sampling_loop import sample_windows
from models.tiny.augmentation import mirrored
from models.tiny.base_unet import NOISE, learnt_from, save_half
from models.tiny.boxed_people import MEASURED_ON
from models.tiny.job import TinyJob
from models.tiny.latent_people import LatentPeople, latent_people
from models.training_loop import LoopConfig, LossAt, generator_for
from pipelines import accuracy
from pipelines.clip import Frames
from pipelines.extractors.dwpose import in_batches
from pipelines.extractors.simcc import SimCC
from pipelines.weights import weights_at_hand

BATCH = 16
EMPTY_SHARE = 0.5  # of captions: so the skeleton is read even where words say enough (Zhang et al. 2023, Sec. 3.4)
LEAST_TIMESTEP = 250  # of training: where less noise is, the pose is seen without a skeleton
LEVELS = (500, 750, 999)  # timesteps at which it is measured: where the pose is not in the noisy latent
SAMPLED, SAMPLING_STEPS = 32, 10  # frames and DDIM steps of the pose error


def build() -> nn.Module:
    """A copy of the shipped base's encoder with zero convolutions behind it. Raises MissingWeightsError."""
    from diffusers import ControlNetModel

    network: Any = ControlNetModel.from_unet(demo_base(), conditioning_embedding_out_channels=DEMO.network.guider_widths)
    # Zhang et al. begin with an embedding of zero behind layers of PyTorch's default scale, each of which shrinks the skeleton: hardly anything was
    # learnt in 2,000 steps. Zero are the convolutions behind the encoder alone, so that nothing changes at first.
    hint = network.controlnet_cond_embedding
    for convolution in (hint.conv_in, *hint.blocks, hint.conv_out):
        nn.init.kaiming_normal_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    made: nn.Module = network
    return made


def demo_base() -> Any:
    """The shipped base, frozen. Raises MissingWeightsError."""
    from diffusers import UNet2DConditionModel

    return load_part(UNet2DConditionModel, base_unet_folder("demo")).eval().requires_grad_(False)


def loss_of(network: nn.Module, data: LatentPeople) -> LossAt:
    """v of random frames, half of them mirrored, with their skeletons."""
    device, scheduler = next(network.parameters()).device, make_scheduler(NOISE)
    base = demo_base().to(device)

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(data.latents), (BATCH,), generator=generator)
        flip = torch.rand(BATCH, generator=generator) < 0.5
        clean, text = data.drawn(chosen, flip), data.told(chosen, draw_dropped(BATCH, EMPTY_SHARE, generator))
        timesteps = torch.randint(LEAST_TIMESTEP, NOISE.train_steps, (BATCH,), generator=generator)
        noise = draw_noise(clean.shape, NOISE, generator)
        alpha = alpha_bar(scheduler, timesteps, clean)
        noisy = add_noise(clean, noise, alpha).to(device)
        prediction = controlled(base, network, noisy, timesteps.to(device), text.to(device), skeletons(data, chosen, flip).to(device))
        target, weight = target_of(clean, noise, alpha, NOISE.objective), loss_weight(alpha, NOISE)
        return diffusion_loss(prediction, target.to(device), weight.to(device))

    return loss_at


def controlled(base: Any, control: Any, noisy: Tensor, timesteps: Tensor, text: Tensor, skeleton: Tensor) -> Tensor:
    """v of the base under the ControlNet: noisy [B, C, h, w], text [B, 77, D], skeleton [B, 3, H, W] in [0, 1]."""
    down, mid = control(noisy, timesteps, encoder_hidden_states=text, controlnet_cond=skeleton, return_dict=False)
    prediction: Tensor = base(
        noisy, timesteps, encoder_hidden_states=text, down_block_additional_residuals=down, mid_block_additional_residual=mid
    ).sample
    return prediction


def skeletons(data: LatentPeople, chosen: Tensor, flip: Tensor) -> Tensor:
    """Pose images [B, 3, H, W] in [0, 1] of frames `chosen` [B], mirrored where `flip` [B]."""
    height, width = data.people.frames.shape[1:3]
    return to_unit(draw_poses(*posed(data, chosen, flip), (height, width)))


def posed(data: LatentPeople, chosen: Tensor, flip: Tensor) -> tuple[Points, Points]:
    """True points [B, 133, 2] px and visibilities [B, 133]."""
    points = torch.from_numpy(np.array(data.people.truth["keypoints"][chosen.numpy()]))
    scores = torch.from_numpy(np.array(data.people.truth["scores"][chosen.numpy()]))
    turned = torch.stack([data.people.frames.shape[2] - 1 - points[..., 0], points[..., 1]], dim=-1)
    points = torch.where(flip[:, None, None], turned, points)
    return mirrored(points, flip).numpy(), mirrored(scores, flip).numpy()


def export(network: Any, folder: Path) -> None:
    """config.json and diffusion_pytorch_model.safetensors (float16) of a ControlNetModel."""
    save_half(network, folder)


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen; the pose error too where dwpose_tiny is shipped."""
    from diffusers import ControlNetModel

    data, control = latent_people(MEASURED_ON, cache), load_part(ControlNetModel, folder).eval()
    scores, base, network = scores_of(demo_base(), control, data), demo_base(), weights_at_hand("dwpose_tiny")
    return scores if network is None else {**scores, **pose_errors(base, control, data, SimCC(network))}


def scores_of(base: Any, control: Any, data: LatentPeople) -> dict[str, float]:
    """Mean squared error of v with the right skeleton, with another clip's, and by the base alone."""
    frames = torch.arange(0, len(data.latents), 4)
    still = torch.zeros(len(frames), dtype=torch.bool)
    right = skeletons(data, frames, still)
    shown = {"v_loss": right, "v_loss_wrong_skeleton": right.roll(len(frames) // 2, dims=0), "v_loss_of_the_base": None}
    return {
        name: sum(_v_loss(base, control, data, frames, image, level) for level in LEVELS) / len(LEVELS) for name, image in shown.items()
    }


@torch.no_grad()
def _v_loss(base: Any, control: Any, data: LatentPeople, frames: Tensor, skeleton: Tensor | None, level: int) -> float:
    clean, text = data.drawn(frames, torch.zeros(len(frames), dtype=torch.bool)), data.told(frames)
    noise, times = torch.randn(clean.shape, generator=generator_for(1, level)), torch.full((len(frames),), level)
    alpha = alpha_bar(make_scheduler(NOISE), times, clean)
    noisy, target = add_noise(clean, noise, alpha), target_of(clean, noise, alpha, NOISE.objective)
    found = []
    for rows in torch.arange(len(frames)).split(32):
        given = noisy[rows], times[rows], text[rows]
        found.append(base(*given).sample if skeleton is None else controlled(base, control, *given, skeleton[rows]))
    return float((torch.cat(found) - target).square().mean())


def pose_errors(base: Any, control: Any, data: LatentPeople, network: SimCC) -> dict[str, float]:
    """Distance of the keypoints seen in sampled frames from those asked for, in % of the person's height; and in the true frames."""
    frames = torch.linspace(0, len(data.latents) - 1, min(SAMPLED, len(data.latents))).long()
    still = torch.zeros(len(frames), dtype=torch.bool)
    made = sampled(base, control, data.told(frames), skeletons(data, frames, still), seed=0)
    points, scores = posed(data, frames, still)
    shown = {"pose_error_percent": made, "pose_error_of_the_truth_percent": np.array(data.people.frames[frames.numpy()])}
    return {name: _pose_error(network, images, points, scores) for name, images in shown.items()}


def _pose_error(network: SimCC, images: Frames, points: Points, scores: Points) -> float:
    """Within the box of the points asked for: what is measured is the pose, not whether somebody is found."""
    seen = scores >= 1
    boxes: npt.NDArray[np.float32] = np.stack(
        [np.concatenate([p[s].min(0), p[s].max(0)]) if s.any() else np.array([0, 0, 1, 1]) for p, s in zip(points, seen, strict=True)]
    ).astype(np.float32)
    found, _ = in_batches(network, images, range(len(images)), boxes, 32)
    return float(np.nanmean(accuracy.keypoint_error(found[:, :17], points[:, :17], seen[:, :17], boxes[:, 3] - boxes[:, 1])))


@torch.no_grad()
def sampled(base: Any, control: Any, text: Tensor, skeleton: Tensor, seed: int) -> Frames:
    """uint8 [N, H, W, 3]: frames with these captions and skeletons, by DDIM."""
    codec = LatentCodec.load(autoencoder_folder("demo"))
    side = skeleton.shape[-1] // 2 ** (len(DEMO.network.guider_widths) - 1)

    def predict(latents: Tensor, window: list[int], timestep: int) -> Tensor:
        return controlled(base, control, latents, torch.full((len(window),), timestep), text[window], skeleton[window])

    noise = torch.randn(len(text), base.config.in_channels, side, side, generator=generator_for(seed, 0))
    latents = sample_windows(predict, noise, make_scheduler(NOISE), SAMPLING_STEPS, lambda _: [list(range(len(text)))])
    return to_frames(codec.decode(latents))


JOB = TinyJob(
    name="controlnet",
    title="OpenPose ControlNet of the demo's generators",
    purpose="A ControlNetModel for the tiny base, steered by drawn skeletons, in the place of the OpenPose ControlNet of Stable Diffusion.",
    loop=LoopConfig(steps=2000, learning_rate=3e-3, warmup_steps=50, decay="cosine", ema_decay=0.995, pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    packed=True,
    packed_against="base_unet",
    measure=measure,
)
