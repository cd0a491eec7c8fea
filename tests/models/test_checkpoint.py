"""Checkpoints: whole or not there, and strict about what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoint import WEIGHTS, load_part, load_strictly, read_manifest, save_checkpoint, verify
from models.pose_guider import PoseGuider
from pipelines.errors import UserError


def _guider(seed: int = 0) -> PoseGuider:
    torch.manual_seed(seed)
    return PoseGuider(8, (4, 8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "checkpoint", {"pose_guider": _guider()}, {"method": "animate_anyone", "seed": 0})


def test_what_is_saved_is_loaded(folder: Path) -> None:
    loaded, truth = load_part(PoseGuider, folder / "pose_guider"), _guider()
    assert {name: value.tolist() for name, value in loaded.state_dict().items()} == {
        name: value.tolist() for name, value in truth.state_dict().items()
    }
    manifest = read_manifest(folder)
    assert manifest["method"] == "animate_anyone"
    assert sorted(manifest["files"]) == ["pose_guider/config.json", f"pose_guider/{WEIGHTS}"]
    verify(folder)


def test_equal_weights_have_equal_digests(folder: Path, tmp_path: Path) -> None:
    again = save_checkpoint(tmp_path / "again", {"pose_guider": _guider()}, {})
    other = save_checkpoint(tmp_path / "other", {"pose_guider": _guider(seed=1)}, {})
    assert read_manifest(again)["files"] == read_manifest(folder)["files"]
    assert read_manifest(other)["files"] != read_manifest(folder)["files"]


def test_diffusers_reads_it_too(folder: Path) -> None:
    loaded = PoseGuider.from_pretrained(folder / "pose_guider")
    assert torch.equal(loaded.layers[0].weight, _guider().layers[0].weight)


def test_a_changed_file_is_found(folder: Path) -> None:
    path = folder / "pose_guider" / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="not what its manifest says"):
        verify(folder)
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        verify(folder)


def test_a_folder_without_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no checkpoint: manifest\.json is missing"):
        read_manifest(tmp_path)


def test_an_interrupted_save_leaves_the_old_checkpoint(folder: Path) -> None:
    class Broken:
        def save_pretrained(self, path: Path) -> None:
            path.mkdir(parents=True)
            (path / "half").write_text("half")
            raise OSError("disk full")

    before = read_manifest(folder)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(folder, {"pose_guider": Broken()}, {})
    assert read_manifest(folder) == before
    verify(folder)


def test_what_does_not_fit_is_named(folder: Path) -> None:
    weights = load_file(folder / "pose_guider" / WEIGHTS)
    spoilt = {f"{name}.old": value for name, value in weights.items()}
    with pytest.raises(
        UserError, match=r"does not fit PoseGuider: missing \['layers\.0\.bias'.*unexpected \['layers\.0\.bias\.old'"
    ) as caught:
        load_strictly(_guider(), spoilt, source="x")
    assert str(caught.value).count(".old") == 5  # the first five


def test_a_weight_without_a_place_is_an_error(folder: Path) -> None:
    path = folder / "pose_guider" / WEIGHTS
    save_file({**load_file(path), "stray": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"missing \[\], unexpected \['stray'\]"):
        load_part(PoseGuider, folder / "pose_guider")


def test_only_listed_keys_may_be_missing(folder: Path) -> None:
    path = folder / "pose_guider" / WEIGHTS
    weights = load_file(path)
    kept = {name: value for name, value in weights.items() if not name.startswith("layers.0.")}
    save_file(kept, path)
    with pytest.raises(UserError, match=r"layers\.0\.bias"):
        load_part(PoseGuider, folder / "pose_guider")
    loaded = load_part(PoseGuider, folder / "pose_guider", may_be_missing={"layers.0.*"})
    assert torch.equal(loaded.layers[2].weight, weights["layers.2.weight"])
    with pytest.raises(UserError, match="missing"):
        load_part(PoseGuider, folder / "pose_guider", may_be_missing={"layers.0.bias"})


def test_a_wrong_shape_is_an_error(folder: Path) -> None:
    config = folder / "pose_guider" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "out_channels": 16}))
    with pytest.raises(
        UserError,
        match=r"does not fit PoseGuider: missing \[\], unexpected \[\], of another shape \['layers\.6\.bias', 'layers\.6\.weight'\]",
    ):
        load_part(PoseGuider, folder / "pose_guider")


@pytest.mark.parametrize("left", [0, 7, 200])
def test_a_truncated_weights_file_is_a_users_error(folder: Path, left: int) -> None:
    path = folder / "pose_guider" / WEIGHTS
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UserError, match="cannot be read"):
        load_part(PoseGuider, folder / "pose_guider")
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        load_part(PoseGuider, folder / "pose_guider")


@pytest.mark.parametrize("text", ["", '{"files": {"a', "{}", "[]", '{"files": 3}'])
def test_a_damaged_manifest_is_a_users_error(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        verify(folder)


def test_a_replacement_that_was_cut_off_is_undone_by_the_next_reader(folder: Path) -> None:
    """Killed between the two renames: the old checkpoint lies beside its place, and the new one is not there yet."""
    before = read_manifest(folder)
    folder.rename(folder.with_name(f".{folder.name}.old"))
    assert read_manifest(folder) == before
    verify(folder)
    save_checkpoint(folder, {"pose_guider": _guider(seed=1)}, {})
    verify(folder)
    assert read_manifest(folder)["files"] != before["files"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
