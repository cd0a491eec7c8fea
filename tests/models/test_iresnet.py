"""The recogniser computes IResNet, loads strictly, and never learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from models.iresnet import R18, R50, R100, IResNet, load_recogniser
from pipelines.errors import UserError

TINY = {"blocks": (1, 2, 1, 1), "widths": (4, 4, 6, 8, 10), "size": 12, "side": 32}


def _tiny() -> IResNet:
    """With statistics and slopes that are not those of an untrained network."""
    network = IResNet(**TINY)  # type: ignore[arg-type]
    for name, value in network.state_dict().items():
        if value.is_floating_point() and value.ndim == 1:
            value.copy_(torch.rand_like(value) + 0.5 if "var" in name else torch.randn_like(value) * 0.3 + 0.5)
    return network


@pytest.mark.parametrize(("blocks", "millions"), [(R18, 24.03), (R50, 43.59), (R100, 65.16)])
def test_sizes_are_those_of_the_published_networks(blocks: tuple[int, ...], millions: float) -> None:
    with torch.device("meta"):
        network = IResNet(blocks)
        assert network(torch.zeros(2, 3, 112, 112)).shape == (2, 512)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(millions * 1e6, abs=0.02e6)


def test_names_are_those_of_insightface() -> None:
    with torch.device("meta"):
        names = set(IResNet(R100).state_dict())
    norm = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert {name.split(".")[0] for name in names} == {
        "conv1", "bn1", "prelu", "layer1", "layer2", "layer3", "layer4", "bn2", "fc", "features"
    }  # fmt: skip
    assert {name.removeprefix("features.") for name in names if name.startswith("features.")} == norm
    block = {name.removeprefix("layer3.0.") for name in names if name.startswith("layer3.0.")}
    assert block == {
        "conv1.weight", "conv2.weight", "prelu.weight", "downsample.0.weight",
        *(f"{layer}.{kind}" for layer in ("bn1", "bn2", "bn3", "downsample.1") for kind in norm),
    }  # fmt: skip
    assert not any(name.startswith("layer3.1.downsample") for name in names)
    assert {int(name.split(".")[1]) for name in names if name.startswith("layer3.")} == set(range(30))


def _by_hand(weights: dict[str, Tensor], x: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """The same network from its state dict, with functions of torch alone."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, scale, shift = (weights[f"{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, scale, shift, eps=1e-5)

    x = F.prelu(norm(F.conv2d(x, weights["conv1.weight"], padding=1), "bn1"), weights["prelu.weight"])
    for level, count in enumerate(blocks, start=1):
        for i in range(count):
            at, stride = f"layer{level}.{i}", 2 if i == 0 else 1
            out = F.conv2d(norm(x, f"{at}.bn1"), weights[f"{at}.conv1.weight"], padding=1)
            out = F.prelu(norm(out, f"{at}.bn2"), weights[f"{at}.prelu.weight"])
            out = norm(F.conv2d(out, weights[f"{at}.conv2.weight"], stride=stride, padding=1), f"{at}.bn3")
            x = out + (norm(F.conv2d(x, weights[f"{at}.downsample.0.weight"], stride=2), f"{at}.downsample.1") if i == 0 else x)
    flat = norm(x, "bn2").flatten(1) @ weights["fc.weight"].T + weights["fc.bias"]
    return norm(flat, "features")


def test_it_computes_the_published_equations() -> None:
    network, faces = _tiny(), torch.rand(3, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(network(faces), _by_hand(network.state_dict(), faces, (1, 2, 1, 1)), rtol=1e-5, atol=1e-5)


def test_it_is_frozen_and_stays_in_eval_mode_but_gradients_go_through() -> None:
    network = _tiny()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    faces = torch.rand(2, 3, 32, 32, requires_grad=True)
    torch.nn.ModuleList([network]).train()
    network(faces).square().sum().backward()
    assert faces.grad is not None
    assert faces.grad.abs().max() > 0
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_is_read_back_with_its_own_size(tmp_path: Path, suffix: str) -> None:
    network, path = _tiny(), tmp_path / f"backbone{suffix}"
    torch.save(network.state_dict(), path) if suffix == ".pth" else save_file(network.state_dict(), path)
    faces = torch.rand(2, 3, 32, 32)
    assert torch.equal(load_recogniser(path)(faces), network(faces))


def test_what_is_no_iresnet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recogniser at"):
        load_recogniser(tmp_path / "none.pth")
    save_file({"stem.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="is no IResNet"):
        load_recogniser(tmp_path / "other.safetensors")
    weights = _tiny().state_dict()
    del weights["layer2.1.bn3.weight"]
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"missing \['layer2.1.bn3.weight'\]"):
        load_recogniser(tmp_path / "part.safetensors")
