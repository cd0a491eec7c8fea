"""Sizes, steps and rates of SD-2V; [P] AnimateAnyone's paper, [D] our default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from models.clip_sampling import Sampling
from models.controlled_unet import FRESH, TINY_FAMILY, BaseNetworks
from models.ddim import STABLE_DIFFUSION
from models.finetuned_baseline import FinetunedConfig
from models.loop_config import paper_loop
from models.noise import NoiseConfig
from models.prompted_denoiser import PromptedNetworks
from models.stage_config import PairStage, WindowStage, check_windows
from models.training_loop import LoopConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Sd2vConfig(FinetunedConfig):
    """One variant."""

    size: tuple[int, int] = (768, 768)  # height, width: AnimateAnyone's [P]
    autoencoder: str = "stabilityai/sd-vae-ft-mse"
    networks: PromptedNetworks = field(default_factory=lambda: PromptedNetworks(base=BaseNetworks()))
    motion_adapter: str | None = "guoyww/animatediff-motion-adapter-v1-5-2"  # None = fresh, changes nothing yet
    noise: NoiseConfig = STABLE_DIFFUSION
    train_unet: bool = False  # whether stage 1 trains the whole UNet beside the adapter and the ControlNet
    # the steps and batches of AnimateAnyone, so that only the conditioning differs
    stage_1: PairStage = field(default_factory=lambda: PairStage(loop=paper_loop(30_000, accumulation=4), references=16))
    stage_2: WindowStage = field(default_factory=lambda: WindowStage(loop=paper_loop(10_000)))
    # 7.5: the habit of IP-Adapter and ControlNet
    sampling: Sampling = field(default_factory=lambda: Sampling(steps=20, guidance_scale=7.5))

    def __post_init__(self) -> None:
        longest = self.networks.base.shape.motion_frames
        check_windows("the motion modules' motion_frames", longest, stage_2=self.stage_2.window, sampling=self.sampling.window)


PAPER = Sd2vConfig()  # expects UBC SSIM .894, FVD 175.4; TikTok .670, 225.5; TED .773, 158.3 (AnimateAnyone, Tables 1 to 3)

_LOOP = LoopConfig(steps=120, learning_rate=1e-3, warmup_steps=10, decay="cosine", probes=8, pictures=1)

# The tiny family in the place of the published weights. Its base predicts v.
DEMO = Sd2vConfig(
    size=(128, 128),
    autoencoder="demo",
    networks=PromptedNetworks(base=TINY_FAMILY, ip_adapter="demo", image_encoder="demo"),
    motion_adapter="demo",
    noise=NoiseConfig(),
    stage_1=PairStage(loop=_LOOP, references=4, targets=3, augment=False, distance=8),
    stage_2=WindowStage(loop=replace(_LOOP, steps=40, warmup_steps=5), batch=1, window=12, stride=1, augment=False),
    sampling=Sampling(steps=10, guidance_scale=2.0, window=12, overlap=2, retarget="none"),
)

# A few steps from scratch: shows that a data set trains, animates and scores; its pictures mean nothing.
BRIEF = replace(
    DEMO,
    networks=PromptedNetworks(base=FRESH, ip_adapter=None, image_encoder=None),
    motion_adapter=None,
    stage_1=replace(DEMO.stage_1, references=2, targets=1, loop=replace(_LOOP, steps=6, warmup_steps=1, probes=2)),
    stage_2=replace(DEMO.stage_2, loop=replace(_LOOP, steps=4, warmup_steps=1, probes=2)),
    sampling=replace(DEMO.sampling, steps=4),
)

ABLATIONS: dict[str, Callable[[Sd2vConfig], Sd2vConfig]] = {
    # AnimateDiff's modules were trained on 16 frames: longer windows blur unless they are fine-tuned
    "off_the_shelf": lambda config: replace(
        config,
        train="none",
        sampling=replace(config.sampling, window=min(16, config.sampling.window), overlap=min(4, config.sampling.overlap)),
    ),
}

_BASES = {"demo": DEMO, "brief": BRIEF, "paper": PAPER}

VARIANTS: dict[str, Sd2vConfig] = {
    **_BASES,
    **{f"{base}-{switch}": change(config) for base, config in _BASES.items() for switch, change in ABLATIONS.items()},
}
