"""Changes of variables against closed forms, numpy's covariance and the spectrum they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from feature_alignment import invert
from feature_alignment.core.inversion import VARIABLES, Bounded, Gaussian, Generative, Natural, Pixels, Variables


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def matrix_of(variables, shape):
    """P of r = m + P u, from its columns."""
    units = torch.eye(math.prod(shape), dtype=torch.double).view(-1, *shape)
    return (variables.forward(units) - variables.forward(torch.zeros_like(units[:1]))).flatten(1).T.numpy()


def photographs(count=60, shape=(3, 6, 5)):
    """Random images with a mean, whose pixels and channels are correlated."""
    mixing = torch.randn(math.prod(shape), math.prod(shape), dtype=torch.double) / 10
    return ((torch.randn(count, math.prod(shape), dtype=torch.double) @ mixing) + 0.5).view(count, *shape)


KINDS = {
    "pixels": Pixels(),
    "bounded": Bounded(),
    "natural": Natural(),
    "unsquashed": Natural(squash=False),
    "full": Variables.fit(torch.rand(50, 3, 6, 5, dtype=torch.double), "full"),
    "stationary": Variables.fit(torch.rand(50, 3, 6, 5, dtype=torch.double), "stationary"),
    "low rank": Variables.fit(torch.rand(50, 3, 6, 5, dtype=torch.double), "low_rank", rank=7),
    "fitted logits": Variables.fit(torch.rand(50, 3, 6, 5, dtype=torch.double), squash=True),
}


@pytest.mark.parametrize("name", KINDS)
def test_inverse_undoes_forward_and_derivatives_are_right(name):
    variables = KINDS[name]
    images = torch.rand(2, 3, 6, 5, dtype=torch.double) * 0.9 + 0.05
    u = variables.inverse(images)
    torch.testing.assert_close(variables.forward(u), images)
    assert u.dtype == torch.double
    assert torch.autograd.gradcheck(variables.forward, (u[:1].detach().requires_grad_(),))


@pytest.mark.parametrize("shape", [(1, 7), (2, 5, 8), (3, 4, 6), (4, 3, 5, 2)])
def test_natural_variables_take_any_size_and_number_of_channels(shape):
    images = torch.rand(2, *shape, dtype=torch.double) * 0.9 + 0.05
    torch.testing.assert_close(Natural().forward(Natural().inverse(images)), images)


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_batch_stays_empty(name):
    found = invert(
        nn.Flatten(), torch.zeros(0, 90).double(), torch.full((1, 3, 6, 5), 0.5).double(), variables=KINDS[name]
    )
    assert found.input.shape == (0, 3, 6, 5)


# --- what is likely ---------------------------------------------------------------------------------


def test_natural_images_have_an_amplitude_that_falls_as_the_frequency():
    logits = Natural(squash=False).forward(torch.randn(400, 1, 64, 64, dtype=torch.double))
    assert float(logits.var()) == pytest.approx(1, rel=0.1)
    power = np.square(np.abs(np.fft.fft2(logits.numpy()))).mean((0, 1))
    frequencies = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
    used = frequencies > 0
    slope = np.polyfit(np.log(frequencies[used]), np.log(power[used]) / 2, 1)[0]
    assert slope == pytest.approx(-1, abs=0.02)


def test_natural_colours_are_luminance_and_two_weaker_opponents():
    logits = Natural(exponent=0, squash=False).forward(torch.randn(4000, 3, 4, 4, dtype=torch.double))
    colours = np.cov(logits.movedim(1, -1).flatten(0, 2).T.numpy())
    values, vectors = np.linalg.eigh(colours)
    assert np.sqrt(values[::-1] / values[-1]) == pytest.approx([1, 0.35, 0.2], rel=0.03)
    assert np.abs(vectors[:, 2]) == pytest.approx(np.full(3, 3**-0.5), abs=0.02)
    assert np.trace(colours) / 3 == pytest.approx(1, rel=0.05)


def test_a_full_covariance_is_numpys():
    images = photographs()
    variables = Variables.fit(images, "full", floor=1e-12)
    root = matrix_of(variables, (3, 6, 5))
    flat = images.flatten(1).numpy()
    np.testing.assert_allclose(root @ root.T, np.cov(flat.T), atol=1e-9)
    np.testing.assert_allclose(variables.forward(variables.start).flatten().numpy(), flat.mean(0))


def test_the_floor_is_added_to_every_variance():
    images = photographs()
    covariance = np.cov(images.flatten(1).numpy().T)
    root = matrix_of(Variables.fit(images, "full", floor=0.1), (3, 6, 5))
    np.testing.assert_allclose(root @ root.T, covariance + 0.1 * np.trace(covariance) / 90 * np.eye(90), atol=1e-9)


def test_a_low_rank_covariance_keeps_the_leading_components_and_the_mean_of_the_others():
    images = photographs(200)
    values, vectors = np.linalg.eigh(np.cov(images.flatten(1).numpy().T))
    values[:-7] = values[:-7].mean()
    root = matrix_of(Variables.fit(images, "low_rank", rank=7, floor=1e-12), (3, 6, 5))
    np.testing.assert_allclose(root @ root.T, vectors * values @ vectors.T, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
@pytest.mark.parametrize("covariance", ["stationary", "low_rank", None])
def test_variables_in_half_precision_are_those_of_full_precision(dtype, covariance):
    images = photographs().float()

    def mapped(kind):
        given = images.to(kind)
        variables = Natural(squash=False) if covariance is None else Variables.fit(given, covariance, rank=4)
        return variables.forward(given[:3]), variables.inverse(given[:3])

    for found, expected in zip(mapped(dtype), mapped(torch.float), strict=True):
        assert found.dtype == dtype
        assert (found.float() - expected).norm() < 0.05 * expected.norm()


def test_a_stationary_covariance_is_the_mean_over_all_cyclic_shifts():
    images = photographs(shape=(2, 3, 4))
    shifts = [images.roll((y, x), (2, 3)).flatten(1).numpy() for y in range(3) for x in range(4)]
    centred = [np.cov(shift.T) for shift in shifts]
    root = matrix_of(Variables.fit(images, "stationary", floor=1e-12), (2, 3, 4))
    np.testing.assert_allclose(root @ root.T, np.mean(centred, 0), atol=1e-9)


def test_auto_takes_the_whole_covariance_of_small_images_and_the_spectrum_of_large_ones():
    small, large = torch.rand(5, 1, 4, 4), torch.rand(5, 1, 72, 72)
    u = torch.randn(1, 1, 4, 4)
    torch.testing.assert_close(Variables.fit(small).forward(u), Variables.fit(small, "full").forward(u))
    u = torch.randn(1, 1, 72, 72)
    torch.testing.assert_close(Variables.fit(large).forward(u), Variables.fit(large, "stationary").forward(u))


# --- pre-images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "gauss_newton", "lbfgs"])
def test_the_pre_image_under_a_linear_network_is_the_most_likely_one(method):
    images = photographs(shape=(1, 5, 4))
    weight = torch.randn(6, 20, dtype=torch.double)
    target = torch.randn(3, 6, dtype=torch.double)
    found = invert(
        lambda r: r.flatten(1) @ weight.T,
        target,
        None,
        1e-10,
        5000,
        method=method,
        variables=Variables.fit(images, floor=1e-2),
    )
    assert bool(found.converged.all())
    flat = images.flatten(1).numpy()
    covariance = np.cov(flat.T)
    covariance += 1e-2 * np.trace(covariance) / 20 * np.eye(20)
    a, mean = weight.numpy(), flat.mean(0)
    likely = mean + (target.numpy() - a @ mean) @ np.linalg.inv(a @ covariance @ a.T) @ a @ covariance
    np.testing.assert_allclose(found.input.flatten(1).numpy(), likely, atol=1e-6)
    np.testing.assert_allclose((found.point.flatten(1) @ found.point.flatten(1).T).numpy().shape, (3, 3))


@pytest.mark.parametrize("name", ["bounded", "natural"])
def test_pre_images_are_bounded_and_have_the_outputs(name):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 6)).double()
    target = network(torch.rand(3, 3, 6, 6, dtype=torch.double)).detach()
    found = invert(network, target, torch.full((1, 3, 6, 6), 0.5, dtype=torch.double), 1e-6, variables=name)
    assert bool(found.converged.all())
    assert bool(((found.input > 0) & (found.input < 1)).all())
    assert float(((network(found.input) - target).norm(dim=1) / target.norm(dim=1)).detach().max()) <= 1e-6
    torch.testing.assert_close(VARIABLES[name]().forward(found.point), found.input)


def test_a_generative_model_is_searched_among_what_it_decodes():
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 30)).double()
    weight = torch.randn(5, 30, dtype=torch.double)
    latent = torch.randn(4, 2, dtype=torch.double)
    truth = decoder(latent).detach()
    variables = Generative(decoder, torch.zeros(1, 2, dtype=torch.double))
    found = invert(lambda r: r @ weight.T, truth @ weight.T, tol=1e-8, variables=variables)
    assert bool(found.converged.all())
    torch.testing.assert_close(found.input, truth, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.point, latent, rtol=0, atol=1e-5)


# --- bad input --------------------------------------------------------------------------------------


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"^variables: expected one of .* got 'natrual'; did you mean 'natural'\?$"):
        invert(nn.Flatten(), torch.zeros(1, 3), torch.zeros(1, 3), variables="natrual")


def test_variables_for_another_size_are_refused():
    variables = Variables.fit(torch.rand(4, 1, 5, 5))
    with pytest.raises(ValueError, match=r"^variables: these Gaussian .* shape \(1, 5, 5\), the start has \(1, 6, 6\)"):
        invert(nn.Flatten(), torch.zeros(1, 36), torch.zeros(1, 1, 6, 6), variables=variables)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variables": 3}, "variables: expected a name or an object with forward and inverse, got int"),
        ({"variables": "bounded", "start": torch.full((1, 3), 2.0)}, r"start: expected values in \[0, 1\]"),
        ({"variables": "natural"}, r"variables: natural ones are for images \(N, C, H, W\), got a start of"),
        ({"start": None}, "start: Pixels have none of their own"),
        ({"variables": Generative(nn.Linear(2, 3), torch.zeros(1, 2))}, "start: leave it out"),
        ({"variables": Generative(nn.Dropout(0.5), torch.ones(1, 9)), "start": None}, "variables: two evaluations"),
    ],
)
def test_variables_that_cannot_be_used(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message) as refused:
        invert(nn.Flatten(), torch.zeros(1, 3), **{"start": torch.zeros(1, 3), **arguments})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (torch.zeros(1, 4), {}, "images: expected shape"),
        (torch.zeros(3, 4), {}, "images: expected at least two different ones"),
        (torch.zeros(3, 4, dtype=torch.uint8), {}, "images: expected a floating-point tensor, got torch.uint8"),
        (torch.full((3, 4), math.nan), {}, "images: 12 non-finite values"),
        (torch.rand(3, 4), {"covariance": "whole"}, "covariance: expected one of auto, full, stationary, low_rank"),
        (torch.rand(3, 4), {"covariance": "stationary"}, "images: a stationary covariance is of shape"),
        (torch.rand(3, 4), {"floor": 0.0}, "floor: expected a finite number greater than 0"),
        (torch.rand(3, 4), {"covariance": "low_rank", "rank": 0}, "rank: expected at least 1"),
        (torch.rand(3, 4) + 1, {"squash": True}, r"expected values in \[0, 1\]"),
    ],
)
def test_images_that_nothing_can_be_fitted_to(images, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Variables.fit(images, **arguments)


def test_a_bad_exponent_and_a_decoder_that_is_none_are_refused():
    with pytest.raises(ValueError, match="exponent: expected a finite number"):
        Natural(-1)
    with pytest.raises(TypeError, match="decode: expected a function"):
        Generative(3, torch.zeros(1, 2))
    with pytest.raises(ValueError, match="start: expected one latent"):
        Generative(nn.Linear(2, 3), torch.zeros(2, 2))
    assert isinstance(KINDS["full"], Gaussian)


def test_black_and_white_are_begun_from_a_little_inside():
    ends = torch.tensor([[0.0, 0.005, 0.5, 0.995, 1.0]], dtype=torch.double)
    found = Bounded().forward(Bounded().inverse(ends))
    torch.testing.assert_close(found, ends.clamp(0.01, 0.99))


def test_a_latent_of_integers_is_refused():
    with pytest.raises(TypeError, match=r"start: expected a floating-point latent, got torch\.int64"):
        Generative(nn.Linear(2, 3), torch.zeros(1, 2, dtype=torch.long))


@pytest.mark.parametrize("variables", ["bounded", "natural", "fitted"])
def test_a_search_does_not_end_in_black(variables):
    """Most of the error is out of reach, so that the first step is too long, and black is nearer than grey."""
    if variables == "fitted":
        variables = Variables.fit(torch.rand(40, 1, 4, 4, dtype=torch.double) / 2 + 0.25, squash=True)
    dark = torch.full((1, 1, 4, 4), 0.2, dtype=torch.double)

    def network(r):
        return torch.cat([r.flatten(1) / 100, 0 * r.flatten(1)[:, :1]], 1)

    target = network(dark) + torch.eye(17)[-1:].double() / 2
    found = invert(network, target, torch.full_like(dark, 0.5), 1e-9, 200, variables=variables)
    torch.testing.assert_close(found.input, dark, rtol=0, atol=0.02)


@pytest.mark.parametrize("covariance", ["full", "low_rank", "stationary"])
def test_variables_of_many_half_precision_images_are_those_in_single(covariance):
    images = torch.rand(16_000, 1, 8, 8).half()
    half, single = (Variables.fit(each, covariance, rank=4) for each in (images, images.float()))
    u = torch.randn(2, 1, 8, 8)
    assert half.start.dtype == torch.half
    torch.testing.assert_close(half.forward(u.half()).float(), single.forward(u), atol=2e-2, rtol=2e-2)


def test_images_that_cannot_be_squashed_are_refused_by_their_name():
    with pytest.raises(ValueError, match=r"images: expected values in \[0, 1\] to squash, got 0.* to 25"):
        Variables.fit(torch.rand(5, 1, 4, 4) * 0.0 + torch.linspace(0.5, 255, 16).view(4, 4), squash=True)


def test_a_decoder_that_works_in_place_leaves_the_latents_as_they_are():
    start = torch.tensor([[-1.0, -1.0]])
    decoder = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(2, 6))
    found = invert(lambda r: 2 * r, torch.ones(1, 6), variables=Generative(decoder, start), max_evaluations=5)
    assert start.tolist() == [[-1.0, -1.0]]
    assert found.point.tolist() == [[-1.0, -1.0]]  # where the decoder is flat
