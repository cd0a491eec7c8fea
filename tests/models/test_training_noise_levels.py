"""Loss by noise level: the bins are a partition, so their means weighted by their counts are the loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.noise import diffusion_loss
from models.noise_levels import NoiseLevels, log_sigma_levels, losses_of_rows, mean_by_noise, timestep_levels
from models.training_loop import StepRecord
from tests.models.toy_training import SHARED, run_toy


def test_means_weighted_by_counts_are_the_mean_loss(tmp_path: Path) -> None:
    records, _ = run_toy(tmp_path)
    binned = mean_by_noise(records)
    samples = sum(count for _, count in binned.values())
    assert samples == SHARED.steps * SHARED.accumulation * 16
    losses = [record.loss for record in records if record.loss is not None]
    overall = sum(mean * count for mean, count in binned.values()) / samples
    assert overall == pytest.approx(sum(losses) / len(losses), rel=1e-6)


def test_each_note_covers_the_steps_since_the_last_one(tmp_path: Path) -> None:
    records, _ = run_toy(tmp_path)  # probes after steps 2, 4, 6 and 8
    noted = {record.step: record for record in records if record.by_noise}
    assert sorted(noted) == [2, 4, 6, 8]
    for step, record in noted.items():
        losses = [r.loss for r in records if r.step in (step - 1, step)]
        total, count = (sum(pair[i] for pair in record.by_noise.values()) for i in (0, 1))
        assert count == 2 * SHARED.accumulation * 16
        assert total / count == pytest.approx(sum(losses) / 2, rel=1e-6)


def test_a_run_without_probes_notes_all_of_it_at_its_end(tmp_path: Path) -> None:
    records, _ = run_toy(tmp_path, replace(SHARED, probes=0))
    assert [record.step for record in records if record.by_noise] == [8]


def test_a_level_falls_into_the_bin_that_says_so() -> None:
    levels = timestep_levels()
    timesteps = torch.tensor([0, 99, 100, 555, 999])
    levels.add(timesteps, torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
    levels.totals += levels.pending()
    assert levels.take() == {"0-99": [3.0, 2], "100-199": [4.0, 1], "500-599": [8.0, 1], "900-999": [16.0, 1]}
    assert levels.take() == {}  # taken


def test_low_timesteps_alone_have_finer_bins() -> None:
    assert timestep_levels(125).names[:2] == ("0-11", "12-24")
    assert timestep_levels(125).names[-1] == "112-124"


def test_log_sigma_bins_are_open_at_their_ends() -> None:
    levels = log_sigma_levels(-2.0, 3.0, bins=5)
    levels.add(torch.tensor([-9.0, -1.5, 0.5, 9.0]), torch.ones(4))
    levels.totals += levels.pending()
    assert levels.take() == {"-2.00..-1.00": [2.0, 2], "0.00..1.00": [1.0, 1], "2.00..3.00": [1.0, 1]}


def test_bins_of_several_records_are_summed_and_in_order() -> None:
    def record(by_noise: dict[str, list[float]]) -> StepRecord:
        return StepRecord(1, 0.0, None, 0.0, None, 0.0, by_noise)

    rows = [record({"100-199": [3.0, 3]}), record({"0-99": [4.0, 1], "100-199": [1.0, 1]})]
    assert mean_by_noise(rows) == {"0-99": (4.0, 1), "100-199": (1.0, 4)}
    assert list(mean_by_noise(rows)) == ["0-99", "100-199"]
    signs = [record({"-1.00..0.00": [1.0, 1], "-2.00..-1.00": [1.0, 1]})]
    assert list(mean_by_noise(signs)) == ["-2.00..-1.00", "-1.00..0.00"]


@pytest.mark.parametrize("rows", [2, 6])
def test_losses_of_rows_are_parts_of_the_diffusion_loss(rows: int) -> None:
    """Rows are references (2) where a clip shares a timestep, else every frame (6)."""
    prediction, target = torch.randn(2, 2, 3, 4, 5, 5)
    weight = torch.rand(2, 3, 1, 1, 1)
    each = losses_of_rows(prediction, target, weight, rows)
    assert each.shape == (rows,)
    torch.testing.assert_close(each.mean(), diffusion_loss(prediction, target, weight))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \[N\] both"):
        timestep_levels().add(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="make 3 bins"):
        NoiseLevels([1.0, 2.0], ["a", "b"])
