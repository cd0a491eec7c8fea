"""PACM: inversion retraces its way, optimised embeddings bring sampling closer to it, and frames are independent."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.controlled_unet import FRESH
from models.ddim import STABLE_DIFFUSION
from models.pose_animate.config import BRIEF, Pacm, PoseAnimateConfig
from models.pose_animate.frame_embedding import FrameTask, FrameWork, KeptOnDisk, digest_of_task, one_after_the_other, optimize_frame
from models.pose_animate.inversion import Branches, Prompts, invert, optimize_source, reconstruct
from models.pose_animate.network import PoseAnimate, network_of
from models.unet_shape import UnetShape

SHAPE = UnetShape(channels=(16, 16), layers=1, heads=2, token_dim=32, norm_groups=4, latent_channels=4)
CONFIG = replace(
    BRIEF, size=(32, 32), networks=replace(FRESH, shape=SHAPE, guider_widths=(4, 8, 8)), noise=STABLE_DIFFUSION,
    pacm=Pacm(inner_steps=4, early_stop=None), sampling=replace(BRIEF.sampling, steps=4, guidance_scale=3.0),
)  # fmt: skip


def _with_steps(steps: int, guidance: float = 3.0) -> PoseAnimateConfig:
    return replace(CONFIG, sampling=replace(CONFIG.sampling, steps=steps, guidance_scale=guidance))


def _prompts(network: PoseAnimate) -> Prompts:
    conditional, unconditional = network.text(["a man in a red shirt is dancing", ""])[:, None]
    return Prompts(conditional, unconditional, network.text.length_of("a man in a red shirt is dancing"))


def _pose(seed: int = 0) -> Tensor:
    return torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def _source(network: PoseAnimate) -> tuple[Branches, Tensor]:
    prompts = _prompts(network)
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    trajectory = invert(network, latent, prompts.conditional, _pose())
    return Branches(network, prompts, network.config.sampling.guidance_scale, network.config.pacm.optimize), trajectory


def _task(branches: Branches, trajectory: Tensor, pose: Tensor) -> FrameTask:
    embeddings = branches.initial.expand(branches.network.schedule.steps, -1, -1)
    return FrameTask(pose=pose, trajectory=trajectory, source_embeddings=embeddings, prompts=branches.prompts)


def _missed(network: PoseAnimate) -> float:
    """Mean squared distance of the reconstruction at guidance 1 from the source."""
    branches, trajectory = _source(network)
    found = reconstruct(branches, trajectory, branches.initial.expand(network.schedule.steps, -1, -1), _pose())
    return float((found - trajectory[0]).square().mean())


def test_at_guidance_1_inversion_then_sampling_gives_the_source_back_the_better_the_finer() -> None:
    coarse, fine = _missed(network_of(_with_steps(5, 1.0))), _missed(network_of(_with_steps(30, 1.0)))
    assert fine < 0.05  # of a variance of 1
    assert fine < coarse / 3  # the square of a first-order error


def test_inversion_is_seen_by_the_controlnet_and_by_the_prompt() -> None:
    network = network_of(CONFIG)
    prompts, latent = _prompts(network), torch.randn(1, 4, 8, 8)
    first = invert(network, latent, prompts.conditional, _pose())
    assert first.shape == (5, 1, 4, 8, 8)
    assert torch.equal(first[0], latent)
    assert not torch.allclose(invert(network, latent, prompts.conditional, _pose(1))[-1], first[-1])
    assert not torch.allclose(invert(network, latent, prompts.unconditional, _pose())[-1], first[-1])


@pytest.mark.parametrize("optimized", ["cond", "uncond"])
def test_the_source_is_missed_by_less_the_more_inner_steps(optimized: str) -> None:
    network = network_of(CONFIG)
    branches, trajectory = _source(network)
    branches = replace(branches, optimized=optimized)
    missed = []
    for inner in (0, 2, 6):
        embeddings = optimize_source(branches, trajectory, _pose(), replace(CONFIG.pacm, inner_steps=inner))
        assert embeddings.shape == (4, 77, 32)
        missed.append(float((reconstruct(branches, trajectory, embeddings, _pose()) - trajectory[0]).square().mean()))
    assert missed[0] > missed[1] > missed[2]


def test_no_inner_step_leaves_the_prompts_embedding_and_no_parameter_gets_a_gradient() -> None:
    network = network_of(CONFIG)
    branches, trajectory = _source(network)
    plain = optimize_source(branches, trajectory, _pose(), replace(CONFIG.pacm, inner_steps=0))
    assert torch.equal(plain, branches.prompts.conditional.expand(4, -1, -1))
    optimize_source(branches, trajectory, _pose(), replace(CONFIG.pacm, inner_steps=1))
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_a_level_that_is_good_enough_stops_early() -> None:
    network = network_of(CONFIG)
    branches, trajectory = _source(network)
    lenient = optimize_source(branches, trajectory, _pose(), replace(CONFIG.pacm, inner_steps=9, early_stop=1e9))
    assert torch.equal(lenient, optimize_source(branches, trajectory, _pose(), replace(CONFIG.pacm, inner_steps=1)))


def test_frozen_padding_moves_the_words_alone() -> None:
    network = network_of(CONFIG)
    branches, trajectory = _source(network)
    found = optimize_source(branches, trajectory, _pose(), replace(CONFIG.pacm, inner_steps=2, freeze_padding=True))
    moved = (found - branches.prompts.conditional).abs().amax(dim=(0, 2)) > 0
    length = branches.prompts.length
    assert not moved[0]
    assert moved[1 : length - 1].all()
    assert not moved[length:].any()


def test_a_frames_embedding_is_algorithm_1_as_printed() -> None:
    """Sample with the embedding as it is, then one update of that level's embedding towards the source's trajectory."""
    network = network_of(CONFIG)
    branches, trajectory = _source(network)
    found = optimize_frame(network, _task(branches, trajectory, _pose(3)))
    latents = trajectory[-1]
    for index, level in enumerate((4, 3, 2, 1)):
        e = branches.initial.clone().requires_grad_()
        conditional = network.noise(latents, level, e, _pose(3))
        unconditional = network.noise(latents, level, branches.prompts.unconditional, _pose(3))
        sampled = network.step(latents, unconditional + 3.0 * (conditional - unconditional), level)
        loss = (trajectory[level - 1] - sampled).square().mean()
        loss.backward()
        adam = torch.optim.Adam([e], lr=1e-2 * (1 - index / 8))
        adam.step()
        torch.testing.assert_close(found[index], e.detach()[0], rtol=1e-4, atol=1e-5)
        latents = sampled.detach()


def test_no_update_leaves_the_sources_embeddings() -> None:
    network = PoseAnimate(replace(CONFIG, pacm=replace(CONFIG.pacm, embed_steps=0)), *_parts())
    branches, trajectory = _source(network)
    task = _task(branches, trajectory, _pose(3))
    assert torch.equal(optimize_frame(network, task), task.source_embeddings)


def _parts() -> tuple[object, object, object]:
    from models.controlled_unet import load_base

    return load_base(CONFIG.networks)


def test_fresh_networks_are_the_same_for_the_same_seed() -> None:
    ours, again = network_of(CONFIG).state_dict(), PoseAnimate(CONFIG, *_parts()).state_dict()  # type: ignore[arg-type]
    assert all(torch.equal(ours[name], again[name]) for name in ours)
    other = replace(CONFIG.networks, seed=1)
    assert not torch.equal(network_of(replace(CONFIG, networks=other)).unet.conv_in.weight, ours["unet.conv_in.weight"])


# --- frames elsewhere ------------------------------------------------------------------------------------------------


@pytest.fixture
def tasks() -> list[FrameTask]:
    branches, trajectory = _source(network_of(CONFIG))
    return [_task(branches, trajectory, _pose(seed)) for seed in (3, 4)]


def test_what_is_sent_to_a_worker_gives_the_same_there(tasks: list[FrameTask]) -> None:
    work = FrameWork(CONFIG)
    assert len(pickle.dumps(work)) < 5000  # settings, no weights
    here = one_after_the_other(work, tasks)
    network_of.cache_clear()  # as in a new process
    sent = [pickle.loads(pickle.dumps(work))(pickle.loads(pickle.dumps(task))) for task in reversed(tasks)]
    assert all(torch.equal(one, other) for one, other in zip(here, reversed(sent), strict=True))
    assert not torch.equal(here[0], here[1])


@pytest.mark.slow
def test_a_pool_of_processes_gives_the_same(tasks: list[FrameTask]) -> None:
    work = FrameWork(CONFIG)
    with concurrent.futures.ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        elsewhere = list(pool.map(work, tasks))
    assert all(torch.equal(one, other) for one, other in zip(elsewhere, one_after_the_other(work, tasks), strict=True))


def test_embeddings_are_kept_on_disk_and_only_missing_ones_are_made(tasks: list[FrameTask], tmp_path: Path) -> None:
    asked: list[int] = []

    def counted(work: Callable[[FrameTask], Tensor], some: Sequence[FrameTask]) -> list[Tensor]:
        asked.append(len(some))
        return [task.pose.mean() * task.source_embeddings for task in some]

    kept, work = KeptOnDisk(tmp_path / "embeddings", counted), FrameWork(CONFIG)
    first = kept(work, tasks[:1])
    both = kept(work, tasks)
    assert asked == [1, 1]
    assert torch.equal(both[0], first[0])
    assert sorted(path.suffix for path in (tmp_path / "embeddings").iterdir()) == [".safetensors"] * 2
    other = FrameWork(replace(CONFIG, pacm=replace(CONFIG.pacm, learning_rate=1e-3)))
    assert digest_of_task(other, tasks[0]) != digest_of_task(work, tasks[0]) != digest_of_task(work, tasks[1])
