"""The layered start: against the formula typed out stage by stage, with explicit Jacobians in float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from feature_alignment.core.bounds import bounded as within
from feature_alignment.core.layered_start import LayeredStart, cut


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.inner = nn.Sequential(nn.GroupNorm(2, channels), nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU())

    def forward(self, x):
        return x + self.inner(x)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.SiLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(24, 10),
        nn.GELU(), nn.Linear(10, 5),
    ), torch.zeros(1, 1, 8, 8)  # fmt: skip


def tabular():
    return nn.Sequential(nn.Linear(7, 9), nn.Softplus(), nn.Linear(9, 6), nn.LeakyReLU(), nn.Linear(6, 3)), torch.zeros(
        1, 7
    )


NETWORKS = {"convolutional": convolutional, "tabular": tabular}


def naive(start, stages, activations, target):
    """Return a_1, with a Jacobian built row by row at every stage."""
    hidden, count = target, len(target)
    for number in reversed(range(len(stages))):
        s = start.starts[number].detach().expand(start.shapes[number])

        def stage(x, number=number):
            return stages[number](activations[number](x))

        jacobian = torch.autograd.functional.jacobian(stage, s).reshape(hidden[0].numel(), s.numel())
        error = (stage(s) - hidden).reshape(count, -1)
        place = s - start.log_step_sizes[number].exp() * (error @ jacobian).view(count, *s.shape[1:])
        hidden = activations[number](place)
    return place


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_formula_stage_by_stage(name):
    network, sample = NETWORKS[name]()
    network, sample = network.double(), sample.double()
    start = LayeredStart(cut(network), sample)
    with torch.no_grad():
        for parameter in start.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    kinds = [layer for layer in network if not isinstance(layer, nn.Linear | nn.Conv2d | nn.Flatten)]
    target = torch.randn(6, network(sample).shape[1], dtype=torch.float64)
    expected = naive(start, cut(network), [torch.sigmoid, *kinds], target)
    torch.testing.assert_close(start(target), expected, rtol=1e-10, atol=1e-12)


def test_residual_blocks_and_normalisation_are_stages_with_the_identity_below():
    stages = [
        nn.Conv2d(1, 4, 3, 2, 1).double(),
        Residual(4).double(),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 5)).double(),
    ]
    start = LayeredStart(stages, torch.zeros(1, 1, 8, 8, dtype=torch.float64))
    target = torch.randn(3, 5, dtype=torch.float64)
    identity = [torch.sigmoid, lambda x: x, lambda x: x]
    torch.testing.assert_close(start(target), naive(start, stages, identity, target), rtol=1e-10, atol=1e-12)


def test_step_sizes_begin_at_the_reciprocal_of_the_slope_and_starts_where_there_is_one():
    flat_at_0_and_1 = nn.Hardtanh(2, 3)
    network = nn.Sequential(
        nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 4), nn.LeakyReLU(), nn.Linear(4, 4), nn.Linear(4, 4), flat_at_0_and_1,
        nn.Linear(4, 2),
    )  # fmt: skip
    start = LayeredStart(cut(network), torch.zeros(1, 4))
    assert [float(each.exp()) for each in start.log_step_sizes] == pytest.approx([4, 2, 1, 1, 4], rel=1e-6)
    assert [float(each.unique()) for each in start.starts] == [0, 0, 1, 0, 1]


def test_gradients_reach_starts_step_sizes_weights_and_target():
    network, sample = tabular()
    network, sample = network.double(), sample.double()
    start = LayeredStart(cut(network), sample)
    target = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    parameters = [*start.parameters(), *network.parameters()]
    assert torch.autograd.gradcheck(lambda target: start(target), target)
    gradients = torch.autograd.grad(start(target).square().sum(), parameters, allow_unused=True)
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)


def test_each_target_is_by_itself():
    network, sample = convolutional()
    start, targets = LayeredStart(cut(network), sample), torch.randn(4, 5)
    apart = torch.cat([start(target[None]) for target in targets])
    torch.testing.assert_close(start(targets), apart)


def test_its_weights_are_the_networks_own():
    network, sample = convolutional()
    start = LayeredStart(cut(network), sample)
    assert {name.partition(".")[0] for name in start.state_dict()} == {"starts", "log_step_sizes"}
    before = start(torch.ones(1, 5))
    with torch.no_grad():
        network[0].weight.mul_(2)
    assert not torch.equal(start(torch.ones(1, 5)), before)


def test_it_compiles():
    network, sample = tabular()
    start = LayeredStart(cut(network), sample)
    target = torch.randn(3, 3)
    torch.testing.assert_close(torch.compile(start, backend="aot_eager", fullgraph=True)(target), start(target))


@pytest.mark.parametrize(
    ("stages", "sample", "message"),
    [
        ([], torch.zeros(1, 4), "stages: expected at least one"),
        ([nn.Linear(4, 2)], torch.zeros(2, 4), r"sample: expected one input, shape \(1, ...\), got \(2, 4\)"),
        ([nn.Linear(4, 4), nn.BatchNorm1d(4)], torch.zeros(1, 4), "statistics of the batch"),
        ([nn.Linear(4, 4), nn.Dropout()], torch.zeros(1, 4), "stage 2: network: .*random"),
        (
            [nn.Linear(4, 4), lambda x: x - x.mean(0), nn.Linear(4, 2)],
            torch.zeros(1, 4),
            "stage 2: network: .*neighbours",
        ),
    ],
)
def test_stages_that_cannot_be_run_backwards_are_named(stages, sample, message):
    with pytest.raises(ValueError, match=message):
        LayeredStart(stages, sample)
    with pytest.raises(ValueError, match="expected layers to cut"):
        cut(nn.Sequential())


def test_a_bound_scales_long_starts_down_and_lets_a_gradient_lead_back():
    network, sample = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.SiLU(), nn.Linear(6, 5)), torch.zeros(1, 1, 8, 8)
    free, bounded = (LayeredStart(cut(network), sample, bound=bound) for bound in (None, 2.0))
    near, far = 0.01 * torch.randn(3, 5), 1e6 * torch.randn(3, 5)
    long = free(far)
    found = [start(near) for start in (free, bounded)]
    assert torch.equal(*found)
    assert torch.equal(*(torch.autograd.grad(each.sigmoid().sum(), network[1].weight)[0] for each in found))
    rms = long.flatten(1).square().mean(1).sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(bounded(far), 2.0 / rms * long)
    squared = [start(far.requires_grad_()).sigmoid().square().sum() for start in (free, bounded)]
    gradients = [torch.autograd.grad(each, network[1].weight)[0] for each in squared]
    assert gradients[0].norm() < 1e-6 < 1e-2 < gradients[1].norm()
    still = torch.zeros(2, 1, 8, 8, requires_grad=True)
    assert torch.equal(torch.autograd.grad(within(still, 2.0).sum(), still)[0], torch.ones_like(still))
    for bound in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="bound: expected a finite number greater than 0, got"):
            LayeredStart(cut(network), sample, bound=bound)


def test_a_bounded_start_in_half_precision_is_as_long_as_in_single():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(8, 6), nn.SiLU(), nn.Linear(6, 3))
    start = LayeredStart(cut(layers), torch.zeros(1, 8), bound=25.0)
    wanted = start(20_000 * torch.ones(2, 3))
    layers.half(), start.half()
    found = start(20_000 * torch.ones(2, 3, dtype=torch.half))
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=0.5)
    assert float(found.float().square().mean(1).sqrt().min()) == pytest.approx(25, rel=1e-2)


def test_a_start_with_activations_in_place_is_pickled(tmp_path):
    layers = nn.Sequential(nn.Linear(8, 6), nn.LeakyReLU(0.1, inplace=True), nn.Linear(6, 3))
    start = LayeredStart(cut(layers), torch.zeros(1, 8))
    target = torch.randn(2, 3)
    torch.save(start, tmp_path / "start.pt")
    torch.testing.assert_close(torch.load(tmp_path / "start.pt", weights_only=False)(target), start(target))


def test_the_sample_stays_as_it_is():
    sample = torch.full((1, 4), -1.0)
    LayeredStart([nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))], sample)
    assert torch.equal(sample, torch.full((1, 4), -1.0))
