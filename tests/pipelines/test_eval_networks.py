"""Networks of the literature's metrics: names and shapes of the published files, and oracles with the same random weights."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from pipelines.clip import Frames
from pipelines.errors import MissingWeightsError, UserError
from pipelines.extractors import bicubic, i3d_kinetics400, i3d_network, inception_pytorch_fid, raft_things, resnet3d
from pipelines.extractors.bicubic import bicubic_resize, bicubic_windows
from pipelines.extractors.flow import padding
from pipelines.extractors.i3d import I3D_CENTER_CROP, central_squares, whole_frames
from pipelines.extractors.i3d_kinetics400 import I3D_400, I3D_400_EPS5
from pipelines.extractors.inception import clean_resize
from pipelines.extractors.inception_pytorch_fid import InceptionPytorchFid
from pipelines.extractors.metric_networks import FEATURE_NETWORKS, FLOW_NETWORKS, flow_network
from pipelines.extractors.raft import RAFT_EVALCRAFTER, RAFT_LARGE, RAFT_THINGS, RAFT_TINY
from pipelines.extractors.resnet3d import ResNet3D
from pipelines.weights import WEIGHTS, find_weights

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Both sides of a comparison on one thread: the same order of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def unstated() -> Iterator[None]:
    """Let files of the tests take the place of one whose digest is stated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WEIGHTS, i3d_kinetics400.ROLE, dataclasses.replace(WEIGHTS[i3d_kinetics400.ROLE], sha256=None))
        yield


def noise(*shape: int, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def randomised(network: nn.Module) -> State:
    """Its tensors, drawn anew so that the input is still seen at the output (He et al. 2015) and batch norms do something."""
    generator = torch.Generator().manual_seed(0)
    state = dict(network.state_dict())
    for name, tensor in state.items():
        if tensor.dim() > 2:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith("running_mean"):
            tensor.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var") or (name.endswith("weight") and tensor.dim() == 1):
            tensor.uniform_(0.5, 1.5, generator=generator)
    return state


def real_frames(media: Path, count: int) -> Frames:
    """Frames of a person, smaller than published so that they cost little."""
    capture = cv2.VideoCapture(str(media / "videos" / "juggle_fullbody.mp4"))
    frames = [
        cv2.cvtColor(cv2.resize(capture.read()[1], (144, 160), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB) for _ in range(count)
    ]
    capture.release()
    return np.stack(frames)


def saved(folder: Path, name: str, state: Any) -> Iterator[Path]:
    """A file that goes again after the module's tests: it is as large as the real one."""
    path = folder / name
    torch.save(state, path)
    yield path
    path.unlink()


def hollow(state: State, *, without: str, misshapen: str) -> State:
    """Zeros in the same layout that take no room in a file, with one tensor missing, one too many, and one of another shape."""
    zeros = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in state.items() if name != without}
    return {**zeros, misshapen: torch.zeros(2, 3), "surprise": torch.zeros(1)}


# --- resizing ------------------------------------------------------------------------------------------------------------


def test_bicubic_leaves_the_range_and_is_clean_fids_resizer_before_its_clipping() -> None:
    frames = np.zeros((2, 30, 40, 3), np.uint8)
    frames[:, 10:20, 10:30] = 255  # edges overshoot
    frames[1, ..., 1] = noise(30, 40)[..., 0]
    for frame in frames:
        resized = bicubic_resize(frame, 112)
        channel = Image.fromarray(frame[..., 1].astype(np.float32)).resize((112, 112), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(resized[..., 1], np.asarray(channel))
        assert resized.dtype == np.float32
        assert resized.min() < -1
        assert resized.max() > 256
        np.testing.assert_array_equal(clean_resize(frame[None], 112)[0], resized.clip(0, 255))


def test_frames_that_windows_share_are_resized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = noise(9, 12, 14)
    windows = np.stack([frames[start : start + 4] for start in range(6)])
    expected = np.stack([[bicubic_resize(frame, 20) for frame in window] for window in windows])
    calls = []
    monkeypatch.setattr(bicubic, "bicubic_resize", lambda frame, size: calls.append(size) or bicubic_resize(frame, size))
    np.testing.assert_array_equal(np.stack(list(bicubic_windows(windows, 20))), expected)
    assert calls == [20] * 9


@pytest.mark.parametrize("size", [(256, 256), (90, 61), (512, 896)])
def test_inception_s_input_is_bilinear_without_antialiasing(size: tuple[int, int]) -> None:
    frames = noise(1, *size)
    x = inception_pytorch_fid.network_input(frames, "cpu")
    assert x.shape == (1, 3, 299, 299)
    expected = cv2.resize(frames[0].astype(np.float32) / 255, (299, 299), interpolation=cv2.INTER_LINEAR) * 2 - 1  # aliases too
    np.testing.assert_allclose(x[0].permute(1, 2, 0).numpy(), expected, atol=2e-4)


@pytest.mark.parametrize(("height", "width", "resized"), [(60, 100, (224, 374)), (100, 60, (374, 224)), (300, 300, (224, 224))])
def test_the_central_square_comes_after_the_resize(height: int, width: int, resized: tuple[int, int]) -> None:
    window = noise(2, height, width)
    x = central_squares(window)
    assert x.shape == (3, 2, 224, 224)
    large = cv2.resize(window[1].astype(np.float32) / 255, resized[::-1], interpolation=cv2.INTER_LINEAR)
    top, left = (resized[0] - 224) // 2, (resized[1] - 224) // 2
    expected = large[top : top + 224, left : left + 224] * 2 - 1
    np.testing.assert_allclose(x[:, 1].permute(1, 2, 0).numpy(), expected, atol=2e-4)


def test_a_square_whose_scale_rounds_up_loses_a_row_as_in_the_published_code() -> None:
    side = next(side for side in range(2, 4000) if side * (224 / side) > 224)
    frame = np.repeat(np.linspace(0, 255, side).astype(np.uint8)[:, None, None], side, axis=1).repeat(3, axis=2)
    expected = functional.interpolate(torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255, size=(225, 224), mode="bilinear")
    torch.testing.assert_close(central_squares(frame[None])[:, 0], expected[0, :, :224] * 2 - 1)


class _Recorder(nn.Module):
    def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> torch.Tensor:
        if rescale or resize or not return_features:
            x = x * 1000.0
        return x.mean(dim=(2, 3, 4))


def test_i3d_center_crop_uses_the_same_file_without_its_own_resizing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript; the published file is TorchScript
        torch.jit.script(_Recorder()).save(str(tmp_path / "i3d.pt"))
    monkeypatch.setitem(WEIGHTS, "i3d_torchscript", dataclasses.replace(WEIGHTS["i3d_torchscript"], sha256=None))
    windows = noise(2, 10, 40, 60)
    windows[:, :, :, :10] = 0  # cut off by the crop
    features = dataclasses.replace(I3D_CENTER_CROP, path=tmp_path / "i3d.pt").load("cpu")(windows)
    assert features.shape == (2, 3)
    np.testing.assert_allclose(features, [central_squares(window).mean((1, 2, 3)).numpy() for window in windows], atol=1e-5)
    assert np.all(features > whole_frames(windows[0]).mean((1, 2, 3)).numpy() + 0.1)


# --- Inception of pytorch-fid ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from torchvision.models.inception import Inception3

    state = randomised(Inception3(num_classes=1008, aux_logits=False, init_weights=False))
    yield from saved(tmp_path_factory.mktemp("inception"), "pt_inception.pth", state)


@pytest.fixture(scope="module")
def peer_inception(inception_file: Path) -> nn.Module:
    """The copy of pytorch-fid's network that clean-fid installs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cleanfid import inception_pytorch as peer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peer, "load_state_dict_from_url", lambda *_, **__: torch.load(inception_file, weights_only=True))
            network: nn.Module = peer.InceptionV3([3], resize_input=False).eval()
    return network


@pytest.fixture(scope="module")
def our_inception(inception_file: Path) -> Any:
    return InceptionPytorchFid(path=inception_file).load("cpu")


def _check_inception(ours: Any, peer: nn.Module, frames: Frames) -> None:
    features = ours(frames)
    with torch.inference_mode():  # clean-fid's copy leaves the resizing out
        x = functional.interpolate(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255, size=(299, 299), mode="bilinear")
        expected = peer(x)[0].flatten(1).numpy()
    assert features.shape == (len(frames), 2048)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert np.abs(features[0] - features[1]).max() > 0.01 * np.abs(features).max()


def test_inception_equals_pytorch_fid_s(our_inception: Any, peer_inception: nn.Module) -> None:
    _check_inception(our_inception, peer_inception, noise(2, 64, 80))


def test_inception_equals_pytorch_fid_s_on_real_frames(our_inception: Any, peer_inception: nn.Module, media: Path) -> None:
    _check_inception(our_inception, peer_inception, real_frames(media, 12)[::11])


# --- I3D -------------------------------------------------------------------------------------------------------------------

# (output, input channels) of each 1x1x1 or 3x3x3 convolution, as the paper's table lists them; written out, not derived.
_I3D_BLOCKS = {
    "Mixed_3b": {"b0": (64, 192), "b1a": (96, 192), "b1b": (128, 96), "b2a": (16, 192), "b2b": (32, 16), "b3b": (32, 192)},
    "Mixed_3c": {"b0": (128, 256), "b1a": (128, 256), "b1b": (192, 128), "b2a": (32, 256), "b2b": (96, 32), "b3b": (64, 256)},
    "Mixed_4b": {"b0": (192, 480), "b1a": (96, 480), "b1b": (208, 96), "b2a": (16, 480), "b2b": (48, 16), "b3b": (64, 480)},
    "Mixed_4c": {"b0": (160, 512), "b1a": (112, 512), "b1b": (224, 112), "b2a": (24, 512), "b2b": (64, 24), "b3b": (64, 512)},
    "Mixed_4d": {"b0": (128, 512), "b1a": (128, 512), "b1b": (256, 128), "b2a": (24, 512), "b2b": (64, 24), "b3b": (64, 512)},
    "Mixed_4e": {"b0": (112, 512), "b1a": (144, 512), "b1b": (288, 144), "b2a": (32, 512), "b2b": (64, 32), "b3b": (64, 512)},
    "Mixed_4f": {"b0": (256, 528), "b1a": (160, 528), "b1b": (320, 160), "b2a": (32, 528), "b2b": (128, 32), "b3b": (128, 528)},
    "Mixed_5b": {"b0": (256, 832), "b1a": (160, 832), "b1b": (320, 160), "b2a": (32, 832), "b2b": (128, 32), "b3b": (128, 832)},
    "Mixed_5c": {"b0": (384, 832), "b1a": (192, 832), "b1b": (384, 192), "b2a": (48, 832), "b2b": (128, 48), "b3b": (128, 832)},
}
_I3D_STEM = {"Conv3d_1a_7x7": (64, 3, 7), "Conv3d_2b_1x1": (64, 64, 1), "Conv3d_2c_3x3": (192, 64, 3)}


def _i3d_layout() -> State:
    """The converted file: no counters of batches, every scale of a batch norm 1."""
    units = {name: (outputs, inputs, size) for name, (outputs, inputs, size) in _I3D_STEM.items()}
    for block, branches in _I3D_BLOCKS.items():
        units |= {f"{block}.{name}": (*shape, 3 if name in ("b1b", "b2b") else 1) for name, shape in branches.items()}
    generator, state = torch.Generator().manual_seed(0), {}
    for name, (outputs, inputs, size) in units.items():
        scale = (2 / (inputs * size**3)) ** 0.5
        state[f"{name}.conv3d.weight"] = torch.randn(outputs, inputs, size, size, size, generator=generator) * scale
        state[f"{name}.bn.bias"] = torch.randn(outputs, generator=generator) * 0.1
        state[f"{name}.bn.weight"] = torch.ones(outputs)
        state[f"{name}.bn.running_mean"] = torch.randn(outputs, generator=generator) * 0.1
        state[f"{name}.bn.running_var"] = torch.rand(outputs, generator=generator) + 0.5
    state["logits.conv3d.weight"] = torch.randn(400, 1024, 1, 1, 1, generator=generator) / 32
    state["logits.conv3d.bias"] = torch.randn(400, generator=generator)
    return state


@pytest.fixture(scope="module")
def i3d_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from saved(tmp_path_factory.mktemp("i3d"), "i3d_pretrained_400.pt", _i3d_layout())


def _same(x: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float = 0.0) -> torch.Tensor:
    """TensorFlow's SAME, one axis at a time."""
    for axis, (k, s) in enumerate(zip(kernel, stride, strict=True), start=2):
        total = max(k - s if x.shape[axis] % s == 0 else k - x.shape[axis] % s, 0)
        sides = [0, 0] * (4 - axis) + [total // 2, total - total // 2]
        x = functional.pad(x, sides, value=value)
    return x


def _peer_i3d(state: State, x: torch.Tensor, eps: float) -> torch.Tensor:
    """[1, 1024, T, 7, 7] before the last pooling, from the state dict alone."""

    def unit(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = state[f"{name}.conv3d.weight"]
        y = functional.conv3d(_same(x, weight.shape[2:], (stride,) * 3), weight, stride=stride)
        mean, variance = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
        scale = state[f"{name}.bn.weight"] / (variance + eps).sqrt()
        return functional.relu(y * scale.view(-1, 1, 1, 1) + (state[f"{name}.bn.bias"] - mean * scale).view(-1, 1, 1, 1))

    def pool(x: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
        return functional.max_pool3d(_same(x, kernel, stride, -np.inf), kernel, stride)

    x = pool(unit("Conv3d_1a_7x7", x, 2), (1, 3, 3), (1, 2, 2))
    x = unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x))
    for block in _I3D_BLOCKS:
        if block == "Mixed_3b":
            x = pool(x, (1, 3, 3), (1, 2, 2))
        elif block in ("Mixed_4b", "Mixed_5b"):
            size = 3 if block == "Mixed_4b" else 2
            x = pool(x, (size,) * 3, (2, 2, 2))
        chains = [["b0"], ["b1a", "b1b"], ["b2a", "b2b"], ["b3b"]]
        branches = []
        for chain in chains:
            y = pool(x, (3, 3, 3), (1, 1, 1)) if chain == ["b3b"] else x
            for name in chain:
                y = unit(f"{block}.{name}", y)
            branches.append(y)
        x = torch.cat(branches, 1)
    return x


def _i3d_input(window: Frames) -> torch.Tensor:
    return torch.from_numpy(np.stack([bicubic_resize(frame, 224) for frame in window])).permute(3, 0, 1, 2)[None] / 127.5 - 1


def _logits(state: State, maps: torch.Tensor) -> torch.Tensor:
    """[N, 1024, T] -> [N, 400], mean over time."""
    weight = state["logits.conv3d.weight"][:, :, 0, 0, 0]
    return (torch.einsum("oc,nct->not", weight, maps) + state["logits.conv3d.bias"][:, None]).mean(2)


def test_i3d_equals_the_architecture_written_out_and_both_last_poolings_agree_on_16_frames(i3d_file: Path) -> None:
    window, state = noise(16, 40, 30), torch.load(i3d_file, weights_only=True)
    features = dataclasses.replace(I3D_400, path=i3d_file).load("cpu")(window[None])
    assert features.shape == (1, 400)
    assert features.dtype == np.float32
    with torch.inference_mode():
        maps = _peer_i3d(state, _i3d_input(window), 1e-3)
        assert maps.shape == (1, 1024, 2, 7, 7)
        expected = _logits(state, maps.mean((3, 4)))
        pooled_over_two = _logits(state, functional.avg_pool3d(maps, (2, 7, 7), stride=1).flatten(3)[..., 0])
    scale = float(expected.abs().max())
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(features, pooled_over_two.numpy(), rtol=1e-5, atol=1e-5 * scale)


def test_i3d_with_the_other_epsilon_is_another_network(i3d_file: Path, media: Path) -> None:
    window, state = real_frames(media, 6), torch.load(i3d_file, weights_only=True)
    features = dataclasses.replace(I3D_400_EPS5, path=i3d_file).load("cpu")(window[None])
    with torch.inference_mode():
        expected, disco = (_logits(state, _peer_i3d(state, _i3d_input(window), eps).mean((3, 4))).numpy() for eps in (1e-5, 1e-3))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5 * scale)
    assert np.abs(features - disco).max() > 1e-3 * scale


def test_the_two_i3d_of_kinetics_differ_only_in_epsilon() -> None:
    layers = [
        [layer for layer in i3d_network.build_network(network.batch_norm_eps).modules() if isinstance(layer, nn.BatchNorm3d)]
        for network in (I3D_400, I3D_400_EPS5)
    ]
    assert {layer.eps for layer in layers[0]} == {1e-3}
    assert {layer.eps for layer in layers[1]} == {1e-5}
    assert dataclasses.replace(I3D_400, name="", batch_norm_eps=0) == dataclasses.replace(I3D_400_EPS5, name="", batch_norm_eps=0)


# --- 3D-ResNet-50 ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peer_resnet() -> nn.Module:
    """torchvision's video ResNet with the paper's first layers: another implementation of the same blocks."""
    from torchvision.models.video.resnet import Bottleneck, Conv3DSimple, VideoResNet

    def stem() -> nn.Sequential:
        convolution = nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm3d(64), nn.ReLU(), nn.MaxPool3d(3, 2, 1))

    network = VideoResNet(Bottleneck, [Conv3DSimple] * 4, [3, 4, 6, 3], stem)
    network.load_state_dict(randomised(network))
    network.fc = nn.Identity()
    return network.eval()


def _hara_name(name: str) -> str:
    name = name.replace("stem.0.", "conv1.").replace("stem.1.", "bn1.")
    for index in "123":
        name = name.replace(f".conv{index}.0.", f".conv{index}.").replace(f".conv{index}.1.", f".bn{index}.")
    return f"module.{name}"


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory, peer_resnet: nn.Module) -> Iterator[Path]:
    state = {_hara_name(name): tensor for name, tensor in peer_resnet.state_dict().items() if not name.endswith("tracked")}
    state |= {"module.fc.weight": torch.zeros(1).expand(400, 2048), "module.fc.bias": torch.zeros(400)}
    checkpoint = {"epoch": 1, "arch": "resnet-50", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}
    yield from saved(tmp_path_factory.mktemp("resnet"), "resnet-50-kinetics.pth", checkpoint)


@pytest.fixture(scope="module")
def our_resnet(resnet_file: Path) -> Any:
    return ResNet3D(path=resnet_file).load("cpu")


def _check_resnet(ours: Any, peer: nn.Module, window: Frames) -> None:
    """Windows of 16 frames."""
    features = ours(window[None])
    resized = np.stack([bicubic_resize(frame, 112) for frame in window]).astype(np.float64)
    x = torch.from_numpy((resized - [114.7748, 107.7354, 99.4750]).astype(np.float32)).permute(3, 0, 1, 2)[None]
    with torch.inference_mode():
        expected = peer(x).numpy()
    assert features.shape == (1, 2048)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_resnet3d_equals_torchvision_s_blocks(our_resnet: Any, peer_resnet: nn.Module) -> None:
    _check_resnet(our_resnet, peer_resnet, noise(16, 40, 30))


def test_resnet3d_equals_torchvision_s_blocks_on_real_frames(our_resnet: Any, peer_resnet: nn.Module, media: Path) -> None:
    _check_resnet(our_resnet, peer_resnet, real_frames(media, 16))


def test_a_longer_window_is_filled_up_with_its_last_frame_and_its_segments_averaged(our_resnet: Any) -> None:
    window = noise(18, 20, 20)
    rest = np.concatenate([window[16:], np.repeat(window[-1:], 14, axis=0)])
    parts = our_resnet(np.stack([window[:16], rest]))
    whole = our_resnet(window[None])[0]
    np.testing.assert_allclose(whole, parts.mean(0), rtol=1e-4, atol=1e-5 * np.abs(whole).max())
    assert resnet3d.network_input(np.zeros((18, 112, 112, 3), np.float32)).shape == (2, 3, 16, 112, 112)


# --- RAFT ------------------------------------------------------------------------------------------------------------------


def _princeton_residual(inputs: int, outputs: int, stride: int, norm: Any) -> nn.ModuleDict:
    layers = {
        "conv1": nn.Conv2d(inputs, outputs, 3),
        "conv2": nn.Conv2d(outputs, outputs, 3),
        "norm1": norm(outputs),
        "norm2": norm(outputs),
    }
    if stride != 1:
        layers["norm3"] = norm(outputs)
        layers["downsample"] = nn.Sequential(nn.Conv2d(inputs, outputs, 1), layers["norm3"])  # one norm, two names
    return nn.ModuleDict(layers)


def _princeton_encoder(norm: Any) -> nn.ModuleDict:
    stages = {
        f"layer{index}": nn.Sequential(_princeton_residual(inputs, outputs, stride, norm), _princeton_residual(outputs, outputs, 1, norm))
        for index, (inputs, outputs, stride) in enumerate(((64, 64, 1), (64, 96, 2), (96, 128, 2)), 1)
    }
    return nn.ModuleDict({"conv1": nn.Conv2d(3, 64, 7), "norm1": norm(64), **stages, "conv2": nn.Conv2d(128, 256, 1)})


def _princeton_layout() -> State:
    """Names and shapes of raft-things.pth, from the structure that its authors describe."""
    gate = {f"conv{gate}{index}": nn.Conv2d(384, 128, (1, 5) if index == 1 else (5, 1)) for gate in "zrq" for index in (1, 2)}
    motion = {
        "convc1": nn.Conv2d(324, 256, 1),
        "convc2": nn.Conv2d(256, 192, 3),
        "convf1": nn.Conv2d(2, 128, 7),
        "convf2": nn.Conv2d(128, 64, 3),
        "conv": nn.Conv2d(256, 126, 3),
    }
    update = {
        "encoder": nn.ModuleDict(motion),
        "gru": nn.ModuleDict(gate),
        "flow_head": nn.ModuleDict({"conv1": nn.Conv2d(128, 256, 3), "conv2": nn.Conv2d(256, 2, 3)}),
        "mask": nn.Sequential(nn.Conv2d(128, 256, 3), nn.ReLU(), nn.Conv2d(256, 576, 1)),
    }
    whole = {
        "fnet": _princeton_encoder(nn.InstanceNorm2d),
        "cnet": _princeton_encoder(nn.BatchNorm2d),
        "update_block": nn.ModuleDict(update),
    }
    return randomised(nn.ModuleDict({"module": nn.ModuleDict(whole)}))


# One name of each kind, paired by hand.
_RAFT_PAIRS = {
    "feature_encoder.convnormrelu.0.weight": "module.fnet.conv1.weight",
    "feature_encoder.layer2.0.downsample.0.bias": "module.fnet.layer2.0.downsample.0.bias",
    "feature_encoder.conv.weight": "module.fnet.conv2.weight",
    "context_encoder.convnormrelu.1.running_var": "module.cnet.norm1.running_var",
    "context_encoder.layer1.1.convnormrelu2.0.weight": "module.cnet.layer1.1.conv2.weight",
    "context_encoder.layer3.0.convnormrelu1.1.weight": "module.cnet.layer3.0.norm1.weight",
    "context_encoder.layer3.0.downsample.1.running_mean": "module.cnet.layer3.0.norm3.running_mean",
    "update_block.motion_encoder.convcorr2.0.bias": "module.update_block.encoder.convc2.bias",
    "update_block.motion_encoder.convflow1.0.weight": "module.update_block.encoder.convf1.weight",
    "update_block.motion_encoder.conv.0.weight": "module.update_block.encoder.conv.weight",
    "update_block.recurrent_block.convgru1.convz.weight": "module.update_block.gru.convz1.weight",
    "update_block.recurrent_block.convgru2.convq.bias": "module.update_block.gru.convq2.bias",
    "update_block.flow_head.conv2.weight": "module.update_block.flow_head.conv2.weight",
    "mask_predictor.convrelu.0.weight": "module.update_block.mask.0.weight",
    "mask_predictor.conv.bias": "module.update_block.mask.2.bias",
}


@pytest.fixture(scope="module")
def raft_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from saved(tmp_path_factory.mktemp("raft"), "raft-things.pth", _princeton_layout())


@pytest.fixture(scope="module")
def peer_raft(raft_file: Path) -> nn.Module:
    """torchvision's network with the tensors of the file; the next test checks where they went."""
    from torchvision.models.optical_flow import raft_large

    return raft_things.load_published(raft_large(weights=None), raft_file)


def test_every_tensor_of_the_published_raft_has_its_place(raft_file: Path, peer_raft: nn.Module) -> None:
    published, own = torch.load(raft_file, weights_only=True), peer_raft.state_dict()
    names = {name: raft_things.published_name(name) for name in own}
    assert len(set(names.values())) == len(names)
    assert set(published) - set(names.values()) == {name for name in published if ".norm3." in name}
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, published[names[name]], rtol=0, atol=0)
    for name, paired in _RAFT_PAIRS.items():
        torch.testing.assert_close(own[name], published[paired], rtol=0, atol=0)


def _pair(frames: Frames) -> list[torch.Tensor]:
    return [torch.from_numpy(frame[None]).permute(0, 3, 1, 2).float().contiguous() for frame in frames]


def _check_things(raft_file: Path, peer: nn.Module, frames: Frames) -> None:
    """Two frames, whose sides are multiples of 8."""
    flow = dataclasses.replace(RAFT_THINGS, path=raft_file).load("cpu")
    first, second = [2 * (x / 255) - 1 for x in _pair(frames)]
    with torch.inference_mode():
        expected = [peer(*pair, 20)[-1].numpy() for pair in ((first, second), (second, first))]
    for got, wanted in zip(flow.both_ways(frames), expected, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
    np.testing.assert_array_equal(flow.images(frames), frames.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def test_raft_things_runs_20_updates_on_minus_one_to_one(raft_file: Path, peer_raft: nn.Module) -> None:
    _check_things(raft_file, peer_raft, noise(2, 128, 136))


def test_raft_things_on_real_frames(raft_file: Path, peer_raft: nn.Module, media: Path) -> None:
    _check_things(raft_file, peer_raft, real_frames(media, 2)[:, :136, :128])


def test_raft_as_evalcrafter_runs_it_sees_halved_padded_frames_in_the_wrong_range(raft_file: Path, peer_raft: nn.Module) -> None:
    frames = noise(2, 243, 258)  # halved 121 x 129: padded to 128 x 136
    flow = dataclasses.replace(RAFT_EVALCRAFTER, path=raft_file).load("cpu")
    images = flow.images(frames)
    assert images.shape == (2, 3, 128, 136)
    mean_of_four = frames[:, :242].reshape(2, 121, 2, 129, 2, 3).mean((2, 4)).transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(images[:, :, 3:124, 3:132], mean_of_four, atol=1e-6)
    np.testing.assert_array_equal(images[:, :, :3], np.repeat(images[:, :, 3:4], 3, axis=2))
    with torch.inference_mode():
        expected = peer_raft(*(2 * (torch.from_numpy(image[None]) / 255) - 1 for image in images), 20)[-1].numpy()
    got = flow.both_ways(frames)[0]
    assert got.shape == (1, 2, 128, 136)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    with pytest.raises(UserError, match="242 px or more"):
        flow.both_ways(noise(2, 241, 300))


def test_raft_large_is_torchvision_s_with_12_updates_and_pads_small_frames(tmp_path: Path, peer_raft: nn.Module) -> None:
    torch.save(peer_raft.state_dict(), tmp_path / "raft_large.pth")
    frames = noise(2, 50, 61)
    got = dataclasses.replace(RAFT_LARGE, path=tmp_path / "raft_large.pth").load("cpu").both_ways(frames)[0]
    assert got.shape == (1, 2, 50, 61)
    padded = np.pad(frames, ((0, 0), (39, 39), (33, 34), (0, 0)), mode="edge")
    with torch.inference_mode():
        expected = peer_raft(*(x / 127.5 - 1 for x in _pair(padded)), 12)[-1][:, :, 39:89, 33:94].numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_a_run_of_frames_has_the_flow_of_its_pairs_there_and_back() -> None:
    """More frames than are encoded at once, by the tiny network, which sees them at twice their size."""
    raft = RAFT_TINY.read(RAFT_TINY.build(), find_weights(RAFT_TINY.role))
    frames = noise(11, 96, 120)
    forward, backward = RAFT_TINY.load("cpu").both_ways(frames)
    assert forward.shape == backward.shape == (10, 2, 96, 120)
    sides = padding(96, 120)
    images = torch.nn.functional.pad(torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1, sides, mode="replicate")
    with torch.inference_mode():
        there, back = (raft(*pair, RAFT_TINY.updates)[-1] for pair in ((images[:-1], images[1:]), (images[1:], images[:-1])))
    for got, wanted in ((forward, there), (backward, back)):
        inner = wanted[:, :, sides[2] : sides[2] + 96, sides[0] : sides[0] + 120].numpy()
        np.testing.assert_allclose(got, inner, rtol=0, atol=1e-4 * np.abs(inner).max())


def test_two_copies_of_a_batch_norm_that_differ_are_refused(raft_file: Path, tmp_path: Path) -> None:
    state = torch.load(raft_file, weights_only=True)
    state["module.cnet.layer2.0.norm3.weight"] = state["module.cnet.layer2.0.norm3.weight"] + 1
    torch.save(state, tmp_path / "raft.pth")
    with pytest.raises(UserError, match=r"raft\.pth: module.cnet.layer2.0.norm3.weight and .*downsample.1.weight differ"):
        dataclasses.replace(RAFT_THINGS, path=tmp_path / "raft.pth").load("cpu")


# --- all -------------------------------------------------------------------------------------------------------------------


def _inception_layout() -> State:
    from torchvision.models.inception import Inception3

    with torch.device("meta"):
        return Inception3(num_classes=1008, aux_logits=False, init_weights=False).state_dict()


def _resnet_layout() -> State:
    with torch.device("meta"):
        return {f"module.{name}": tensor for name, tensor in resnet3d.build_network().state_dict().items()}


@pytest.mark.parametrize(
    ("network", "layout", "without", "misshapen"),
    [
        (InceptionPytorchFid(), _inception_layout, "fc.bias", "Mixed_7c.branch_pool.conv.weight"),
        (I3D_400, _i3d_layout, "logits.conv3d.bias", "Mixed_4f.b1b.conv3d.weight"),
        (ResNet3D(), _resnet_layout, "module.fc.weight", "module.layer4.0.downsample.0.weight"),
    ],
)
def test_a_tensor_missing_unknown_or_misshapen_is_named(network: Any, layout: Any, without: str, misshapen: str, tmp_path: Path) -> None:
    torch.save(hollow(layout(), without=without, misshapen=misshapen), tmp_path / "odd.pth")
    with pytest.raises(UserError) as error:
        dataclasses.replace(network, path=tmp_path / "odd.pth").load("cpu")
    for word in ("odd.pth", without.removeprefix("module."), misshapen.removeprefix("module."), "surprise"):
        assert word in str(error.value)


def test_a_tensor_of_raft_missing_unknown_or_misshapen_is_named(tmp_path: Path) -> None:
    name = "module.cnet.layer3.1.conv2.bias"
    network = dataclasses.replace(RAFT_THINGS, path=tmp_path / "odd.pth")
    torch.save(hollow(_princeton_layout(), without=name, misshapen="module.fnet.conv1.weight"), tmp_path / "odd.pth")
    with pytest.raises(UserError, match=rf"odd\.pth is no raft-things.pth \(missing: {name}; unexpected: surprise\)"):
        network.load("cpu")
    torch.save({**_princeton_layout(), "module.fnet.conv1.weight": torch.zeros(2, 3)}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=r"odd\.pth: module.fnet.conv1.weight has the shape \(2, 3\), not \(64, 3, 7, 7\)"):
        network.load("cpu")


PUBLISHED_FLOWS = ("raft_large", "raft_things", "raft_evalcrafter")


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code in a pickle ran",))


@pytest.mark.parametrize("network", [InceptionPytorchFid(), I3D_400, ResNet3D(), RAFT_THINGS, RAFT_LARGE], ids=lambda network: network.name)
def test_code_in_a_file_of_weights_does_not_run(network: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    import torchvision

    torch.save({"fc.weight": _Harmful()}, tmp_path / "bad.pth")
    with torch.device("meta"):  # building costs nothing
        raft = torchvision.models.optical_flow.raft_large(weights=None)
    monkeypatch.setattr(torchvision.models.optical_flow, "raft_large", lambda **_: raft)
    with pytest.raises(UserError, match="no file of plain tensors"), torch.device("meta"):
        dataclasses.replace(network, path=tmp_path / "bad.pth").load("cpu")
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["inception_pytorch_fid", "i3d_400", "i3d_400_eps5", "i3d_center_crop", "resnet3d_50", *PUBLISHED_FLOWS])
def test_networks_are_registered_and_missing_files_are_named(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    network = {**FEATURE_NETWORKS, **FLOW_NETWORKS}[name]
    with pytest.raises(MissingWeightsError, match="are missing"):
        network.weights_digest()
    with pytest.raises(MissingWeightsError, match="are missing"):
        network.load("cpu")


def test_unknown_flow_networks_list_what_there_is() -> None:
    assert list(FLOW_NETWORKS) == [*PUBLISHED_FLOWS, "raft_tiny"]
    with pytest.raises(UserError, match=", ".join(PUBLISHED_FLOWS)):
        flow_network("nope")
