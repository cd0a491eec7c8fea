"""The tiny IP-Adapter (Ye et al. 2023): picture prompts for the tiny base, in the file layout of ip-adapter_sd15.safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.guidance import draw_dropped
from models.noise import add_noise, alpha_bar, diffusion_loss, draw_noise, loss_weight, make_scheduler, target_of
from models.tiny.base_unet import NOISE
from models.tiny.boxed_people import LEARNT_FROM, MEASURED_ON
from models.tiny.controlnet import demo_base
from models.tiny.job import TinyJob
from models.tiny.latent_people import LatentPeople, latent_people
from models.training_loop import LoopConfig, LossAt, generator_for
from pipelines.clip import Clip, Frames
from pipelines.extractors.clip_image import CLIP_TINY

# N = frames, D = numbers of a picture's embedding
BATCH = 16
TOKENS = 4  # of a picture, as the published adapter has them
NO_PICTURE_SHARE, NO_TEXT_SHARE = 0.05, 0.3  # of samples; 0.05 is the paper's, fewer words make the picture count for more in little time
LEVELS = (500, 750, 999)  # timesteps at which it is measured
FILE = "ip-adapter_tiny.safetensors"


@dataclass(frozen=True, slots=True)
class PicturePeople:
    """People with the `embeddings` [N, D] of their frames by the clip_image_tiny extractor."""

    seen: LatentPeople
    embeddings: Tensor


def build() -> nn.Module:
    """The shipped base, frozen, with new picture attention whose values are zero: nothing changes yet. Raises MissingWeightsError."""
    base = demo_base()
    base._load_ip_adapter_weights([fresh_state(base)], low_cpu_mem_usage=False)
    base.requires_grad_(False)
    for name, parameter in base.named_parameters():
        parameter.requires_grad_("_ip." in name or name.startswith("encoder_hid_proj."))
    network: nn.Module = base
    return network


def fresh_state(base: Any) -> dict[str, dict[str, Tensor]]:
    """Untrained weights in the published layout: image_proj by name, ip_adapter by the odd number of the attention layer."""
    from diffusers.models.embeddings import ImageProjection

    width: int = base.config.cross_attention_dim
    projection = ImageProjection(image_embed_dim=_embedding_size(), cross_attention_dim=width, num_image_text_embeds=TOKENS)
    named = {name.replace("image_embeds.", "proj."): value.detach() for name, value in projection.state_dict().items()}
    attention = {}
    for number, layer in enumerate(_text_attentions(base)):
        wide = layer.to_k.out_features
        attention[f"{2 * number + 1}.to_k_ip.weight"] = layer.to_k.weight.detach().clone()
        attention[f"{2 * number + 1}.to_v_ip.weight"] = torch.zeros(wide, width)
    return {"image_proj": named, "ip_adapter": attention}


def _text_attentions(base: Any) -> list[Any]:
    """Cross-attention layers in the order of `attn_processors`, in which the published files number them."""
    names = [name.removesuffix(".processor") for name in base.attn_processors if name.endswith("attn2.processor")]
    return [base.get_submodule(name) for name in names]


def _embedding_size() -> int:
    import json

    from pipelines.extractors.pretrained_folder import folder_of as pretrained_folder

    size: int = json.loads((pretrained_folder(CLIP_TINY.role, "config.json") / "config.json").read_text())["projection_dim"]
    return size


def learnt_from(cache: Path) -> PicturePeople:
    """The people of the training jobs."""
    return picture_people(latent_people(LEARNT_FROM, cache))


def picture_people(seen: LatentPeople) -> PicturePeople:
    """With the embeddings, which are not kept. Raises MissingWeightsError."""
    return PicturePeople(seen, embeddings_of(seen.people.frames))


def embeddings_of(frames: Frames) -> Tensor:
    """[N, D] of frames [N, H, W, 3] by the clip_image_tiny extractor. Raises MissingWeightsError."""
    extract, rows = CLIP_TINY.load("cpu"), []
    for start in range(0, len(frames), 256):
        part = np.array(frames[start : start + 256])
        rows += extract(_clip_of(part), part)["clip_embeddings"]
    return torch.tensor([row["embedding"] for row in rows])


def _clip_of(frames: Frames) -> Clip:
    """A name for frames that are in no file."""
    return Clip(
        dataset="performers", clip_id="drawn", video_id="drawn", uri="", start_frame=0, end_frame=len(frames), start_pts=None, end_pts=None,
        time_base=Fraction(1, 24), fps=Fraction(24), width=frames.shape[2], height=frames.shape[1],
    )  # fmt: skip


def loss_of(network: nn.Module, data: PicturePeople) -> LossAt:
    """v of random frames whose picture is their own, sometimes without it or without words."""
    device, scheduler = next(network.parameters()).device, make_scheduler(NOISE)

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(data.embeddings), (BATCH,), generator=generator)
        clean = data.seen.drawn(chosen, torch.rand(BATCH, generator=generator) < 0.5)
        text = data.seen.told(chosen, draw_dropped(BATCH, NO_TEXT_SHARE, generator))
        kept = ~draw_dropped(BATCH, NO_PICTURE_SHARE, generator)
        timesteps = torch.randint(NOISE.train_steps, (BATCH,), generator=generator)
        noise = draw_noise(clean.shape, NOISE, generator)
        alpha = alpha_bar(scheduler, timesteps, clean)
        pictures = (data.embeddings[chosen] * kept[:, None]).to(device)
        prediction = prompted(network, add_noise(clean, noise, alpha).to(device), timesteps.to(device), text.to(device), pictures)
        target, weight = target_of(clean, noise, alpha, NOISE.objective), loss_weight(alpha, NOISE)
        return diffusion_loss(prediction, target.to(device), weight.to(device))

    return loss_at


def prompted(network: Any, noisy: Tensor, timesteps: Tensor, text: Tensor, pictures: Tensor) -> Tensor:
    """v under picture prompts: noisy [B, C, h, w], text [B, 77, T], pictures [B, D]; zeros are no picture."""
    given = {"image_embeds": [pictures[:, None]]}
    prediction: Tensor = network(noisy, timesteps, encoder_hidden_states=text, added_cond_kwargs=given).sample
    return prediction


def export(network: Any, folder: Path) -> None:
    """One file of float16: image_proj.* and ip_adapter.<odd number>.to_{k,v}_ip.weight."""
    projection = network.encoder_hid_proj.image_projection_layers[0].state_dict()
    state = {"image_proj." + name.replace("image_embeds.", "proj."): value for name, value in projection.items()}
    names = [name for name in network.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(names):
        processor = network.attn_processors[name]
        for what in ("to_k_ip", "to_v_ip"):
            state[f"ip_adapter.{2 * number + 1}.{what}.weight"] = getattr(processor, what)[0].weight
    save_file({name: value.detach().cpu().half().contiguous() for name, value in state.items()}, folder / FILE)


def opened(path: Path) -> Any:
    """The shipped base with the adapter of a file, as diffusers opens the published one."""
    base, state = demo_base(), load_file(path)
    parts = {
        part: {name.removeprefix(f"{part}."): value.float() for name, value in state.items() if name.startswith(f"{part}.")}
        for part in ("image_proj", "ip_adapter")
    }
    base._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    return base.eval()


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen."""
    return scores_of(opened(folder / FILE), picture_people(latent_people(MEASURED_ON, cache)))


def scores_of(network: Any, data: PicturePeople) -> dict[str, float]:
    """Mean squared error of v with empty words: with the right picture, with another clip's, and with none."""
    frames = torch.arange(0, len(data.embeddings), 4)
    right = data.embeddings[frames]
    shown = {"v_loss": right, "v_loss_wrong_picture": right.roll(len(frames) // 2, dims=0), "v_loss_no_picture": torch.zeros_like(right)}
    return {name: sum(_v_loss(network, data.seen, frames, p, level) for level in LEVELS) / len(LEVELS) for name, p in shown.items()}


@torch.no_grad()
def _v_loss(network: Any, data: LatentPeople, frames: Tensor, pictures: Tensor, level: int) -> float:
    everything = torch.ones(len(frames), dtype=torch.bool)
    clean, text = data.drawn(frames, ~everything), data.told(frames, everything)
    noise, times = torch.randn(clean.shape, generator=generator_for(1, level)), torch.full((len(frames),), level)
    alpha = alpha_bar(make_scheduler(NOISE), times, clean)
    noisy, target = add_noise(clean, noise, alpha), target_of(clean, noise, alpha, NOISE.objective)
    found = [prompted(network, noisy[rows], times[rows], text[rows], pictures[rows]) for rows in torch.arange(len(frames)).split(32)]
    return float((torch.cat(found) - target).square().mean())


JOB = TinyJob(
    name="ip_adapter",
    title="IP-Adapter of the demo's generators",
    purpose="Picture prompts for the tiny base from the tiny CLIP's embeddings, in the file layout of ip-adapter_sd15.safetensors.",
    loop=LoopConfig(steps=2000, learning_rate=2e-3, warmup_steps=50, decay="cosine", ema_decay=0.995, pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    measure=measure,
)
