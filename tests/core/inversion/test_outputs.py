"""Chosen units, weighted tensors, noise, jitter and several starts, against formulas written out here."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from feature_alignment import invert
from feature_alignment.core.inversion import Natural, Pixels, Variables, maximise


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def matrix(outputs=6, inputs=20):
    return torch.randn(outputs, inputs, dtype=torch.double)


START = torch.zeros(1, 20, dtype=torch.double)


# --- units ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "rows"),
    [
        (4, [4]),
        (-1, [5]),
        ([1, 3], [1, 3]),
        ([5, 2], [5, 2]),
        ([-1, 0], [5, 0]),
        (torch.tensor([True, False, False, True, True, False]), [0, 3, 4]),
    ],
)
def test_only_the_chosen_units_are_matched(units, rows):
    weight, target = matrix(), torch.randn(3, 6, dtype=torch.double)
    found = invert(lambda r: r @ weight.T, target, START, 1e-10, units=units)
    nearest = target[:, rows] @ torch.linalg.pinv(weight[rows]).T
    torch.testing.assert_close(found.input, nearest, rtol=0, atol=1e-7)
    alone = invert(lambda r: r @ weight.T, target[:, rows], START, 1e-10, units=units)
    torch.testing.assert_close(alone.input, found.input)


def test_a_number_chooses_a_whole_channel():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.SiLU()).double()
    images = torch.randn(2, 2, 6, 6, dtype=torch.double)
    target = network(images).detach()
    found = invert(network, target, torch.zeros_like(images[:1]), 1e-8, units=1)
    assert bool(found.converged.all())
    got = network(found.input).detach()
    torch.testing.assert_close(got[:, 1], target[:, 1], rtol=1e-6, atol=1e-6)
    assert float((got[:, 0] - target[:, 0]).abs().max()) > 0.01


def test_channels_are_counted_along_the_first_dimension_of_a_sample():
    network, images = nn.Conv2d(2, 3, 3).double(), torch.randn(2, 2, 6, 6, dtype=torch.double)
    with pytest.raises(ValueError, match="units: the output has 3 channels, 0 to 2, got 3"):
        invert(network, network(images).detach(), images[:1], units=3)


def test_an_output_of_one_number_has_one_unit():
    weight, target = matrix(1), torch.randn(3, dtype=torch.double)
    one = invert(lambda r: (r @ weight.T).squeeze(1), target, START, 1e-10, units=0)
    torch.testing.assert_close(one.input, target[:, None] @ torch.linalg.pinv(weight).T, rtol=0, atol=1e-7)


def test_several_targets_are_weighted():
    weight, other = matrix(9, 8), matrix(7, 8)  # more equations than unknowns: the weights decide
    a, b = torch.randn(2, 9, dtype=torch.double), torch.randn(2, 7, dtype=torch.double)
    start = torch.zeros(1, 8, dtype=torch.double)

    def network(r):
        return {"a": r @ weight.T, "b": r @ other.T}

    found = invert(network, {"a": a, "b": b}, start, 1e-9, 3000, weights={"a": 1.0, "b": 3.0}, method="gauss_newton")
    system, right = torch.cat([weight, 3 * other]), torch.cat([a, 3 * b], 1)
    least = torch.linalg.lstsq(system, right.T).solution.T
    torch.testing.assert_close(found.input, least, rtol=0, atol=1e-3)
    ignored = invert(
        network, {"a": a, "b": b}, start, 1e-9, 3000, weights={"a": 0, "b": 1}, units={"a": None, "b": [0, 2]}
    )
    torch.testing.assert_close(ignored.input, b[:, [0, 2]] @ torch.linalg.pinv(other[[0, 2]]).T, rtol=0, atol=1e-6)


# --- noise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "gauss_newton", "anderson", "lbfgs"])
def test_a_noisy_target_is_matched_to_its_noise_and_no_further(method):
    weight = matrix(40, 60)
    truth = torch.randn(8, 60, dtype=torch.double)
    target = truth @ weight.T + 0.7 * torch.randn(8, 40, dtype=torch.double)
    start = torch.zeros(1, 60, dtype=torch.double)
    found = invert(lambda r: r @ weight.T, target, start, 1e-6, method=method, noise=0.7)
    discrepancy = (found.input @ weight.T - target).norm(dim=1) / (0.7 * math.sqrt(40))
    assert bool(found.converged.all())
    assert bool((discrepancy <= 1 + 1e-9).all())
    assert bool((discrepancy >= 0.8).all())
    beyond = invert(lambda r: r @ weight.T, target, start, 1e-6, method=method)
    assert float(beyond.residual.max()) < 1e-3  # the noise is 0.09 of the target
    if method == "auto":
        assert int(found.evaluations.max()) <= 1000


def test_a_residual_just_below_the_noise_is_left_as_it_is():
    weight, target = matrix(), torch.randn(4, 6, dtype=torch.double)

    def found(share, **options):
        return invert(lambda r: r @ weight.T, target, START, share, method="gradient", **options)

    residual = found(0.4).residual
    noise = float((residual * target.norm(dim=1) / math.sqrt(6)).max()) * 1.05
    tolerance = noise * math.sqrt(6) / target.norm(dim=1)
    plain = [found(float(each)) for each in tolerance]
    noisy = found(1e-6, noise=noise)
    for sample, alone in enumerate(plain):
        reached = float(alone.residual[sample] / tolerance[sample])
        more = int(noisy.evaluations[sample] - alone.evaluations[sample])
        assert (more == 0) == (reached >= 0.8)
        assert 0.8 <= float(noisy.residual[sample] / tolerance[sample]) <= 1
    assert any(float(each.residual[n] / tolerance[n]) >= 0.8 for n, each in enumerate(plain))


def test_the_noise_is_met_by_a_network_that_works_in_place():
    torch.manual_seed(3)
    inside, start = nn.Linear(4, 3), torch.zeros(1, 4)
    target = torch.randn(3, 3)
    found = [
        invert(nn.Sequential(nn.LeakyReLU(0.1, inplace=inplace), inside), target, start, noise=0.1)
        for inplace in (True, False)
    ]
    torch.testing.assert_close(found[0].input, found[1].input)
    torch.testing.assert_close(found[0].residual, found[1].residual)


@pytest.mark.parametrize("budget", [8, 9, 10, 11, 12])
def test_the_noise_is_met_within_the_budget(budget):
    weight, target = matrix(), torch.randn(4, 6, dtype=torch.double)
    found = invert(lambda r: r @ weight.T, target, START, 1e-6, budget, noise=0.2)
    assert int(found.evaluations.max()) <= budget


def test_a_start_within_the_noise_stays():
    weight = matrix()
    target = 0.01 * torch.randn(2, 6, dtype=torch.double)
    found = invert(lambda r: r @ weight.T, target, START, noise=1.0)
    assert bool(found.converged.all())
    assert not bool(found.input.any())


# --- starts, batches, jitter ------------------------------------------------------------------------


def test_several_starts_show_what_the_output_leaves_free():
    weight, target = matrix(), torch.randn(3, 6, dtype=torch.double)
    found = invert(lambda r: r @ weight.T, target, START, 1e-10, starts=5, seed=3)
    assert found.input.shape == (5, 3, 20)
    assert found.residual.shape == found.converged.shape == found.evaluations.shape == (5, 3)
    torch.testing.assert_close(found.input[0], invert(lambda r: r @ weight.T, target, START, 1e-10).input)
    varied = found.input - found.input[0]
    assert (
        float((varied @ weight.T).abs().max()) < 1e-8
    )  # they differ in the null space alone, by as much as the starts
    assert float(varied[1:].square().mean()) == pytest.approx(Pixels.deviation**2 * 14 / 20, rel=0.3)
    again = invert(lambda r: r @ weight.T, target, START, 1e-10, starts=5, seed=3)
    torch.testing.assert_close(found.input, again.input, rtol=0, atol=0)


def test_batches_of_any_size_give_the_same():
    network = nn.Sequential(nn.Linear(20, 10), nn.Tanh(), nn.Linear(10, 5)).double()
    target = network(torch.randn(7, 20, dtype=torch.double)).detach()
    whole = invert(network, target, START, 1e-8)
    parts = invert(network, target, START, 1e-8, batch_size=3)
    torch.testing.assert_close(parts.input, whole.input)
    assert parts.evaluations.shape == (7,)
    twice = invert(network, target, START, 1e-8, batch_size=4, starts=2)
    torch.testing.assert_close(twice.input[0], whole.input)


def test_jitter_is_the_mean_square_error_over_shifts():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.Flatten()).double()
    image = torch.rand(2, 1, 9, 9, dtype=torch.double)
    target = network(image).detach()
    start = torch.zeros(1, 1, 9, 9, dtype=torch.double)
    found = invert(network, target, start, 1e-9, 500, jitter=1, seed=5)
    offsets = torch.randint(0, 3, (4, 2), generator=torch.Generator().manual_seed(5)).tolist()
    padded = functional.pad(found.input, [1] * 4, mode="replicate")
    errors = [
        (network(padded[..., y : y + 9, x : x + 9]) - target).square().sum(1) for y, x in [(1, 1), *offsets]
    ]  # fmt: skip
    relative = (sum(errors) / 5).sqrt() / target.norm(dim=1)
    torch.testing.assert_close(found.residual, relative.detach())
    assert int(found.evaluations.max()) <= 500
    assert bool((found.evaluations % 5 == 0).all())
    plain = invert(network, target, start, 1e-9, 500)
    padded = functional.pad(plain.input, [1] * 4, mode="replicate")
    without = sum((network(padded[..., y : y + 9, x : x + 9]) - target).square().sum(1) for y, x in [(1, 1), *offsets])
    assert bool((sum(errors) < without).all())


# --- feature visualisation --------------------------------------------------------------------------


def test_the_value_maximised_is_the_weighted_mean_of_the_units():
    """Of tensors of 1 and 3 units, weighted 6 and 2."""
    network = lambda r: (r[:, :1], r[:, 1:4])  # noqa: E731
    found = maximise(network, START, 4, weights=(6, 2), variables="pixels", radius=0.5)
    for value, r in ((found.value, found.input), (found.initial, START)):
        torch.testing.assert_close(value, (6 * r[:, 0] + 2 * r[:, 1:4].sum(1)) / 12)


def test_the_maximum_of_a_linear_unit_on_the_sphere():
    weight = matrix()
    found = maximise(lambda r: r @ weight.T, START, 100, units=2, variables="pixels", radius=0.5)
    expected = 0.5 * math.sqrt(20) * weight[2] / weight[2].norm()
    torch.testing.assert_close(found.input[0], expected)
    torch.testing.assert_close(found.value[0], expected @ weight[2])
    assert float(found.initial) == 0


def test_a_maximum_stays_among_natural_images_and_rises():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh()).double()
    start = torch.full((2, 3, 12, 12), 0.5, dtype=torch.double)
    found = maximise(network, start, 60, units=[1, 2], radius=1.0)
    torch.testing.assert_close(network(found.input)[:, [1, 2]].flatten(1).mean(1).detach(), found.value)
    assert bool((found.value > found.initial + 0.1).all())
    assert float(found.point.square().mean((1, 2, 3)).sqrt().max()) <= 1 + 1e-9
    torch.testing.assert_close(Natural().forward(found.point), found.input)


# --- bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 6}, "units: the output has 6 channels, 0 to 5, got 6"),
        ({"units": [3, -3]}, "units: expected each channel once, got 3 more than once"),
        ({"units": [1.5]}, r"units: expected a number, a list of numbers or a boolean mask, got \[1.5\]"),
        ({"units": [True, False]}, "units: expected a number, a list of numbers or a boolean mask"),
        ({"units": "cat"}, "units: expected a number, a list of numbers or a boolean mask, got 'cat'"),
        ({"units": torch.ones(5, dtype=torch.bool)}, r"units: expected a boolean mask of shape \(6,\) like one sample"),
        ({"units": torch.ones(6)}, r"units: expected a boolean mask of shape \(6,\)"),
        ({"units": torch.zeros(6, dtype=torch.bool)}, "units: the mask selects nothing"),
        ({"units": [0, 1], "target": torch.ones(2, 3).double()}, r"target: expected shape \(2, 6\)"),
        ({"weights": -1.0}, "weights: expected finite numbers of at least 0"),
        ({"weights": 0}, "weights: expected at least one greater than 0"),
        ({"weights": "much"}, "weights: expected a number per tensor of the output, got str"),
        ({"noise": -0.1}, "noise: expected a finite standard deviation of at least 0, got -0.1"),
        ({"jitter": -1}, "jitter: expected a whole number of at least 0, got -1"),
        ({"jitter": 1}, r"jitter: expected images of shape \(N, C, H, W\)"),
        ({"starts": 0}, "starts: expected a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: expected a whole number of at least 1, got 0"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    weight = matrix()
    given = {"target": torch.ones(2, 6, dtype=torch.double), "start": START, **arguments}
    with pytest.raises((ValueError, TypeError), match=message) as refused:
        invert(lambda r: r @ weight.T, **given)
    assert "\n" not in str(refused.value)


def test_units_in_a_structure_of_the_outputs_kind():
    @dataclasses.dataclass
    class Pair:
        first: object
        second: object

    weight = matrix()

    def network(r):
        return Pair(r @ weight.T, r[:, :3])

    target = Pair(torch.ones(1, 6).double(), torch.ones(1, 3).double())
    found = invert(network, target, START, tol=1e-9, units=Pair(1, [0, 2]), weights=Pair(1.0, 2.0))
    assert bool(found.converged.all())
    assert float(found.input @ weight[1]) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(found.input[0, [0, 2]], torch.ones(2).double())


def test_a_maximum_of_no_samples():
    found = maximise(nn.Linear(4, 3), torch.zeros(0, 4), units=1, variables="bounded")
    assert found.input.shape == (0, 4)


def test_a_structure_of_units_has_to_be_like_the_output():
    weight = matrix()
    target = (torch.ones(2, 6).double(), torch.ones(2, 6).double())
    with pytest.raises(ValueError, match="units: expected a structure like the network's output of 2 tensors, got int"):
        invert(lambda r: (r @ weight.T, r @ weight.T), target, START, units=3)


@pytest.mark.parametrize(("arguments", "message"), [({"radius": 0.0}, "radius:"), ({"max_evaluations": 1}, "max_ev")])
def test_a_maximum_that_cannot_be_sought(arguments, message):
    with pytest.raises(ValueError, match=message):
        maximise(nn.Linear(20, 3).double(), START, variables="pixels", **arguments)


@pytest.mark.parametrize("dtype", [torch.float, torch.long, torch.bool])
def test_the_dtype_of_chosen_units_is_that_of_the_output(dtype):
    weight = matrix()
    with pytest.raises(TypeError, match=r"target: expected dtype torch\.float64 like the network's output, got"):
        invert(lambda r: r @ weight.T, torch.ones(2, 1).to(dtype), START, units=3)


def test_channels_of_maps_are_matched_in_the_order_given():
    network = nn.Conv2d(2, 4, 3).double()
    target = network(torch.randn(1, 2, 5, 5, dtype=torch.double)).detach()
    found = invert(network, target[:, [3, 1]], torch.zeros(1, 2, 5, 5, dtype=torch.double), 1e-6, units=[3, 1])
    torch.testing.assert_close(network(found.input)[:, [3, 1]], target[:, [3, 1]], rtol=0, atol=1e-4)


def test_jitter_of_a_network_that_works_in_place():
    """The shifts are views of one padded image: what the first changes the others must not see."""

    def network(x, in_place=True):
        x = x.sub_(0.5) if in_place else x - 0.5
        return x.flatten(1) @ weights

    weights, image = torch.randn(64, 5), torch.rand(1, 1, 8, 8)
    wanted = network(image.clone())
    found = [
        invert(net, wanted, torch.full((1, 1, 8, 8), 0.5), max_evaluations=100, jitter=2).input
        for net in (network, lambda x: network(x, in_place=False))
    ]
    torch.testing.assert_close(*found)


def test_a_maximum_of_a_network_exported_with_a_fixed_batch():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5)).eval()
    exported = torch.export.export(network, (torch.zeros(4, 1, 8, 8),)).module()
    start = torch.full((1, 1, 8, 8), 0.5)
    found = [maximise(each, start, units=3, variables="bounded").value for each in (network, exported)]
    torch.testing.assert_close(*found)


def test_a_maximum_of_a_network_that_normalises_by_the_batch_is_refused():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten())
    with pytest.raises(ValueError, match="BatchNorm2d at '1' normalises with the statistics of the batch"):
        maximise(network, torch.full((1, 1, 8, 8), 0.5))


@pytest.mark.parametrize("chosen", [{"weights": {"mean": 1, "other": 1}}, {"units": {"mean": 0, "other": None}}, {}])
@pytest.mark.parametrize("names", [("other", "mean"), ("mean", "another")])
def test_a_target_of_other_names_is_not_taken_by_position(chosen, names):
    weight, target = matrix(), {name: torch.zeros(1, 3, dtype=torch.double) for name in names}
    with pytest.raises(ValueError, match="target: expected the structure"):
        invert(lambda r: dict(zip(("mean", "other"), (r @ weight.T).split(3, 1), strict=True)), target, START, **chosen)


@pytest.mark.parametrize("units", [3, torch.tensor([False, True, False, False])])
def test_one_unit_for_each_sample_is_a_target_without_a_second_dimension_too(units):
    network = nn.Linear(8, 4).double()
    target, start = torch.tensor([0.3, -0.2]).double(), torch.zeros(1, 8).double()
    found = invert(network, target, start, units=units)
    expected = invert(network, target[:, None], start, units=units)
    assert found.converged.all()
    torch.testing.assert_close(found.input, expected.input)
    assert invert(network, torch.zeros(0, 2).double(), start, units=[1, 2]).input.shape == (0, 8)


def test_a_start_or_variables_of_another_dtype_are_refused_in_words():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    images = torch.rand(20, 1, 4, 4)
    for arguments in ({"start": images[:1]}, {"variables": Variables.fit(images)}):
        with pytest.raises(TypeError, match=r"start: expected dtype torch.float64 like the network's weights.*float32"):
            invert(network, torch.zeros(2, 3).double(), **arguments)


def test_jitter_needs_as_many_evaluations_as_it_takes_at_once():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(ValueError, match="max_evaluations: expected at least 5, which jitter takes at once, got 4"):
        invert(network, torch.zeros(1, 3), torch.rand(1, 1, 8, 8), jitter=1, max_evaluations=4)
