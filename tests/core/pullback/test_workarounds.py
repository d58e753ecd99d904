"""Work-arounds: what PyTorch gets wrong or refuses, against formulas written by hand."""

from __future__ import annotations

import threading

import pytest
import torch
import torch._dynamo
from reference import algorithm_1
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from feature_alignment import align, diagnose, invert, largest_singular_value, select
from feature_alignment.core.inversion.search import Search
from feature_alignment.core.pullback import NotDifferentiableError, vjp
from feature_alignment.core.pullback.workarounds import twice_differentiable


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_two_threads_leave_the_settings_of_the_process_as_they_were():
    """The second to enter must not restore, when it leaves last, what the first had set."""

    def settings():
        flash, efficient = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()
        return flash, efficient, torch.backends.mha.get_fastpath_enabled()

    before = settings()
    first_in, second_in = threading.Barrier(2), threading.Barrier(2)

    def run():
        with twice_differentiable():
            first_in.wait(timeout=30)
            second_in.wait(timeout=30)

    first = threading.Thread(target=run)
    first.start()
    first_in.wait(timeout=30)
    with twice_differentiable():
        second_in.wait(timeout=30)
        first.join(timeout=30)
        assert not torch.backends.cuda.flash_sdp_enabled()
        assert torch._dynamo.eval_frame._stance.stance == "force_eager"
        assert not torch.backends.mha.get_fastpath_enabled()
    assert settings() == before
    assert torch._dynamo.eval_frame._stance.stance == "default"


@pytest.mark.parametrize("called", ["module", "function"])
@pytest.mark.parametrize("affine", [True, False])
def test_tokens_after_a_batch_norm_are_pulled_back_as_through_its_affine_map(called, affine):
    """One sample, whose gradient comes back through flatten and transpose: on a CPU PyTorch's own is another's."""
    norm = nn.BatchNorm2d(3, affine=affine).double().eval()
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -1, 1)

    def network(x):
        if called == "module":
            return norm(x).flatten(2).transpose(1, 2)
        options = {"weight": norm.weight, "bias": norm.bias, "eps": norm.eps}
        return functional.batch_norm(x, norm.running_mean, norm.running_var, **options).flatten(2).transpose(1, 2)

    x, cotangent = torch.randn(1, 3, 4, 5, dtype=torch.float64), torch.randn(1, 20, 3, dtype=torch.float64)
    scale = (norm.running_var + norm.eps).rsqrt() * (norm.weight.detach() if affine else 1)
    shift = (norm.bias.detach() if affine else 0) - norm.running_mean * scale
    output, pull_back = vjp(network, x)
    expected = (x * scale.view(1, 3, 1, 1) + shift.view(1, 3, 1, 1)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(output.detach(), expected)
    pulled = cotangent.transpose(1, 2).reshape(1, 3, 4, 5) * scale.view(1, 3, 1, 1)
    torch.testing.assert_close(pull_back(cotangent).detach(), pulled)


def test_distances_between_points_are_aligned_from_a_shared_start():
    centres = torch.randn(4, 2, dtype=torch.float64)

    def network(x):
        return torch.cdist(x.view(-1, 3, 2), centres)

    start = torch.randn(1, 6, dtype=torch.float64)
    target = network(torch.randn(5, 6, dtype=torch.float64)).requires_grad_()
    feature = align(network, target, start, steps=2, step_size=0.1)
    expected = algorithm_1(network, target, start.expand(5, 6), steps=2, step_size=0.1)
    torch.testing.assert_close(feature, expected)
    gradients = [torch.autograd.grad(each.square().sum(), target, retain_graph=True)[0] for each in (feature, expected)]
    torch.testing.assert_close(*gradients)


def test_derivatives_of_distances_of_zero_are_finite():
    """Distances of a set to itself: those of the diagonal are 0, where a norm has no second derivative."""
    layer = torch.nn.Linear(3, 4).double()

    def network(x):
        return torch.cdist(layer(x), layer(x))

    start, target = torch.randn(1, 5, 3, dtype=torch.float64), torch.rand(2, 5, 5, dtype=torch.float64)
    found = align(network, target, start, step_size=0.1)
    found.square().sum().backward()
    gradient, layer.weight.grad = layer.weight.grad, None
    assert gradient.isfinite().all()

    def apart(x):  # the same, but for the distances that are 0 whatever the input is
        hidden = layer(x)
        distances = [[(a - b).norm(dim=-1) for b in hidden.unbind(1)] for a in hidden.unbind(1)]
        return torch.stack([each for i, row in enumerate(distances) for j, each in enumerate(row) if i != j], 1)

    off = ~torch.eye(5, dtype=torch.bool)
    expected = algorithm_1(apart, target[:, off], start.expand(2, 5, 3), steps=1, step_size=0.1)
    torch.testing.assert_close(found, expected)
    expected.square().sum().backward()
    torch.testing.assert_close(gradient, layer.weight.grad)


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0].cos()


def test_a_backward_marked_once_differentiable_is_no_silent_zero():
    weight = torch.randn(4, 6)

    def network(x):
        return OnceDifferentiable.apply(x @ weight.T)

    with pytest.raises(NotDifferentiableError, match=r"marked once_differentiable; write that backward"):
        largest_singular_value(network, torch.randn(2, 6))
    found = invert(network, network(0.3 * torch.randn(3, 6)), torch.zeros(1, 6))  # by pull-backs alone
    assert found.converged.all()


class Masked(nn.Module):
    """A transformer whose last two tokens are padding."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x):
        padding = torch.tensor([False] * 4 + [True] * 2).expand(len(x), -1)
        return self.encoder(x, src_key_padding_mask=padding)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_masked_transformer_is_the_same_without_gradients():
    """Its fast path puts zeros where the mask hides, or returns nested tensors."""
    network, x = Masked().eval().requires_grad_(False), torch.randn(3, 6, 8)
    target = network(x.clone().requires_grad_()).detach()
    assert not torch.equal(network(x)[:, 4:], target[:, 4:])  # the fast path, which is taken here
    with torch.no_grad():
        torch.testing.assert_close(align(network, target, x, steps=3, step_size=0.1), x, rtol=0, atol=1e-5)
        torch.testing.assert_close(select(network, "encoder")(x), target)
        found = Search(network, target, x, 0.01, 10).residual_at(torch.arange(3), x.flatten(1))
        torch.testing.assert_close(found, torch.zeros(3), rtol=0, atol=1e-5)
    found = invert(network, target, x + 0.3 * torch.randn_like(x))
    assert bool(found.converged.all())
    wanted = (network(found.input.requires_grad_()) - target).flatten(1).norm(dim=1) / target.flatten(1).norm(dim=1)
    torch.testing.assert_close(found.residual, wanted.detach(), rtol=1e-3, atol=1e-6)
    found = diagnose(network, x, variables="pixels", max_evaluations=10)
    assert all(layer.residual == layer.residual for layer in found.layers)
