"""HFCA's adaptation: clothing prototypes (Eq. 4), action attention (Eq. 5), and the classes of action by their poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoint import load_part
from models.hfca.action_attention import ActionAttention
from models.hfca.clothing_prototypes import ClothingPrototypes, SiteFusion
from models.hfca.pose_descriptor import DESCRIPTOR, pose_descriptor
from pipelines.errors import UserError

WIDTHS = (8, 12)
R, L, KINDS = 3, 10, 4


def _clothes(*, trained: bool = True, assign: str = "soft") -> ClothingPrototypes:
    torch.manual_seed(1)
    made = ClothingPrototypes(WIDTHS, KINDS, assign)
    made.learn(_samples())
    for site in made.sites if trained else ():
        nn.init.normal_(site.project.weight, std=0.3)
        nn.init.normal_(site.gate.weight, std=0.5)
    return made


def _samples() -> list[tuple[list[Tensor], int]]:
    generator = torch.Generator().manual_seed(5)
    return [([torch.randn(L, width, generator=generator) for width in WIDTHS], kind) for kind in (0, 1, 1, 2, 0, 2, 3)]


def _tokens() -> list[Tensor]:
    generator = torch.Generator().manual_seed(6)
    return [torch.randn(R, L, width, generator=generator) for width in WIDTHS]


# --- Eq. 4 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("assign", ["soft", "hard"])
def test_fresh_prototypes_change_no_bit(assign: str) -> None:
    tokens = _tokens()
    fused = _clothes(trained=False, assign=assign)(tokens, torch.rand(R, KINDS).softmax(dim=-1))
    assert all(torch.equal(a, b) for a, b in zip(fused, tokens, strict=True))


def test_the_first_gradient_reaches_the_projection() -> None:
    made = _clothes(trained=False)
    sum(each.square().sum() for each in made(_tokens(), torch.rand(R, KINDS))).backward()
    for site in made.sites:
        assert site.project.weight.grad.abs().max() > 0
        assert site.gate.weight.grad.abs().max() == 0  # nothing gets through W_a = 0 yet


def test_fusion_is_equation_4_number_by_number() -> None:
    made, tokens = _clothes(), _tokens()
    probabilities = torch.rand(R, KINDS).softmax(dim=-1)
    fused = made(tokens, probabilities)
    for site, main, found in zip(made.sites, tokens, fused, strict=True):
        width = main.shape[-1]
        v, projection = site.gate.weight[0].detach(), site.project.weight.detach()
        for r in range(R):
            cloth = [sum(float(probabilities[r, k]) * float(site.prototypes[k, c]) for k in range(KINDS)) for c in range(width)]
            mean = [sum(float(main[r, i, c]) for i in range(L)) / L for c in range(width)]
            alpha = 1 / (1 + np.exp(-sum(float(a) * b for a, b in zip(v, [*mean, *cloth], strict=True))))
            for c in range(width):
                added = alpha * sum(float(projection[c, j]) * cloth[j] for j in range(width))
                np.testing.assert_allclose(found[r, :, c].detach().numpy(), main[r, :, c].numpy() + added, rtol=1e-4, atol=1e-5)


def test_prototypes_are_means_over_samples_and_tokens() -> None:
    made, samples = _clothes(), _samples()
    for number, site in enumerate(made.sites):
        for kind in range(KINDS):
            own = torch.cat([tokens[number] for tokens, label in samples if label == kind])
            torch.testing.assert_close(site.prototypes[kind], own.mean(dim=0))
    assert made.counts.tolist() == [2, 2, 2, 1]
    again = _clothes()
    again.learn(_samples())  # anew, not on top
    assert torch.equal(again.sites[0].prototypes, made.sites[0].prototypes)


def test_a_category_without_samples_takes_no_part() -> None:
    made = ClothingPrototypes(WIDTHS, KINDS)
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert not made.shares(probabilities).any()  # nothing is known yet
    made.learn([sample for sample in _samples() if sample[1] != 3])
    torch.testing.assert_close(made.shares(probabilities), torch.tensor([[1 / 6, 1 / 3, 1 / 2, 0.0]]))
    hard = ClothingPrototypes(WIDTHS, KINDS, "hard")
    hard.learn([sample for sample in _samples() if sample[1] != 3])
    torch.testing.assert_close(hard.shares(probabilities), torch.tensor([[0.0, 0.0, 1.0, 0.0]]))


def test_prototypes_are_kept_in_the_checkpoint(tmp_path: Path) -> None:
    made = _clothes()
    made.save_pretrained(tmp_path)
    loaded = load_part(ClothingPrototypes, tmp_path)
    probabilities = torch.rand(R, KINDS)
    assert all(torch.equal(a, b) for a, b in zip(loaded(_tokens(), probabilities), made(_tokens(), probabilities), strict=True))
    assert not isinstance(SiteFusion(4, 2).prototypes, nn.Parameter)


# --- Eq. 5 ------------------------------------------------------------------------------------------------------------

C, TOKENS, MOTION = 8, 6, 5


def _attention(*, trained: bool = True, heads: int = 2, classes: tuple[str, ...] = ()) -> ActionAttention:
    torch.manual_seed(2)
    made = ActionAttention(C, MOTION, TOKENS, heads, classes)
    if trained:
        nn.init.normal_(made.to_out.weight, std=0.5)
        nn.init.normal_(made.to_out.bias, std=0.5)
    return made


def _inputs(references: int = 2, each: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(references * each, C, 4, 5), torch.randn(references, TOKENS, MOTION), torch.zeros(references, dtype=torch.bool)


def test_a_fresh_action_attention_changes_no_bit() -> None:
    pose, actions, dropped = _inputs()
    fresh = _attention(trained=False)
    assert torch.equal(fresh(pose, actions, dropped), pose)
    assert torch.equal(fresh(pose, None, dropped), pose)


def test_attention_is_equation_5_with_one_head() -> None:
    pose, actions, dropped = _inputs(references=1, each=2)
    made = _attention(heads=1)
    found = made(pose, actions, dropped)
    q, k, v = (layer.weight.detach() for layer in (made.to_q, made.to_k, made.to_v))
    for n in range(2):
        for y in range(4):
            for x in range(5):
                query = q @ pose[n, :, y, x]
                scores = torch.stack([query @ (k @ actions[0, j]) for j in range(TOKENS)]) / C**0.5
                a = scores.exp() / scores.exp().sum()
                f = sum(a[j] * (v @ actions[0, j]) for j in range(TOKENS))
                expected = pose[n, :, y, x] + made.to_out.weight @ f + made.to_out.bias
                torch.testing.assert_close(found[n, :, y, x], expected, rtol=1e-4, atol=1e-5)


def test_attention_is_that_of_torch_with_several_heads() -> None:
    pose, actions, dropped = _inputs()
    made = _attention(heads=4)
    theirs = nn.MultiheadAttention(C, 4, kdim=MOTION, vdim=MOTION, batch_first=True, bias=True)
    with torch.no_grad():
        for weight, layer in ((theirs.q_proj_weight, made.to_q), (theirs.k_proj_weight, made.to_k), (theirs.v_proj_weight, made.to_v)):
            weight.copy_(layer.weight)
        theirs.in_proj_bias.zero_()
        theirs.out_proj.load_state_dict(made.to_out.state_dict())
        motion = actions.repeat_interleave(3, dim=0)
        expected = pose + theirs(pose.flatten(2).transpose(1, 2), motion, motion)[0].transpose(1, 2).unflatten(-1, (4, 5))
        torch.testing.assert_close(made(pose, actions, dropped), expected, rtol=1e-5, atol=1e-5)


def test_dropped_references_look_at_the_null_tokens() -> None:
    pose, actions, _ = _inputs()
    made = _attention()
    mixed = made(pose, actions, torch.tensor([False, True]))
    nothing = made(pose, None, torch.tensor([False, False]))
    assert torch.equal(mixed[3:], nothing[3:])
    assert not torch.equal(mixed[:3], nothing[:3])
    mixed.sum().backward()
    assert made.null.grad.abs().max() > 0


def test_tokens_of_another_network_are_refused() -> None:
    pose, _, dropped = _inputs()
    with pytest.raises(UserError, match="action tokens are 6 x 7, this network takes 6 x 5"):
        _attention()(pose, torch.zeros(2, TOKENS, 7), dropped)


def test_both_banks_survive_saving(tmp_path: Path) -> None:
    for number, classes in enumerate([(), ("Punch", "TaiChi")]):
        made = _attention(classes=classes)
        made.learn({name: [torch.randn(TOKENS, MOTION)] for name in classes}, {name: [torch.randn(DESCRIPTOR)] for name in classes})
        made.save_pretrained(tmp_path / str(number))
        loaded = load_part(ActionAttention, tmp_path / str(number))
        assert loaded.classes == classes
        assert torch.equal(loaded.prototypes, made.prototypes)
        assert torch.equal(loaded.descriptors, made.descriptors)


# --- classes by their poses ------------------------------------------------------------------------------------------


def _waving(frames: int, *, speed: float, radius: float = 12.0, width: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Poses of a standing person whose left wrist circles."""
    points, scores = np.zeros((frames, 133, 2), np.float32), np.zeros((frames, 133), np.float32)
    still = {
        5: (10, 20),
        6: (-10, 20),
        7: (16, 40),
        8: (-16, 40),
        9: (18, 55),
        10: (-18, 55),
        11: (6, 60),
        12: (-6, 60),
        15: (6, 110),
        16: (-6, 110),
    }
    for joint, place in still.items():
        points[:, joint], scores[:, joint] = place, 1.0
    angle = np.arange(frames) * speed
    points[:, 9] += radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points * width + shift, scores


def test_descriptors_know_neither_place_nor_size() -> None:
    poses, scores = _waving(12, speed=0.5)
    far, _ = _waving(12, speed=0.5, width=3.0, shift=200.0)
    a, b = pose_descriptor(poses, scores), pose_descriptor(far, scores)
    assert a.shape == (DESCRIPTOR,)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(a, pose_descriptor(*_waving(12, speed=2.0)), atol=1e-2)


def test_descriptors_leave_out_what_is_not_seen() -> None:
    poses, scores = _waving(12, speed=0.5)
    hidden = scores.copy()
    hidden[:, 9] = 0
    scrambled = poses.copy()
    scrambled[:, 9] = 1e6
    assert torch.equal(pose_descriptor(poses, hidden), pose_descriptor(scrambled, hidden))
    assert not pose_descriptor(poses, np.zeros_like(scores)).any()
    assert pose_descriptor(poses[:1], scores[:1]).isfinite().all()


def test_the_nearest_class_is_that_of_the_like_poses() -> None:
    circles = {"Small": 3.0, "Middle": 10.0, "Wild": 30.0}
    made = _attention(classes=tuple(circles))
    many = {name: [pose_descriptor(*_waving(n, speed=0.7, radius=r)) for n in (30, 40, 50)] for name, r in circles.items()}
    made.learn({name: [torch.full((TOKENS, MOTION), r)] for name, r in circles.items()}, many)
    for index, r in enumerate(circles.values()):
        assert made.nearest_class(*_waving(36, speed=0.7, radius=r * 1.1, width=2.0)) == index
        torch.testing.assert_close(made.prototypes[index], torch.full((TOKENS, MOTION), r))
    assert _attention().nearest_class(*_waving(18, speed=1.0)) is None


def test_prototypes_of_actions_are_means() -> None:
    made, generator = _attention(classes=("A", "B")), torch.Generator().manual_seed(0)
    tokens = {name: [torch.randn(TOKENS, MOTION, generator=generator) for _ in range(3)] for name in ("A", "B")}
    made.learn(tokens, {name: [torch.zeros(DESCRIPTOR)] for name in tokens})
    torch.testing.assert_close(made.prototypes, torch.stack([sum(each) / 3 for each in tokens.values()]))


def test_one_hot_probabilities_give_that_prototype() -> None:
    made = _clothes()
    shares = made.shares(F.one_hot(torch.tensor([2, 0, 1]), KINDS).float())
    torch.testing.assert_close(shares @ made.sites[1].prototypes, made.sites[1].prototypes[[2, 0, 1]])
