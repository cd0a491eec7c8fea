"""HIA's variants: what each ablation changes, which checkpoints variants share, and what cannot be combined."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.demo_additions import DemoAdditions
from models.hia.config import ABLATIONS, DEMO, PAPER, VARIANTS, HiaConfig
from models.hia.method import HIA
from models.hia.stages import additions_of
from models.noise import NoiseConfig

ALL = ("stage_1", "stage_2", "stage_3", "stage_4")


def test_every_switch_has_its_variant_at_every_size() -> None:
    assert set(VARIANTS) == {"long"} | {
        name for base in ("paper", "demo", "unwarped", "brief") for name in (base, *(f"{base}-{switch}" for switch in ABLATIONS))
    }


def test_the_paper_is_as_the_paper_says() -> None:
    assert PAPER.size == (896, 512)
    assert PAPER.stage_3.size == (448, 256)
    assert [PAPER.stage(stage).loop.steps for stage in ALL] == [35_000, 4_000, 20_000, 1_000]
    assert [stage.references * stage.targets * stage.loop.accumulation for stage in (PAPER.stage_1, PAPER.stage_2)] == [32, 32]
    assert (PAPER.stage_3.batch, PAPER.stage_4.batch) == (8, 8)
    assert PAPER.stage_2.timesteps == (0, 125)
    assert (PAPER.noise.objective, PAPER.noise.schedule) == ("epsilon", "linear")
    assert PAPER.noise.shift_gamma == pytest.approx(512 * 512 / (896 * 512))
    assert additions_of(PAPER) == []


@pytest.mark.parametrize(
    ("switch", "stages"),
    [("no_regional", ("stage_1", "stage_3", "stage_4")), ("not_progressive", ("stage_1", "stage_2", "stage_4")), ("no_blur", ALL)],
)
def test_an_ablation_trains_what_it_has(switch: str, stages: tuple[str, ...]) -> None:
    assert HIA.stages_of(f"paper-{switch}") == stages


def test_without_half_resolution_the_temporal_steps_stay() -> None:
    plain = VARIANTS["paper-not_progressive"]
    assert plain.stage_4.loop.steps == 21_000
    assert plain.stage_4.size is None


def _shared(switch: str) -> list[str]:
    """Stages whose settings, and whose ancestors' settings, are those of the full method."""
    one, other = VARIANTS["demo"], VARIANTS[f"demo-{switch}"]
    found = []
    for mine, theirs in zip(one.stages, other.stages, strict=False):
        if mine != theirs or HIA.stage_config("demo", mine) != HIA.stage_config(f"demo-{switch}", mine):
            break
        found.append(mine)
    return found


@pytest.mark.parametrize(
    ("switch", "shared"),
    [
        ("no_regional", ["stage_1"]),
        ("regional_all_spatial", ["stage_1"]),
        ("no_blur", []),
        ("default_schedule", []),
        ("not_progressive", ["stage_1", "stage_2"]),
        *((switch, [*ALL]) for switch in ("no_acfg", "no_prompt_travel", "no_irn", "no_inference_tricks")),
    ],
)
def test_ablations_share_the_stages_that_they_do_not_change(switch: str, shared: list[str]) -> None:
    assert _shared(switch) == shared


def test_what_differs_in_sampling_is_part_of_the_prediction() -> None:
    samplers = [
        VARIANTS[f"unwarped{switch}"].sampling for switch in ("", "-no_acfg", "-no_prompt_travel", "-no_irn", "-no_inference_tricks")
    ]
    assert len(set(samplers)) == len(samplers)


def test_the_demo_says_what_it_adds() -> None:
    assert "v-prediction, as the tiny base was trained" in additions_of(DEMO)
    assert "a fixed random recogniser instead of ArcFace" in additions_of(VARIANTS["brief"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"additions": DemoAdditions(residual=True)}, "initial reference noise"),
        ({"noise": NoiseConfig(zero_terminal_snr=True)}, "zero terminal SNR"),
        ({"stage_2": replace(DEMO.stage_2, timesteps=(0, 1000))}, "t = 124"),
        ({"stage_3": replace(DEMO.stage_3, window=40)}, "stage_3.window"),
    ],
)
def test_bad_combinations_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(VARIANTS["unwarped"], **change)  # type: ignore[arg-type]


def test_what_is_compared_in_pixels_may_have_any_lower_bound() -> None:
    assert isinstance(replace(DEMO, stage_2=replace(DEMO.stage_2, timesteps=(50, 125))), HiaConfig)
