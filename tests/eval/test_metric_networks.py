"""Networks of the metrics: real loading with small files that the tests make, and the shipped stand-ins."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from eval.metrics.fid import fid
from pipelines.errors import MissingWeightsError, UserError
from pipelines.extractors import i3d, inception
from pipelines.extractors.i3d import I3D
from pipelines.extractors.inception import Inception, clean_resize
from pipelines.extractors.lpips import LPIPS_ALEX, LPIPS_VGG, StandinLpips
from pipelines.extractors.metric_networks import FEATURE_NETWORKS, PAIR_NETWORKS, feature_network, pair_network
from pipelines.extractors.standin import STANDIN_FRAMES, STANDIN_WINDOWS
from pipelines.extractors.standin_weights import STANDINS, write_standin
from pipelines.weights import WEIGHTS, digest_of


class _Layers(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], 1)[:, :, None, None]


class _Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = _Layers()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class _I3D(nn.Module):
    def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> torch.Tensor:
        if rescale or resize or not return_features:
            x = x * 1000.0
        return torch.cat([x.mean(dim=(2, 3, 4)), x.std(dim=(2, 3, 4))], 1)


def _script(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript; the published files are TorchScript
        torch.jit.script(module).save(str(path))
    return path


@pytest.fixture
def unstated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other files than the published ones take the roles."""
    for role in (inception.ROLE, i3d.ROLE, LPIPS_VGG.role, LPIPS_ALEX.role):
        monkeypatch.setitem(WEIGHTS, role, dataclasses.replace(WEIGHTS[role], sha256=None))


def _frames(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_the_resizer_is_clean_fids() -> None:
    from cleanfid.resize import build_resizer

    frames = _frames(2, 70, 50)
    np.testing.assert_array_equal(clean_resize(frames, 299)[1], build_resizer("clean")(frames[1]))


@pytest.mark.usefixtures("unstated")
def test_inception_is_fed_as_clean_fid_feeds_it(tmp_path: Path) -> None:
    from cleanfid.resize import build_resizer

    network = Inception(path=_script(_Inception(), tmp_path / "inception.pt"))
    frames = _frames(3, 64, 48)
    expected = (np.stack([build_resizer("clean")(frame) for frame in frames]) - 128) / 128
    features = network.load("cpu")(frames)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, np.concatenate([expected.mean((1, 2)), expected.max((1, 2))], 1), rtol=1e-5, atol=1e-6)
    assert network.weights_digest() == digest_of(tmp_path / "inception.pt")


@pytest.mark.usefixtures("unstated")
def test_i3d_gets_minus_one_to_one_and_its_own_resizing_is_off(tmp_path: Path) -> None:
    windows = _frames(2, 16, 40, 30)
    features = I3D(path=_script(_I3D(), tmp_path / "i3d.pt")).load("cpu")(windows)
    expected = np.stack([clean_resize(window, 224) / 127.5 - 1 for window in windows])
    assert features.shape == (2, 6)
    np.testing.assert_allclose(features[:, :3], expected.mean((1, 2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("unstated")
def test_a_file_that_is_no_torchscript_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"not a network")
    with pytest.raises(UserError, match="not a TorchScript file"):
        Inception(path=tmp_path / "bad.pt").load("cpu")


@pytest.fixture
def no_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG16 without its 124 million unused classifier weights, which take seconds to draw."""
    import torchvision
    from torchvision.models.vgg import cfgs, make_layers

    monkeypatch.setattr(torchvision.models, "vgg16", lambda **_: SimpleNamespace(features=make_layers(cfgs["D"])))


@pytest.mark.usefixtures("unstated", "no_classifier")
def test_lpips_equals_the_lpips_package_with_the_same_backbone(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    backbone = torchvision.models.vgg16(weights=None).features
    state = {f"features.{key}": value for key, value in backbone.state_dict().items()}
    torch.save(state, tmp_path / "vgg16.pth")
    a, b = _frames(2, 64, 64, seed=1), _frames(2, 64, 64, seed=2)
    ours = dataclasses.replace(LPIPS_VGG, path=tmp_path / "vgg16.pth").load("cpu", (-1.0, 1.0))(a, b)
    np.testing.assert_allclose(ours, _lpips_package("vgg", LPIPS_VGG.ends, state, a, b), rtol=1e-5)
    raw = dataclasses.replace(LPIPS_VGG, path=tmp_path / "vgg16.pth").load("cpu", (0.0, 1.0))(a, b)
    assert np.all(np.abs(raw - ours) > 1e-4)  # the range matters
    torch.save({**state, "surprise.weight": torch.zeros(1)}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="surprise"):
        dataclasses.replace(LPIPS_VGG, path=tmp_path / "odd.pth").load("cpu", (-1.0, 1.0))
    del state["features.0.weight"]
    torch.save(state, tmp_path / "short.pth")
    with pytest.raises(UserError, match="Missing key"):
        dataclasses.replace(LPIPS_VGG, path=tmp_path / "short.pth").load("cpu", (-1.0, 1.0))


@pytest.mark.usefixtures("unstated")
def test_lpips_with_alexnet_too_and_by_region(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    state = {f"features.{key}": value for key, value in torchvision.models.alexnet(weights=None).features.state_dict().items()}
    torch.save(state, tmp_path / "alexnet.pth")
    a, b = _frames(5, 64, 96, seed=1), _frames(5, 64, 96, seed=2)
    network = dataclasses.replace(LPIPS_ALEX, path=tmp_path / "alexnet.pth").load("cpu", (-1.0, 1.0))
    np.testing.assert_allclose(network(a, b), _lpips_package("alex", LPIPS_ALEX.ends, state, a, b), rtol=1e-5)
    whole = np.ones((5, 64, 96), bool)
    left = whole & (np.arange(96) < 48)
    parts = network.by_region(a, b, {"whole": whole, "left": left, "right": ~left, "nothing": ~whole})
    np.testing.assert_allclose(parts["whole"], parts["frame"], rtol=1e-6)
    assert np.isnan(parts["nothing"]).all()
    assert (np.minimum(parts["left"], parts["right"]) <= parts["frame"]).all()
    assert (np.maximum(parts["left"], parts["right"]) >= parts["frame"]).all()


def _lpips_package(net: str, ends: tuple[int, ...], state: dict[str, Any], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    import lpips as package

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it passes torchvision's old arguments
        network = package.LPIPS(net=net, pretrained=True, pnet_rand=True, verbose=False).eval()
    network.net.load_state_dict(
        {f"slice{1 + sum(int(k.split('.')[1]) >= e for e in ends)}.{k.split('.', 1)[1]}": v for k, v in state.items()}
    )
    with torch.inference_mode():
        pair = [torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (a, b)]
        return network(*pair).flatten().double().numpy()


@pytest.mark.parametrize("name", ["inception", "i3d", "lpips_vgg"])
def test_missing_weights_are_named_never_replaced(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    network = {**FEATURE_NETWORKS, **PAIR_NETWORKS}[name]
    with pytest.raises(MissingWeightsError):
        network.weights_digest()


def test_shipped_standins_are_what_their_seeds_make(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for network in STANDINS:
        again, shipped = load_file(write_standin(network, tmp_path)), load_file(network.path)
        assert set(again) == set(shipped)
        for key, tensor in shipped.items():
            torch.testing.assert_close(again[key], tensor, rtol=1e-4, atol=1e-5)
        assert network.weights_digest() in (network.path.parent / "README.md").read_text(encoding="utf-8")
        assert network.path.stat().st_size < 120_000


def test_standin_features_do_not_depend_on_the_batch() -> None:
    frames = _frames(5, 32, 40)
    function = STANDIN_FRAMES.load("cpu")
    together = function(frames)
    assert together.shape == (5, 64)
    np.testing.assert_array_equal(together[3], function(frames[3:4])[0])
    assert STANDIN_WINDOWS.load("cpu")(_frames(2, 16, 32, 32)).shape == (2, 32)


def test_standins_rank_damage() -> None:
    truth = np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in _frames(24, 48, 48)])
    truth = np.clip((truth.astype(int) - 128) * 4 + 128, 0, 255).astype(np.uint8)
    noise = np.random.default_rng(1).normal(size=truth.shape)
    distance, features = StandinLpips().load("cpu", (-1.0, 1.0)), STANDIN_FRAMES.load("cpu")
    damaged = [np.clip(truth + sigma * noise, 0, 255).astype(np.uint8) for sigma in (5, 20, 60)]
    by_lpips = [distance(frames, truth).mean() for frames in damaged]
    by_fid = [fid(features(frames), features(truth)) for frames in damaged]
    assert by_lpips == sorted(by_lpips)
    assert by_fid == sorted(by_fid)
    assert distance(truth, truth).max() == 0


def test_standin_windows_see_frozen_motion() -> None:
    moving = np.stack([np.roll(_frames(32, 32, seed=s), 2 * t, axis=1) for s in range(6) for t in range(16)]).reshape(6, 16, 32, 32, 3)
    frozen = np.repeat(moving[:, :1], 16, axis=1)
    features = STANDIN_WINDOWS.load("cpu")
    assert fid(features(frozen), features(moving)) > 10 * fid(features(moving[::-1]), features(moving))


def test_unknown_networks_list_what_there_is() -> None:
    with pytest.raises(UserError, match="standin_frames"):
        feature_network("nope")
    with pytest.raises(UserError, match="lpips_vgg"):
        pair_network("nope")


def test_standins_share_the_resized_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each frame is resized once for both, and the features are the same bits as from the frames themselves."""
    import eval.feature_rows
    from eval.feature_rows import SeenFrames, make_rows
    from eval.networks import MetricNetworks
    from eval.protocols import DEMO_STANDIN

    sizes: list[int] = []

    def counted(frames: np.ndarray, size: int) -> np.ndarray:
        sizes.extend([size] * len(frames))
        return clean_resize(frames, size)

    clip = _frames(20, 40, 32)
    frames_only, windows_only = list(range(1, 20)), [0, 3]
    expected = {"fid": STANDIN_FRAMES.load("cpu")(clip[1:]), "fvd": STANDIN_WINDOWS.load("cpu")(np.stack([clip[0:16], clip[3:19]]))}
    monkeypatch.setattr(eval.feature_rows, "clean_resize", counted)
    networks, seen = MetricNetworks(DEMO_STANDIN), SeenFrames(DEMO_STANDIN, clip)
    for role, wanted in (("fid", frames_only), ("fvd", windows_only)):
        rows = make_rows(DEMO_STANDIN, networks, role, seen, wanted, {"source": "truth"})
        np.testing.assert_array_equal(np.stack([row["feature"] for row in rows]), expected[role])
    assert sizes == [STANDIN_FRAMES.size] * 20


def test_windows_that_went_through_a_codec_are_not_shared_with_frames() -> None:
    from eval.feature_rows import SeenFrames, make_rows
    from eval.networks import MetricNetworks
    from eval.protocols import DEMO_STANDIN
    from eval.round_trip import through_gif

    protocol, clip = dataclasses.replace(DEMO_STANDIN, codec="gif"), _frames(16, 24, 24)
    networks, seen = MetricNetworks(protocol), SeenFrames(protocol, clip)
    (frame,) = make_rows(protocol, networks, "fid", seen, [2], {"source": "truth"})
    (window,) = make_rows(protocol, networks, "fvd", seen, [0], {"source": "truth"})
    np.testing.assert_array_equal(frame["feature"], STANDIN_FRAMES.load("cpu")(clip[2:3])[0])
    np.testing.assert_array_equal(window["feature"], STANDIN_WINDOWS.load("cpu")(through_gif(clip)[None])[0])
