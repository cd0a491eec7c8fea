"""Reference attention: what the bank may change, and what it may not."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from models.animate_anyone.config import AnimateAnyoneConfig
from models.animate_anyone.network import ReferenceCondition, fresh_network
from models.animate_anyone.sampling import animate_latents
from models.clip_sampling import ClipCondition, with_poses
from models.demo_additions import DemoAdditions
from models.guidance import Condition
from models.reference_attention import ReferenceBank, freeze_unused_tail, read_reference, spatial_sites, write_reference
from models.temporal_attention import with_motion
from models.unet_shape import UnetShape, make_motion, make_unet


@pytest.fixture
def pair(tiny: AnimateAnyoneConfig) -> tuple[torch.nn.Module, torch.nn.Module, ReferenceBank]:
    writer, reader, bank = make_unet(tiny.network.unet).eval(), make_unet(tiny.network.unet).eval(), ReferenceBank()
    assert write_reference(writer, bank) == read_reference(reader, bank)
    return writer, reader, bank


def _inputs(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(rows, 16, 8, 8), torch.full((rows,), 500), torch.randn(rows, 1, 16)


def _run(unet: torch.nn.Module, latents: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = unet(latents, times, encoder_hidden_states=tokens).sample
    return out


def test_an_empty_bank_is_plain_attention(tiny: AnimateAnyoneConfig) -> None:
    plain, reader = make_unet(tiny.network.unet).eval(), make_unet(tiny.network.unet).eval()
    reader.load_state_dict(plain.state_dict())
    read_reference(reader, ReferenceBank())
    inputs = _inputs(2)
    torch.testing.assert_close(_run(reader, *inputs), _run(plain, *inputs), rtol=0, atol=1e-6)


def test_writing_changes_nothing_in_the_writer(tiny: AnimateAnyoneConfig) -> None:
    plain, writer = make_unet(tiny.network.unet).eval(), make_unet(tiny.network.unet).eval()
    writer.load_state_dict(plain.state_dict())
    bank = ReferenceBank()
    sites = write_reference(writer, bank)
    inputs = _inputs(2)
    torch.testing.assert_close(_run(writer, *inputs), _run(plain, *inputs), rtol=0, atol=1e-6)
    assert sorted(bank.tokens) == sorted(sites)


def test_attention_over_the_bank_is_attention_over_images_side_by_side(
    pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank],
) -> None:
    """The paper's wording: concatenate along w, attend to oneself, keep the first half."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    _, reader, bank = pair
    name = spatial_sites(reader)[0]
    layer = reader.get_submodule(name.removesuffix(".processor"))
    own, reference = torch.randn(2, 64, 16), torch.randn(2, 64, 16)
    bank.tokens[name] = reference
    with torch.no_grad():
        both = AttnProcessor2_0()(layer, torch.cat([own, reference], dim=1))
        torch.testing.assert_close(layer.processor(layer, own), both[:, :64], rtol=0, atol=1e-6)


def test_only_rows_that_keep_their_reference_change(pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank]) -> None:
    writer, reader, bank = pair
    latents, times, tokens = _inputs(4)
    without = _run(reader, latents, times, tokens)
    references = _inputs(2)
    _run(writer, *references)
    with_all = _run(reader, latents, times, tokens)
    bank.dropped = torch.tensor([True, False])
    mixed = _run(reader, latents, times, tokens)
    torch.testing.assert_close(mixed[:2], without[:2], rtol=0, atol=1e-5)  # rows 0 and 1 belong to reference 0
    torch.testing.assert_close(mixed[2:], with_all[2:], rtol=0, atol=1e-5)
    assert (with_all - without).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_every_reference_serves_its_own_rows(pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank]) -> None:
    writer, reader, _ = pair
    latents, times, tokens = _inputs(4)
    references = _inputs(2)
    _run(writer, *references)
    together = _run(reader, latents, times, tokens)
    _run(writer, *(part[1:] for part in references))
    alone = _run(reader, latents[2:], times[2:], tokens[2:])
    torch.testing.assert_close(together[2:], alone, rtol=0, atol=1e-5)


def test_a_cleared_bank_is_forgotten(pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank]) -> None:
    writer, reader, bank = pair
    inputs = _inputs(2)
    before = _run(reader, *inputs)
    _run(writer, *_inputs(2))
    bank.dropped = torch.tensor([False, False])
    bank.clear()
    assert bank.dropped is None
    assert torch.equal(_run(reader, *inputs), before)


def test_a_bank_that_does_not_fit_is_an_error(pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank]) -> None:
    writer, reader, bank = pair
    _run(writer, *_inputs(2))
    with pytest.raises(ValueError, match="3 rows cannot share 2 references"):
        _run(reader, *_inputs(3))
    del bank.tokens[spatial_sites(reader)[0]]
    with pytest.raises(KeyError, match="holds no layer"):
        _run(reader, *_inputs(2))


def test_motion_modules_are_not_sites(tiny: AnimateAnyoneConfig) -> None:
    flat = make_unet(tiny.network.unet)
    moving = with_motion(flat, make_motion(tiny.network.unet))
    assert spatial_sites(moving) == spatial_sites(flat)
    assert any("motion_modules" in name and "attn1" in name for name in moving.attn_processors)
    untouched = [processor for name, processor in moving.attn_processors.items() if "motion_modules" in name]
    read_reference(moving, ReferenceBank())
    after = [processor for name, processor in moving.attn_processors.items() if "motion_modules" in name]
    assert [id(p) for p in after] == [id(p) for p in untouched]


def test_the_frozen_tail_is_exactly_what_gets_no_gradient(pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank]) -> None:
    writer, reader, _ = pair
    writer(_inputs(2)[0], torch.zeros(2), encoder_hidden_states=torch.randn(2, 1, 16))
    latents, times, tokens = _inputs(2)
    reader(latents, times, encoder_hidden_states=tokens).sample.square().mean().backward()
    silent = {name for name, p in writer.named_parameters() if p.grad is None}
    assert silent == set(freeze_unused_tail(writer))
    assert {name for name, p in writer.named_parameters() if not p.requires_grad} == silent


def test_paper_size_has_the_structure_of_stable_diffusion() -> None:
    """Counts of Stable Diffusion 1.5 and AnimateDiff v2, on tensors without storage."""
    config = UnetShape()
    with torch.device("meta"):
        unet, motion = make_unet(config), make_motion(config)
        moving = with_motion(unet, motion)
    widths = [unet.get_submodule(name.removesuffix(".processor")).to_q.in_features for name in spatial_sites(unet)]
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    assert sum(p.numel() for p in motion.parameters()) == pytest.approx(453.2e6, abs=0.1e6)
    assert widths == [320] * 2 + [640] * 2 + [1280] * 2 + [1280] + [1280] * 3 + [640] * 3 + [320] * 3  # as they run
    assert spatial_sites(moving) == spatial_sites(unet)
    assert sum(name.endswith("proj_out") and "motion_modules" in name for name, _ in moving.named_modules()) == 21


def test_a_held_bank_is_empty_before_and_after_also_after_an_error(pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank]) -> None:
    writer, _, bank = pair
    _run(writer, *_inputs(1))
    bank.dropped = torch.tensor([True])
    with bank.held():
        assert not bank.tokens  # what somebody left behind is not seen
        assert bank.dropped is None
        _run(writer, *_inputs(1))
    assert not bank.tokens

    def fails() -> None:
        with bank.held():
            _run(writer, *_inputs(1))
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fails()
    assert not bank.tokens


def _gradients(pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank], checkpointing: bool, held: bool = True) -> dict[str, Tensor]:
    writer, reader, bank = pair
    for unet in (writer, reader):
        unet.train().zero_grad()
        unet.enable_gradient_checkpointing() if checkpointing else unet.disable_gradient_checkpointing()  # type: ignore[operator]
    torch.manual_seed(4)
    latents, times, tokens = _inputs(2)
    with bank.held():
        writer(latents, torch.zeros(2), encoder_hidden_states=tokens)
        loss = reader(latents + 1, times, encoder_hidden_states=tokens).sample.square().mean()
        if held:
            loss.backward()
    if not held:
        loss.backward()
    named = [(f"{i}.{name}", p) for i, unet in enumerate((writer, reader)) for name, p in unet.named_parameters()]
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def test_recomputed_layers_find_the_bank_that_is_held_until_backward_ends(
    pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank],
) -> None:
    plain, recomputed = _gradients(pair, checkpointing=False), _gradients(pair, checkpointing=True)
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-4, atol=1e-7)


def test_a_bank_that_is_cleared_too_early_is_an_error_not_another_gradient(
    pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank],
) -> None:
    with pytest.raises(CheckpointError):
        _gradients(pair, checkpointing=True, held=False)


def test_middle_and_up_blocks_alone(tiny: AnimateAnyoneConfig) -> None:
    """MagicAnimate's choice: the down blocks stay plain on both sides."""
    writer, reader, bank = make_unet(tiny.network.unet).eval(), make_unet(tiny.network.unet).eval(), ReferenceBank()
    full = spatial_sites(reader)
    chosen = write_reference(writer, bank, "midup")
    assert chosen == read_reference(reader, bank, "midup") == [name for name in full if not name.startswith("down_blocks")]
    assert 0 < len(chosen) < len(full)
    inputs = _inputs(1)
    before = _run(reader, *inputs)
    _run(writer, *_inputs(1))
    assert sorted(bank.tokens) == sorted(chosen)
    assert (_run(reader, *inputs) - before).abs().max() > 1e-4


def test_tokens_of_another_encoder_may_be_of_any_number(pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank]) -> None:
    writer, reader, bank = pair
    inputs = _inputs(1)
    _run(writer, *_inputs(1))
    before = _run(reader, *inputs)
    bank.tokens = {name: tokens.repeat(1, 2, 1)[:, : tokens.shape[1] + 1] for name, tokens in bank.tokens.items()}
    assert _run(reader, *inputs).shape == before.shape
    assert (_run(reader, *inputs) - before).abs().max() > 1e-6


def test_a_bank_held_for_the_backward_pass_outlives_the_forward_pass(pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank]) -> None:
    _, _, bank = pair
    with bank.held():
        with bank.held():
            bank.tokens["a"] = torch.zeros(1)
        assert "a" in bank.tokens
        with bank.held():
            assert not bank.tokens  # the next forward pass sees nothing of it
    assert not bank.tokens


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_clip_runs_its_reference_once_and_comes_out_the_same(tiny: AnimateAnyoneConfig, scale: float) -> None:
    torch.manual_seed(0)
    network = fresh_network(replace(tiny, network=replace(tiny.network, additions=DemoAdditions()))).eval()
    sampling = replace(tiny.sampling, steps=3, window=4, overlap=1, guidance_scale=scale)
    runs: list[Tensor] = []
    network.made_of.reference_unet.register_forward_pre_hook(lambda module, inputs: runs.append(inputs[0]))

    def clip(seed: int) -> ClipCondition[ReferenceCondition]:
        generator = torch.Generator().manual_seed(seed)
        still = ReferenceCondition(reference_latent=torch.randn(1, 16, 8, 8, generator=generator), dropped=torch.tensor([False]),
                                   image_tokens=torch.randn(1, 1, network.made_of.denoising_unet.config.cross_attention_dim),
                                   pose=torch.empty(0, 3, 32, 32), reference_image=torch.zeros(1, 3, 32, 32))  # fmt: skip
        return with_poses(still, torch.rand(10, 3, 32, 32, generator=generator))

    first, second = clip(1), clip(2)
    made = animate_latents(network, first, sampling, 0)
    windows = 3 * 3
    assert len(runs) == (1 if scale == 1 else 1 + windows)  # what nothing is, is made anew for every window
    after = animate_latents(network, second, sampling, 0)
    runs.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReferenceBank, "remembering", lambda bank: nullcontext())
        torch.testing.assert_close(animate_latents(network, first, sampling, 0), made, rtol=0, atol=0)
        assert len(runs) == (windows if scale == 1 else 2 * windows)
        # nothing of the first clip's reference is in the second, though both were made by one network
        torch.testing.assert_close(animate_latents(network, second, sampling, 0), after, rtol=0, atol=0)


def test_changed_weights_are_seen_after_a_clip(pair: tuple[torch.nn.Module, torch.nn.Module, ReferenceBank]) -> None:
    writer, _, bank = pair
    latents, _, tokens = _inputs(1)
    condition = Condition(reference_latent=latents, image_tokens=tokens, pose=torch.empty(0), dropped=torch.tensor([False]))

    def filled() -> Tensor:
        with bank.held():
            bank.fill(condition, lambda here: writer(here.reference_latent, torch.zeros(1), encoder_hidden_states=here.image_tokens))
            return bank.tokens[spatial_sites(writer)[-1]].clone()

    with torch.no_grad(), bank.remembering():
        before = filled()
        writer.get_parameter("conv_in.weight").mul_(2)
        assert torch.equal(filled(), before)
    with torch.no_grad():
        assert not torch.equal(filled(), before)
