"""Networks of evaluation that look at people: each against the published steps, restated with other libraries."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from benchmarks.random_networks import scrfd_graph, simcc_graph, yolox_graph
from pipelines.clip import Frames
from pipelines.errors import MissingWeightsError, UserError
from pipelines.extractors.clip_similarity import CLIP_B32, CLIP_B32_EVALCRAFTER, CLIP_L14, ClipSimilarity
from pipelines.extractors.dwpose import DWPose
from pipelines.extractors.face_identity import ARCFACE, MOBILEFACENET
from pipelines.extractors.faces import Faces
from pipelines.extractors.generated_pose import DWPOSE_KEYPOINTS, MEDIAPIPE_KEYPOINTS, keypoint_rows
from pipelines.extractors.metric_networks import FeatureNetwork
from pipelines.extractors.metric_people import PEOPLE_NETWORKS
from pipelines.extractors.person_reid import PersonReid, load_trunk, with_frame_statistics
from pipelines.extractors.rtpose_vgg import RtposeVgg, build_network, forward, heat_maps, joint_row, peaks
from pipelines.extractors.scrfd import Scrfd
from pipelines.weights import WEIGHTS
from tests.small_clips import clip_of, noise

pytestmark = pytest.mark.usefixtures("own_weights")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    torch.set_num_threads(1)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("ROTOSCOPE_ACCEPT_TERMS", "face_detector,face_recogniser")


def _smooth(count: int, height: int, width: int) -> Frames:
    import cv2

    coarse = np.random.default_rng(1).integers(0, 256, (count, 12, 9, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in coarse])


def test_every_network_has_the_interface_of_evaluation_and_its_own_name() -> None:
    assert all(isinstance(network, FeatureNetwork) for network in PEOPLE_NETWORKS)
    names = [network.name for network in PEOPLE_NETWORKS]
    assert len(set(names)) == len(names)
    assert {"arcface", "mobilefacenet", "clip_l14", "clip_b32", "clip_b32_evalcrafter", "dwpose_keypoints", "mediapipe_keypoints",
            "reid_resnet50", "rtpose_vgg"} <= set(names)  # fmt: skip


@pytest.mark.parametrize("network", [n for n in PEOPLE_NETWORKS if n.name != "mediapipe_keypoints"], ids=lambda network: network.name)
def test_missing_files_are_named(network: FeatureNetwork) -> None:
    with pytest.raises(MissingWeightsError, match="are missing"):
        network.weights_digest()


# --- faces -----------------------------------------------------------------------------------------------------------


def _recogniser(path: Path, size: int) -> np.ndarray:
    """A graph [N, 3, 112, 112] -> means of the channels times a random matrix [3, size], which is returned."""
    matrix = np.random.default_rng(2).normal(0, 1, (3, size)).astype(np.float32)
    nodes = [helper.make_node("ReduceMean", ["face", "axes"], ["mean"], keepdims=0), helper.make_node("MatMul", ["mean", "m"], ["out"])]
    inputs = [helper.make_tensor_value_info("face", TensorProto.FLOAT, ["N", 3, 112, 112])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", size])]
    constants = [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]), numpy_helper.from_array(matrix, "m")]
    graph = helper.make_graph(nodes, "recogniser", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return matrix


def test_arcface_is_the_largest_face_aligned_by_scikit_image_and_normalised(tmp_path: Path) -> None:
    import cv2
    from skimage.transform import SimilarityTransform

    from pipelines.extractors.face_embedding import TEMPLATE

    scrfd_graph(tmp_path / "scrfd_10g_bnkps.onnx", (64, 96))
    matrix = _recogniser(tmp_path / "glintr100.onnx", 512)
    frames = _smooth(10, 64, 96)  # more than a batch
    embeddings = ARCFACE.load("cpu")(frames)
    assert embeddings.shape == (10, 512)
    for frame, faces, embedding in zip(frames, Scrfd(tmp_path / "scrfd_10g_bnkps.onnx")(frames), embeddings, strict=True):
        areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in faces.boxes]
        warp = SimilarityTransform.from_estimate(faces.points[int(np.argmax(areas))], TEMPLATE).params[:2]
        face = cv2.warpAffine(frame, warp, (112, 112), borderValue=0)
        expected = ((face.astype(np.float64) - 127.5) / 127.5).mean(axis=(0, 1)) @ matrix
        np.testing.assert_allclose(embedding, expected, atol=5e-3)


def _nobody(path: Path, device: str, threads: int) -> Callable[[Frames], list[Faces]]:
    nothing = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
    return lambda frames: [nothing] * len(frames)


def test_frames_without_a_face_are_rows_of_nan(tmp_path: Path) -> None:
    scrfd_graph(tmp_path / "scrfd_10g_bnkps.onnx", (64, 96))
    _recogniser(tmp_path / "glintr100.onnx", 512)
    rows = replace(ARCFACE, open_detector=_nobody).load("cpu")(noise(3))
    assert rows.shape == (3, 512)
    assert rows.dtype == np.float32
    assert np.isnan(rows).all()


def test_a_recogniser_of_another_size_is_refused(tmp_path: Path) -> None:
    scrfd_graph(tmp_path / "scrfd_10g_bnkps.onnx", (64, 96))
    _recogniser(tmp_path / "glintr100.onnx", 128)
    with pytest.raises(UserError, match="128 numbers, arcface has 512"):
        ARCFACE.load("cpu")(_smooth(2, 64, 96))


def test_digests_change_with_either_network(tmp_path: Path) -> None:
    scrfd_graph(tmp_path / "scrfd_10g_bnkps.onnx", (64, 96))
    _recogniser(tmp_path / "glintr100.onnx", 512)
    before = ARCFACE.weights_digest()
    assert before == ARCFACE.weights_digest()
    scrfd_graph(tmp_path / "scrfd_10g_bnkps.onnx", (64, 96), seed=1)
    assert ARCFACE.weights_digest() != before


def test_terms_that_are_not_accepted_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scrfd_graph(tmp_path / "scrfd_10g_bnkps.onnx", (64, 96))
    monkeypatch.delenv("ROTOSCOPE_ACCEPT_TERMS")
    with pytest.raises(UserError, match="ROTOSCOPE_ACCEPT_TERMS"):
        ARCFACE.weights_digest()


def test_one_person_is_nearer_than_two_and_a_blank_frame_has_no_face(media: Path, weights_dir: Path, tmp_path: Path) -> None:
    """Measured: same person 0.66 and 0.72 (two photographs), different people 0 at most."""
    from PIL import Image

    for name in ("retinaface_mobilenet0.25.pth", "mobilefacenet.onnx"):
        shutil.copy(weights_dir / name, tmp_path)
    with (media / "metadata" / "face_pairs.csv").open() as file:
        pairs = [(row["file_a"], row["file_b"], row["same_person"] != "0") for row in csv.DictReader(file)]
    names = sorted({name for pair in pairs for name in pair[:2] if (media / "images" / name).exists()})
    features = MOBILEFACENET.load("cpu")
    unit = {}
    for name in names:
        image = np.array(Image.open(media / "images" / name).convert("RGB"))
        (face,) = features(image[None])
        assert face.shape == (128,)
        unit[name] = face / np.linalg.norm(face)
    assert np.isnan(features(np.zeros((2, 300, 200, 3), np.uint8))).all()
    cosine = {frozenset(pair): float(unit[pair[0]] @ unit[pair[1]]) for pair in combinations(names, 2)}
    known = [(cosine[frozenset((a, b))], same) for a, b, same in pairs if a in unit and b in unit]
    assert min(value for value, same in known if same) > max(value for value, same in known if not same) + 0.4


# --- CLIP ------------------------------------------------------------------------------------------------------------


def _clip(folder: Path, seed: int = 0) -> Any:
    """A tiny CLIPModel of the published form at `folder`; the model, with random weights."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 49408, "max_position_embeddings": 8, "eos_token_id": 2}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 224, "patch_size": 56}, projection_dim=12)).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("network", [CLIP_L14, CLIP_B32], ids=lambda network: network.name)
@pytest.mark.parametrize("shape", [(300, 500), (333, 250), (100, 61), (224, 224)])
def test_clip_is_transformers_processor_and_model(tmp_path: Path, network: ClipSimilarity, shape: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model = _clip(tmp_path / network.role)
    frames = noise(3, *shape)
    pixels = CLIPImageProcessorPil()(list(frames), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    np.testing.assert_allclose(network.prepare(frames), pixels, atol=1e-6)
    np.testing.assert_allclose(network.load("cpu")(frames), expected, atol=1e-5)


def test_evalcrafter_s_faults_are_kept(tmp_path: Path) -> None:
    """Its own steps on torchvision: Resize([224, 224]) of float tensors without antialiasing, straight into the model."""
    from torchvision.transforms import Resize

    model = _clip(tmp_path / "clip_base")
    frames = noise(2, 300, 500)
    resize = Resize([224, 224], antialias=False)
    tensors = torch.stack([resize(torch.from_numpy(frame).permute(2, 0, 1).float()) for frame in frames])
    with torch.no_grad():
        expected = model.visual_projection(model.vision_model(pixel_values=tensors).pooler_output)
    np.testing.assert_allclose(CLIP_B32_EVALCRAFTER.load("cpu")(frames), expected, atol=1e-5)
    assert not np.allclose(CLIP_B32.load("cpu")(frames), expected, atol=1e-2)


def test_clip_s_two_sizes_have_two_files_and_only_whole_ones_are_opened(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    _clip(tmp_path / "clip_large", seed=1)
    _clip(tmp_path / "clip_base", seed=2)
    assert CLIP_L14.weights_digest() != CLIP_B32.weights_digest() == CLIP_B32_EVALCRAFTER.weights_digest()
    file = tmp_path / "clip_base" / "model.safetensors"
    state = load_file(file)
    save_file({name: tensor for name, tensor in state.items() if name != "visual_projection.weight"}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match="visual_projection"):
        CLIP_B32.load("cpu")


# --- keypoints -------------------------------------------------------------------------------------------------------


def _pose_files(folder: Path, bias: float = 0.0) -> None:
    yolox_graph(folder / "yolox_l.onnx", (64, 64), seed=3, bias=bias)
    simcc_graph(folder / "dw-ll_ucoco_384.onnx", (96, 72), seed=1)


def test_dwpose_keypoints_are_the_extractor_s(tmp_path: Path) -> None:
    _pose_files(tmp_path)
    frames = _smooth(5, 120, 160)
    rows = DWPOSE_KEYPOINTS.load("cpu")(frames).reshape(5, 133, 3)
    poses = DWPose().load("cpu")(clip_of(frames), frames)["poses"]
    for row, pose in zip(rows, poses, strict=True):
        assert not np.isnan(row).any()
        np.testing.assert_array_equal(row[:, :2], np.array(pose["keypoints"], np.float32).reshape(133, 2))
        np.testing.assert_array_equal(row[:, 2], np.array(pose["scores"], np.float32))
    assert DWPOSE_KEYPOINTS.weights_digest() == DWPose().weights_digest()


def test_frames_without_a_person_are_rows_of_nan(tmp_path: Path) -> None:
    _pose_files(tmp_path, bias=-100)
    rows = DWPOSE_KEYPOINTS.load("cpu")(_smooth(3, 120, 160))
    assert rows.shape == (3, 399)
    assert np.isnan(rows).all()
    mixed = keypoint_rows(np.ones((2, 133, 2), np.float32), np.stack([np.zeros(133, np.float32), np.full(133, 0.5, np.float32)]))
    assert np.isnan(mixed[0]).all()
    np.testing.assert_array_equal(mixed[1], np.tile(np.array([1, 1, 0.5], np.float32), 133))


def test_mediapipe_sees_nobody_in_noise() -> None:
    pytest.importorskip("mediapipe", reason="the extra mediapipe is not installed")
    rows = MEDIAPIPE_KEYPOINTS.load("cpu")(noise(2, 120, 160))
    assert rows.shape == (2, 399)
    assert np.isnan(rows).all()
    assert len(bytes.fromhex(MEDIAPIPE_KEYPOINTS.weights_digest())) == 32


def test_mediapipe_keypoints_are_the_extractor_s(media: Path) -> None:
    pytest.importorskip("mediapipe", reason="the extra mediapipe is not installed")
    from pipelines.extractors.mediapipe import MediaPipe
    from pipelines.video import read_video

    frames = read_video(media / "videos" / "juggle_fullbody.mp4")[:3]
    rows = MEDIAPIPE_KEYPOINTS.load("cpu")(frames).reshape(3, 133, 3)
    for row, pose in zip(rows, MediaPipe().load("cpu")(clip_of(frames), frames)["poses"], strict=True):
        np.testing.assert_array_equal(row[:, :2].ravel(), np.array(pose["keypoints"], np.float32))
        np.testing.assert_array_equal(row[:, 2], np.array(pose["scores"], np.float32))


# --- appearance ------------------------------------------------------------------------------------------------------


class _FtNet(nn.Module):
    """Person_reID_baseline_pytorch's ft_net(751) of the time: bottleneck in the place of the last layer, then the classifier."""

    def __init__(self) -> None:
        from torchvision.models import resnet50

        super().__init__()
        self.model = resnet50(weights=None)
        self.model.fc = nn.Sequential(nn.Linear(2048, 512), nn.BatchNorm1d(512), nn.LeakyReLU(0.1), nn.Dropout(0.5))
        self.classifier = nn.Sequential(nn.Linear(512, 751))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.model(x))


@pytest.fixture(scope="module")
def ft_net() -> _FtNet:
    torch.manual_seed(0)
    net = _FtNet()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return net


def test_appearance_is_the_published_steps_by_torchvision(tmp_path: Path, ft_net: _FtNet) -> None:
    """Twice divided by 255, never switched to evaluation mode, one frame at a time."""
    from torchvision import transforms

    torch.save(ft_net.state_dict(), tmp_path / "reid_model.pth")
    steps = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize((288, 144), interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize([0.0, 0.0, 0.0], [255.0, 255.0, 255.0]),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    frames = _smooth(2, 90, 70)
    ours = PersonReid().load("cpu")(frames)
    bare = _FtNet()
    bare.load_state_dict(ft_net.state_dict())
    bare.model.fc, bare.classifier = nn.Sequential(), nn.Sequential()
    with torch.no_grad():
        expected = torch.cat([bare(steps(frame)[None]) for frame in frames])
    assert ours.shape == (2, 2048)
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    np.testing.assert_allclose(PersonReid().load("cpu")(frames[1:]), ours[1:], atol=1e-6)  # frames do not see each other


def test_checkpoints_of_old_torch_open_and_foreign_ones_do_not(tmp_path: Path, ft_net: _FtNet) -> None:
    state = dict(ft_net.state_dict())
    torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, tmp_path / "old.pth")
    network = with_frame_statistics(load_trunk(tmp_path / "old.pth"))
    assert not network.training
    torch.save({name: tensor for name, tensor in state.items() if "layer3" not in name}, tmp_path / "less.pth")
    with pytest.raises(UserError, match="layer3"):
        load_trunk(tmp_path / "less.pth")


def test_the_two_published_files_have_no_invented_digest() -> None:
    for role, name in (("person_reid", "reid_model.pth"), ("akd_pose", "pose_model.pth")):
        assert WEIGHTS[role].file == name
        assert WEIGHTS[role].sha256 is None


# --- joints for AKD --------------------------------------------------------------------------------------------------


def test_the_network_has_the_names_and_the_order_of_the_published_one() -> None:
    """All weights 0 but a path through the heat branches from one channel that the stages before gave: fields, heat, features."""
    network = build_network()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert len(shapes) == 2 * (12 + 2 * 5 + 10 * 7)
    assert shapes["model0.0.weight"] == (64, 3, 3, 3)
    assert shapes["model0.25.weight"] == (128, 256, 3, 3)
    assert shapes["model1_1.8.bias"] == (38,)
    assert shapes["model6_1.0.weight"] == (128, 185, 7, 7)
    assert shapes["model6_2.12.weight"] == (19, 128, 1, 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network["model0"][25].bias.fill_(7)
        network["model1_2"][8].bias.fill_(5)
        for stage in range(1, 7):
            network[f"model{stage}_1"][-1].bias.fill_(3)
        for channel, value in ((0, 3), (37, 3), (38, 5), (56, 5), (57, 7), (184, 7)):
            for stage in range(2, 7):
                _pass(network[f"model{stage}_2"], channel if stage == 2 else 38)
            np.testing.assert_array_equal(forward(network, torch.zeros(1, 3, 24, 32)), np.full((1, 19, 3, 4), value))


def _pass(branch: nn.Sequential, channel: int) -> None:
    """Weights by which every output of a branch is its input's `channel`."""
    convolutions = [layer for layer in branch if isinstance(layer, nn.Conv2d)]
    for i, layer in enumerate(convolutions):
        layer.weight.zero_()
        centre = layer.kernel_size[0] // 2
        layer.weight[slice(None) if i == len(convolutions) - 1 else 0, channel if i == 0 else 0, centre, centre] = 1


@pytest.mark.parametrize("scales", [(1,), (0.5, 1, 1.5)])
@pytest.mark.parametrize(("height", "width"), [(96, 70), (61, 90)])
def test_a_dot_is_found_where_it_is_at_every_scale_and_in_the_mirror(scales: tuple[float, ...], height: int, width: int) -> None:
    """The "network" calls red the right wrist in the left half of the picture and the left wrist in the other half."""
    right_wrist, left_wrist = 4, 7

    def heat(images: np.ndarray) -> np.ndarray:
        red = torch.nn.functional.avg_pool2d(torch.from_numpy(images[:, 2:3] + 0.5), 8).permute(0, 2, 3, 1).numpy()
        maps = np.zeros((*red.shape[:3], 19), np.float32)
        for place, one, image in zip(maps, red[..., 0], images, strict=True):
            shown = int((image[0] != 0).any(axis=0).sum()) // 8  # cells of this scale's picture; the canvas beyond it is 0
            place[:, : shown // 2, right_wrist], place[:, shown // 2 : shown, left_wrist] = one[:, : shown // 2], one[:, shown // 2 : shown]
        return maps

    frame = np.zeros((height, width, 3), np.uint8)
    frame[40:45, 17:22, 0] = 255  # centre (19, 42)
    maps = heat_maps(heat, frame, scales)
    assert maps.shape == (height, width, 18)
    np.testing.assert_allclose(maps[..., left_wrist], 0, atol=1e-6)
    joints = joint_row(maps).reshape(18, 3)
    np.testing.assert_allclose(joints[right_wrist], (19, 42, 1), atol=1.5)
    assert (np.delete(joints, right_wrist, axis=0) == (-1, -1, 0)).all()


def test_the_mirrored_frame_counts_half_with_left_and_right_exchanged() -> None:
    """A "network" that says "right wrist" in the left quarter whatever it is shown."""

    def heat(images: np.ndarray) -> np.ndarray:
        maps = np.zeros((len(images), images.shape[2] // 8, images.shape[3] // 8, 19), np.float32)
        maps[:, :, : maps.shape[2] // 4, 4] = 1
        return maps

    maps = heat_maps(heat, np.zeros((80, 80, 3), np.uint8), (1,))
    np.testing.assert_allclose(maps[:, :15, 4], 0.5, atol=0.05)
    np.testing.assert_allclose(maps[:, 65:, 7], 0.5, atol=0.05)
    np.testing.assert_allclose(maps[:, 25:, 4], 0, atol=1e-6)


def test_padding_to_whole_cells_moves_nothing() -> None:
    """A ramp from top to bottom comes back as itself where the 65 px of its small version are padded to 72."""

    def heat(images: np.ndarray) -> np.ndarray:
        red = torch.nn.functional.avg_pool2d(torch.from_numpy(images[:, 2:3] + 0.5), 8)
        return red.permute(0, 2, 3, 1).expand(-1, -1, -1, 19).numpy()

    ramp = np.broadcast_to(np.linspace(0, 255, 61)[:, None, None], (61, 90, 3)).astype(np.uint8)
    maps = heat_maps(heat, ramp, (65 / 368,))
    np.testing.assert_allclose(maps[15:40, 45, 0], ramp[15:40, 45, 0] / 256, atol=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_joints_are_the_published_peaks_by_scipy(seed: int) -> None:
    """The last of the cross-shaped maxima in reading order, moved to the highest value within two pixels."""
    from scipy.ndimage import gaussian_filter, generate_binary_structure, maximum_filter

    maps = gaussian_filter(np.random.default_rng(seed).normal(0, 1, (40, 50, 18)), (1.5, 1.5, 0))
    joints = joint_row(maps).reshape(18, 3)
    for joint in range(18):
        heat = maps[..., joint]
        found = np.argwhere((maximum_filter(heat, footprint=generate_binary_structure(2, 1)) == heat) & (heat > 0.1))
        np.testing.assert_array_equal(np.stack(peaks(heat), axis=1), found)
        around = [(y, x) for y in range(40) for x in range(50) if max(abs(y - found[-1][0]), abs(x - found[-1][1])) <= 2]
        y, x = max(around, key=lambda at: heat[at])
        assert joints[joint].tolist() == [x, y, 1]


def test_of_several_people_the_lowest_overwrites_and_nothing_is_missing_joints() -> None:
    maps = np.zeros((60, 40, 18))
    maps[10, 30, 0], maps[50, 5, 0], maps[20, 20, 1] = 0.9, 0.2, 0.1  # the last is not over the threshold
    joints = joint_row(maps).reshape(18, 3)
    assert joints[0].tolist() == [5, 50, 1]
    assert (joints[1:] == (-1, -1, 0)).all()
    assert (joint_row(np.zeros((20, 20, 18))).reshape(18, 3) == (-1, -1, 0)).all()


def test_rtpose_runs_a_file_and_refuses_other_files(tmp_path: Path) -> None:
    network = build_network()
    for parameter in network.parameters():  # as deep as it is, torch's own start leaves nothing of the picture
        nn.init.kaiming_normal_(parameter) if parameter.ndim == 4 else nn.init.zeros_(parameter)
    torch.save(network.state_dict(), tmp_path / "pose_model.pth")
    frames = _smooth(2, 64, 48)
    rows = RtposeVgg(name="small", scales=(0.1, 0.15)).load("cpu")(frames)
    assert rows.shape == (2, 54)
    joints = rows.reshape(2, 18, 3)
    seen = joints[..., 2] == 1
    assert seen.any()
    assert ((joints[seen][:, :2] >= 0) & (joints[seen][:, :2] < (48, 64))).all()
    assert (joints[~seen] == (-1, -1, 0)).all()
    torch.save({"model0.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "pose_model.pth")
    with pytest.raises(UserError, match="does not hold the weights"):
        RtposeVgg(name="small", scales=(1,)).load("cpu")
