"""PoseAnimate and IP+CtrlN open what the tiny family's jobs write, and say which network is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models import pretrained_networks
from models.baselines import ip_controlnet
from models.baselines.ip_controlnet import IP_CONTROLNET
from models.ddim import DdimSchedule
from models.pose_animate import network as pose_animate
from models.pose_animate.method import POSE_ANIMATE
from models.tiny import base_unet, clip, controlnet, ip_adapter
from pipelines import weights
from pipelines.errors import MissingWeightsError


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """base_unet, controlnet, ip_adapter and clip as their jobs export them, untrained."""
    root = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "_TINY", root)
        patch.setattr(pretrained_networks, "SHIPPED", root)
        for job in (clip, base_unet, controlnet, ip_adapter):
            folder = root / job.JOB.name
            folder.mkdir()
            job.export(job.JOB.build(), folder)
            (folder / "card.json").write_text("{}")
        yield root


def test_the_demo_variants_open_the_tiny_family(family: Path) -> None:
    drawn = pose_animate.network_of(POSE_ANIMATE.chosen("demo"))
    prompted = ip_controlnet.network_of(IP_CONTROLNET.chosen("demo"))
    assert drawn.text.width == drawn.unet.config.cross_attention_dim
    assert prompted.prompts.proj.in_features == prompted.eye.dim
    latents, pose, text = (
        torch.randn(1, drawn.unet.config.in_channels, 16, 16),
        torch.rand(1, 3, 128, 128),
        drawn.text(["a man is walking"]),
    )
    with torch.no_grad():
        expected = drawn.noise(latents, 5, text, pose)
        made = prompted.noise(latents, 5, text, pose, prompted.prompts.null(1))
    assert expected.shape == latents.shape
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-4)  # the adapter is untrained: its values are zero


def test_v_networks_are_sampled_where_they_can_be_inverted(family: Path) -> None:
    """The tiny base was trained down to zero signal; the noisiest level that is visited keeps some."""
    schedule = DdimSchedule.of(POSE_ANIMATE.chosen("demo").noise, POSE_ANIMATE.chosen("demo").sampling.steps)
    assert schedule.objective == "v"
    assert float(schedule.alphas[-1]) > 1e-4


def test_another_file_is_another_prediction(family: Path) -> None:
    before = POSE_ANIMATE.weights_digest("demo")
    assert before != IP_CONTROLNET.weights_digest("demo")
    assert POSE_ANIMATE.load("demo", None).sampler["weights"] == before
    (family / "controlnet" / "extra.txt").write_text("another network")
    assert POSE_ANIMATE.weights_digest("demo") != before
    (family / "controlnet" / "extra.txt").unlink()


def test_a_network_that_is_not_there_is_named_before_any_clip(family: Path) -> None:
    card = family / "controlnet" / "card.json"
    card.unlink()
    try:
        for method in (POSE_ANIMATE, IP_CONTROLNET):
            with pytest.raises(MissingWeightsError, match="controlnet is not shipped"):
                method.load("demo", None)
            assert method.config("demo")  # known all the same
    finally:
        card.write_text("{}")
