"""IP+CtrlN, the baseline of PoseAnimate's authors (Sec. 4.2): IP-Adapter, ControlNet and Tune-A-Video's spatio-temporal attention.

Training-free: the picture comes in through the IP-Adapter's tokens, the poses through the ControlNet (which sees the text alone), and
frames hold together by sparse-causal attention and by beginning with the same noise ([D], the paper is silent).
"""

# F = frames of a pass, C h w = latent channels, height, width

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from models.animator import Driving, Reference
from models.clip_dataset import draw_poses, to_unit
from models.clip_sampling import decoded_pieces, followed, initial_noise
from models.controlled_unet import FRESH, TINY_FAMILY, BaseNetworks, ControlledUnet, load_base
from models.ddim import STABLE_DIFFUSION, DdimSchedule
from models.frame_passes import frame_passes, shared_ticks
from models.guidance import guide
from models.image_prompt_attention import cross_sites
from models.ip_adapter import ImagePrompts, fresh_ip_adapter, load_ip_adapter, read_ip_adapter
from models.latents import LatentCodec
from models.noise import NoiseConfig
from models.on_device import device_at_hand
from models.picture_encoder import PictureEncoder
from models.pretrained_networks import image_encoder_folder, ip_adapter_file
from models.sparse_causal_attention import use_sparse_causal
from models.text_tokens import TextTokens
from models.training_free_method import TrainingFreeMethod
from pipelines.clip import Frames
from pipelines.retarget import Retarget


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """DDIM, eta 0. `frames` are denoised at a time."""

    steps: int = 50
    guidance_scale: float = 7.5
    frames: int = 16
    picture_scale: float = 1.0
    sparse_causal: bool = True  # off: frames know nothing of each other
    retarget: Retarget = "limb"  # [D] the paper does not say how it aligns poses for this baseline

    def __post_init__(self) -> None:
        if self.frames < 3:
            raise ValueError(f"frames={self.frames} must be at least 3")


@dataclass(frozen=True, kw_only=True, slots=True)
class IpControlnetConfig:
    """One variant."""

    size: tuple[int, int] = (512, 512)  # height, width
    autoencoder: str = "stabilityai/sd-vae-ft-mse"
    networks: BaseNetworks = field(default_factory=BaseNetworks)
    ip_adapter: str | None = "h94/IP-Adapter"  # None = fresh, with its encoder
    image_encoder: str | None = "h94/IP-Adapter"
    noise: NoiseConfig = STABLE_DIFFUSION
    prompt: str = ""  # where the reference has no caption: the picture alone
    sampling: Sampling = field(default_factory=Sampling)


PAPER = IpControlnetConfig()  # in the wild: LPIPS .466, CLIP-I .937, FC 94.88, WE .1323 (Table 1); TikTok FVD 724.37 (Table 2)
DEMO = IpControlnetConfig(
    size=(128, 128),
    autoencoder="demo",
    networks=TINY_FAMILY,
    ip_adapter="demo",
    image_encoder="demo",
    noise=NoiseConfig(),
    sampling=Sampling(steps=10, guidance_scale=2.0, retarget="none"),
)
BRIEF = replace(DEMO, networks=FRESH, ip_adapter=None, image_encoder=None, sampling=replace(DEMO.sampling, steps=3, frames=8))
_BASES = {"demo": DEMO, "brief": BRIEF, "paper": PAPER}
VARIANTS: dict[str, IpControlnetConfig] = {
    **_BASES,
    **{f"{n}-no_sparse_causal": replace(c, sampling=replace(c.sampling, sparse_causal=False)) for n, c in _BASES.items()},
}


class IpControlnet(ControlledUnet):
    """The three parts; `sparse` is the switch of its self-attention."""

    def __init__(
        self, config: IpControlnetConfig, unet: object, controlnet: object, text: TextTokens, prompts: ImagePrompts, eye: PictureEncoder
    ) -> None:
        super().__init__(unet, controlnet, DdimSchedule.of(config.noise, config.sampling.steps))
        self.config, self.text, self.prompts, self.eye = config, text, prompts.eval().requires_grad_(False), eye
        self.sparse = use_sparse_causal(unet)


@lru_cache(maxsize=1)
def network_of(config: IpControlnetConfig) -> IpControlnet:
    """The networks of a variant, loaded once per process. Raises MissingWeightsError, and UserError where weights do not fit."""
    unet, controlnet, text = load_base(config.networks)
    scale = config.sampling.picture_scale
    eye = PictureEncoder.fresh() if config.image_encoder is None else PictureEncoder.load(image_encoder_folder(config.image_encoder))
    if config.ip_adapter is not None:
        prompts = load_ip_adapter(unet, read_ip_adapter(ip_adapter_file(config.ip_adapter)), scale)
        return IpControlnet(config, unet, controlnet, text, prompts, eye).to(device_at_hand())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.networks.seed)
        prompts = fresh_ip_adapter(unet, eye.dim, scale=scale)
        for name in cross_sites(unet):  # its values are zero: in a test the picture must mean something
            nn.init.normal_(unet.attn_processors[name].to_v_ip.weight, std=0.3)
    return IpControlnet(config, unet, controlnet, text, prompts, eye).to(device_at_hand())


def animate(
    config: IpControlnetConfig,
    codec: LatentCodec,
    reference: Reference,
    driving: Driving,
    seed: int,
    advance: Callable[[], None] | None = None,
) -> Iterator[Frames]:
    """uint8 [<= 8, H, W, 3] pieces of the clip."""
    network, driving = network_of(config), followed(config.sampling.retarget, reference, driving)
    passes = frame_passes(len(driving.points), config.sampling.frames)
    tick = shared_ticks(advance, len(passes))
    shape = tuple(codec.encode(torch.zeros(1, 3, *config.size)).shape[1:])
    tokens = _tokens(network, reference)
    noise = initial_noise(1, shape, seed, shared=True)
    for frames, repeated in passes:
        poses = to_unit(draw_poses(driving.points[frames], driving.scores[frames], config.size))
        latents = denoise_pass(network, noise, poses, tokens, tick)
        yield from decoded_pieces(codec, latents[repeated:])


@torch.no_grad()
def _tokens(network: IpControlnet, reference: Reference) -> tuple[Tensor, Tensor]:
    """Text [2, S, T] and picture [2, K, T] tokens: without condition, with it."""
    prompt = reference.signals.caption or network.config.prompt
    picture = network.prompts(network.eye(reference.image[None]))
    return network.text(["", prompt]), torch.cat([network.prompts.null(1), picture])


@torch.no_grad()
def denoise_pass(
    network: IpControlnet, noise: Tensor, poses: Tensor, tokens: tuple[Tensor, Tensor], advance: Callable[[], None] = lambda: None
) -> Tensor:
    """Clean latents [F, C, h, w] of frames that are denoised together: noise [1, C, h, w] of all of them, poses [F, 3, H, W] in [0, 1]."""
    frames, sampling = len(poses), network.config.sampling
    latents = noise.to(tokens[0]).expand(frames, -1, -1, -1)
    with network.sparse.over(frames if sampling.sparse_causal else 0):
        for level in range(network.schedule.steps, 0, -1):
            without, given = (
                network.noise(latents, level, text.expand(frames, -1, -1), poses, picture.expand(frames, -1, -1))
                for text, picture in zip(*tokens, strict=True)
            )
            latents = network.schedule.move(latents, guide(without, given, sampling.guidance_scale), level, level - 1)
            advance()
    return latents


def _weight_files(config: IpControlnetConfig) -> list[Path]:
    adapter = [] if config.ip_adapter is None else [ip_adapter_file(config.ip_adapter)]
    return [*config.networks.folders(), *adapter, *([] if config.image_encoder is None else [image_encoder_folder(config.image_encoder)])]


_FILES = ("baselines/ip_controlnet", "sparse_causal_attention", "ip_adapter", "image_prompt_attention", "picture_encoder", "controlled_unet",
          "ddim", "frame_passes", "text_tokens", "pose_controlnet", "clip_sampling", "guidance", "noise", "latents")  # fmt: skip

IP_CONTROLNET = TrainingFreeMethod(
    name="ip_controlnet",
    variants=VARIANTS,
    default_variant="demo",
    needs=("caption",),
    pieces=animate,
    weight_files=_weight_files,
    sampling_code=(*(f"models/{name}.py" for name in _FILES), "pipelines/keypoints.py", "pipelines/retarget.py"),
)
