"""Flow against torchvision's own RAFT on the same input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import UserError
from pipelines.extractors.flow import Flow, padding
from pipelines.masks import unpack_array
from pipelines.weights_table import WEIGHTS
from tests.small_clips import clip_of, noise

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("own_weights")


def test_flow_is_torchvision_s_in_any_batches_and_null_at_the_last_frame(tmp_path: Path) -> None:
    from torchvision.models.optical_flow import raft_large

    network = raft_large(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / WEIGHTS["flow"].file)
    frames = noise(3, 128, 136)
    rows = Flow(batch_frames=2).load("cpu")(clip_of(frames), frames)["flow"]
    x = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.no_grad():
        expected = network(x[:-1], x[1:])[-1].numpy()
    got = np.stack([unpack_array(row["flow"], row["shape"], row["dtype"]) for row in rows[:-1]])
    assert got.dtype == np.float16
    assert got.shape == (2, 2, 128, 136)
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-3)  # float16 storage
    assert rows[-1]["flow"] is None
    assert len(rows) == 3
    one = Flow(batch_frames=1).load("cpu")(clip_of(frames), frames)["flow"]
    np.testing.assert_allclose(unpack_array(one[1]["flow"], one[1]["shape"], "float16"), got[1], rtol=4e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(72, 96), (128, 128), (130, 1001)])
def test_padding_reaches_multiples_of_8_and_128_and_is_even(size: tuple[int, int]) -> None:
    left, right, top, bottom = padding(*size)
    for side, parts in ((size[1], (left, right)), (size[0], (top, bottom))):
        assert (side + sum(parts)) % 8 == 0
        assert side + sum(parts) >= 128
        assert 0 <= parts[1] - parts[0] <= 1


def test_small_frames_keep_their_size(tmp_path: Path) -> None:
    from torchvision.models.optical_flow import raft_large

    torch.save(raft_large(weights=None).state_dict(), tmp_path / WEIGHTS["flow"].file)
    frames = noise(2, 50, 61)
    assert Flow().load("cpu")(clip_of(frames), frames)["flow"][0]["shape"] == [2, 50, 61]


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / WEIGHTS["flow"].file)
    with pytest.raises(UserError, match="does not hold the weights of RAFT"):
        Flow().load("cpu")
