"""How pretrained files are found, checked and locked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import MissingWeightsError, UserError
from pipelines.weights import WEIGHTS, digest_of, find_weights, locked_by, weights_at_hand

ROLE = "face_recogniser_small"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights of this machine, no network, an empty Hugging Face cache."""
    import huggingface_hub.constants

    monkeypatch.delenv("ROTOSCOPE_WEIGHTS", raising=False)
    monkeypatch.delenv("ROTOSCOPE_ACCEPT_TERMS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes = b"network") -> Path:
    folder = tmp_path / "weights"
    folder.mkdir(exist_ok=True)
    (folder / "mobilefacenet.onnx").write_bytes(content)
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(folder))
    return folder


def test_every_role_is_complete() -> None:
    for role, weight in WEIGHTS.items():
        assert weight.role == role
        assert weight.file
        assert weight.licence
        assert weight.shipped or weight.is_url or weight.source.count("/") == 1
        assert not weight.shipped or role.endswith("_tiny")
        assert weight.sha256 is None or len(bytes.fromhex(weight.sha256)) == 32


def test_what_is_shipped_is_found_without_a_folder_and_never_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.weights._TINY", tmp_path)
    with pytest.raises(MissingWeightsError, match="rotoscope tiny train dwpose"):
        find_weights("dwpose_tiny")
    (tmp_path / "dwpose").mkdir()
    (tmp_path / "dwpose" / "model.onnx").write_bytes(b"first")
    assert find_weights("dwpose_tiny", lock=tmp_path / "weights.lock") == tmp_path / "dwpose" / "model.onnx"
    (tmp_path / "dwpose" / "model.onnx").write_bytes(b"second")
    find_weights("dwpose_tiny", lock=tmp_path / "weights.lock")
    assert not (tmp_path / "weights.lock").exists()


def test_the_explicit_path_comes_before_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path, monkeypatch)
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(b"mine")
    assert find_weights(ROLE, mine) == mine
    assert find_weights(ROLE) == folder / "mobilefacenet.onnx"


@pytest.mark.parametrize("place", ["vgg16-397923af.pth", "lpips_vgg16/vgg16-397923af.pth"])
def test_the_folder_may_have_a_folder_per_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(b"vgg")
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(WEIGHTS, "lpips_vgg16", replace(WEIGHTS["lpips_vgg16"], sha256=hashlib.sha256(b"vgg").hexdigest()))
    assert find_weights("lpips_vgg16") == tmp_path / place


def test_the_hugging_face_cache_is_used_offline(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--yzd-v--DWPose" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "dw-ll_ucoco_384.onnx").write_bytes(b"dwpose")
    refs = tmp_path / "hub" / "models--yzd-v--DWPose" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    assert find_weights("dwpose") == snapshot / "dw-ll_ucoco_384.onnx"


def test_a_folder_of_a_repository_is_found_in_the_cache(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--h94--IP-Adapter"
    encoder = repository / "snapshots" / "abc" / "models" / "image_encoder"
    encoder.mkdir(parents=True)
    (encoder / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert find_weights("ip_adapter_image_encoder") == encoder


@pytest.mark.parametrize(("role", "command"), [("dwpose", "huggingface-cli download yzd-v/DWPose dw-ll_ucoco_384.onnx"), (ROLE, "curl -L")])
def test_missing_weights_say_what_where_and_how(role: str, command: str) -> None:
    with pytest.raises(MissingWeightsError) as error:
        find_weights(role)
    for part in (role, WEIGHTS[role].file, WEIGHTS[role].source, "export ROTOSCOPE_WEIGHTS=", command):
        assert part in str(error.value)
    assert weights_at_hand(role) is None


def test_an_explicit_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="does not exist"):
        find_weights(ROLE, tmp_path / "nothing.onnx")


def test_an_unknown_role_lists_the_roles() -> None:
    with pytest.raises(UserError, match="dwpose"):
        find_weights("nothing")


def test_a_weights_folder_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path / "gone"))
    with pytest.raises(UserError, match="is no folder"):
        find_weights(ROLE)


def test_a_file_that_is_not_the_stated_one_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"damaged")
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path))
    with pytest.raises(UserError, match="397923af8e79cdbb"):
        find_weights("lpips_vgg16")


def test_first_use_locks_and_a_later_mismatch_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _folder(tmp_path, monkeypatch)
    lock = tmp_path / "weights.lock"
    with locked_by(lock):
        find_weights(ROLE)
        find_weights(ROLE)
    assert json.loads(lock.read_text())[ROLE]["sha256"] == hashlib.sha256(b"network").hexdigest()
    _folder(tmp_path, monkeypatch, b"another network")
    with pytest.raises(UserError, match="was used before"):
        find_weights(ROLE, lock=lock)


def test_non_commercial_weights_need_an_acceptance_that_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, lock = tmp_path / "glintr100.onnx", tmp_path / "weights.lock"
    mine.write_bytes(b"arcface")
    with pytest.raises(UserError, match="ROTOSCOPE_ACCEPT_TERMS=face_recogniser"):
        find_weights("face_recogniser", mine, lock=lock)
    assert not lock.exists()
    monkeypatch.setenv("ROTOSCOPE_ACCEPT_TERMS", "face_detector,face_recogniser")
    find_weights("face_recogniser", mine, lock=lock)
    assert json.loads(lock.read_text())["face_recogniser"]["terms_accepted"] is True


def test_the_digest_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    before = digest_of(tmp_path)
    (tmp_path / "b").rename(tmp_path / "c")
    assert digest_of(tmp_path) != before
    assert digest_of(tmp_path / "a") == hashlib.sha256(b"1").hexdigest()
