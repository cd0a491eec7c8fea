"""Style: layers of torchvision, Gram matrices that know neither place nor background, strict loading."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor

from models.style_loss import Vgg19, gram, style_loss, vgg19_names
from pipelines.errors import UserError


@pytest.fixture(scope="module")
def network() -> Vgg19:
    torch.manual_seed(0)
    return Vgg19((6, 8))


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """torchvision's names with values only where we look: the rest of its 144 million numbers is never made."""
    from torchvision.models import vgg19

    torch.manual_seed(1)
    with torch.device("meta"):
        weights = vgg19(weights=None).state_dict()
    ours = Vgg19().state_dict()
    return OrderedDict((name, torch.randn(value.shape) * 0.05 if name in ours else value) for name, value in weights.items())


def test_features_are_those_of_torchvision(published: dict[str, Tensor]) -> None:
    from torchvision.models import vgg19
    from torchvision.transforms.functional import normalize

    with torch.device("meta"):
        whole = vgg19(weights=None).features[:9]
    whole.load_state_dict({name.removeprefix("features."): published[name] for name in Vgg19().state_dict()}, assign=True)
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    x = normalize((images + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    first, second = Vgg19().load_torchvision(published, "vgg19")(images)
    torch.testing.assert_close(first, whole[:4](x.clone()), rtol=1e-5, atol=1e-5)  # conv1_2 and its ReLU
    torch.testing.assert_close(second, whole(x.clone()), rtol=1e-5, atol=1e-5)  # conv2_2 and its ReLU
    assert first.shape == (1, 64, 16, 16)
    assert second.shape == (1, 128, 8, 8)


def test_other_weights_are_refused(published: dict[str, Tensor]) -> None:
    assert set(published) == vgg19_names()
    with pytest.raises(UserError, match=r"missing \['features.7.bias'\]"):
        Vgg19().load_torchvision({name: value for name, value in published.items() if name != "features.7.bias"}, "vgg19")
    with pytest.raises(UserError, match="unexpected"):
        Vgg19().load_torchvision(published | {"features.1.running_mean": torch.zeros(64)}, "vgg19_bn")


def test_gram_is_the_mean_of_products() -> None:
    features = torch.randn(2, 3, 4, 5)
    expected = torch.einsum("nihw,njhw->nij", features, features) / (3 * 4 * 5)
    torch.testing.assert_close(gram(features), expected)
    torch.testing.assert_close(gram(features, torch.ones(2, 1, 8, 10)), expected)


def test_gram_does_not_know_places() -> None:
    features = torch.randn(1, 3, 4, 4)
    shuffled = features.flatten(2)[:, :, torch.randperm(16)].unflatten(2, (4, 4))
    torch.testing.assert_close(gram(shuffled), gram(features))


def test_what_is_outside_of_the_mask_has_no_part() -> None:
    features, mask = torch.randn(1, 3, 4, 4), torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    other = features.clone()
    other[..., 2:] = 9
    torch.testing.assert_close(gram(other, mask), gram(features, mask))
    torch.testing.assert_close(gram(features, mask), gram(features[..., :2]))


def test_an_even_colour_has_the_same_gram_in_every_mask() -> None:
    features = torch.tensor([1.0, 2.0, 3.0])[None, :, None, None].expand(1, 3, 4, 4)
    torch.testing.assert_close(gram(features, torch.rand(1, 1, 16, 16)), gram(features))


def test_the_same_image_has_no_style_loss_and_a_finite_gradient(network: Vgg19) -> None:
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    generated = image.clone().requires_grad_()
    loss = style_loss(network, image, generated)
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert generated.grad is not None
    assert torch.isfinite(generated.grad).all()


def test_the_loss_is_the_sum_of_frobenius_norms(network: Vgg19) -> None:
    a, b = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    expected = sum(torch.linalg.matrix_norm(gram(x) - gram(y)) for x, y in zip(network(a), network(b), strict=True))
    torch.testing.assert_close(style_loss(network, a, b), expected)


def test_gradients_reach_the_generated_image_alone(network: Vgg19) -> None:
    reference = torch.rand(1, 3, 16, 16, requires_grad=True)
    generated = torch.rand(1, 3, 16, 16, requires_grad=True)
    style_loss(network, reference, generated).sum().backward()
    assert reference.grad is None
    assert generated.grad is not None
    assert generated.grad.abs().max() > 0
    assert all(p.grad is None for p in network.parameters())


def test_an_empty_region_has_no_loss(network: Vgg19) -> None:
    a, b = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    mask = torch.ones(2, 1, 16, 16)
    mask[1] = 0
    loss = style_loss(network, a, b, mask, torch.ones(2, 1, 16, 16))
    assert loss[0] > 0
    assert loss[1] == 0
