"""The study of Appendix A: its formulas against naive ones, and its sentences against the numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import feature_alignment
from feature_alignment.reproduce import appendix


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Matrices this small gain nothing from threads, which wait for each other where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    return torch.rand(300, 1, 4, 4, generator=generator())


@pytest.fixture(scope="module")
def factors():
    """Data of eight equally strong directions in sixteen and a little noise: a short training finds them."""
    draws = generator()
    directions = torch.linalg.qr(torch.randn(16, 16, generator=draws))[0][:8]
    data = torch.randn(300, 8, generator=draws) @ directions + 0.1 * torch.randn(300, 16, generator=draws)
    return data.view(-1, 1, 4, 4)


@pytest.mark.parametrize("power", [1, 2, 5, 30])
def test_equation_16_is_the_recursion_of_equation_11(power):
    for w in (0.3, 1.0, 1.4, -1.6):
        r, a = 0.7, -1.3
        for _ in range(power):
            r += w * (a - w * r)
        found = appendix.equation_16(*(torch.tensor(each, dtype=torch.float64) for each in (0.7, w, -1.3)), power)
        assert float(found) == pytest.approx(r, rel=1e-10)


def test_features_of_one_weight():
    scalar = appendix.features([0, 1])["scalar"]
    assert scalar["largest_difference"] < 1e-12
    after = scalar["distance_after"]
    assert after["0.1"] == pytest.approx(0.99**100)
    assert after["1.4"] == pytest.approx(0.96**100)
    assert after["1.414"] == pytest.approx(1)  # on the bound the distance stays
    assert after["1.6"] == pytest.approx(1.56**100)
    for name, line in scalar["distance"].items():
        w = appendix.BOUND if name == "1.414" else float(name)
        expected = [abs(1 - w * w) ** power for power in scalar["steps"]]
        np.testing.assert_allclose(line, expected, rtol=1e-6, atol=1e-12)


def test_features_of_a_matrix():
    """Against least squares and plain gradient descent in NumPy, on matrices of the same generator."""
    found = appendix.features([3])["matrix"]["wide 12x30"]
    draws = generator(3)
    matrix = torch.randn(12, 30, generator=draws, dtype=torch.float64).numpy() / math.sqrt(30)
    z = torch.randn(1, 12, generator=draws, dtype=torch.float64).numpy()[0]
    start = torch.randn(1, 30, generator=draws, dtype=torch.float64).numpy()[0]
    limit = start + np.linalg.lstsq(matrix, z - matrix @ start, rcond=None)[0]
    np.testing.assert_allclose(matrix @ limit, z)
    for run in found["step_sizes"].values():
        r, distance = start, []
        for step in range(1, 101):
            r = r - run["step_size"][0] * matrix.T @ (matrix @ r - z)
            if step in found["steps"]:
                distance.append(np.linalg.norm(r - limit) / np.linalg.norm(start - limit))
        np.testing.assert_allclose(run["distance"][0][: len(distance)], distance, rtol=1e-6, atol=1e-12)
        assert run["largest_difference"] < 1e-9
        assert run["rate"][0] == pytest.approx(run["rate_expected"][0], abs=0.02)
    top = np.linalg.eigvalsh(matrix @ matrix.T)[-1]
    sizes = found["step_sizes"]
    assert found["largest_singular_value"][0] ** 2 == pytest.approx(top)
    assert found["largest_entry"][0] == np.abs(matrix).max() < appendix.BOUND
    assert [sizes[name]["diverged"] for name in ("1/sigma^2", "1.9/sigma^2", "2.1/sigma^2")] == [0, 0, 1]
    assert sizes["1"]["rate_expected"][0] == pytest.approx(np.abs(1 - np.linalg.eigvalsh(matrix @ matrix.T)).max())


def test_features_says_so_if_the_iteration_is_another(monkeypatch):
    assert "Equation 16 holds" in appendix.features([0])["holds"]

    def half(network, target, start, *, steps, step_size=1.0, check):
        return feature_alignment.align(network, target, start, steps=steps, step_size=step_size / 2, check=check)

    monkeypatch.setattr(appendix, "align", half)
    assert "Equation 16 DOES NOT hold" in appendix.features([0])["holds"]


@pytest.mark.parametrize("shape", [(3, 7), (5, 5), (8, 4)])
def test_orthogonality(shape):
    weight = torch.randn(shape, generator=generator())
    w = weight.double().numpy()
    rows, columns = appendix.orthogonality(weight)
    assert rows == pytest.approx(np.linalg.norm(w @ w.T - np.eye(shape[0])))
    assert columns == pytest.approx(np.linalg.norm(w.T @ w - np.eye(shape[1])))


def test_initial_weights():
    weight = appendix.linear(50, 20, "orthogonal", generator(), 2).weight
    torch.testing.assert_close(weight @ weight.T, 4 * torch.eye(20))
    # PyTorch's own default is uniform too: same range, same spread.
    torch.manual_seed(0)
    own = nn.Linear(400, 300, bias=False).weight.detach()
    weight = appendix.linear(400, 300, "default", generator()).weight.detach()
    assert float(weight.abs().max()) == pytest.approx(float(own.abs().max()), rel=1e-3)
    assert float(weight.std()) == pytest.approx(float(own.std()), rel=1e-2)
    torch.testing.assert_close(appendix.linear(400, 300, "default", generator(), 3).weight.detach(), weight * 3)


def test_weights_against_principal_components(factors):
    found = appendix.weights(factors, [0, 1], 600)
    layer = found["layers"]["images, fewer outputs"]
    assert (layer["inputs"], layer["outputs"]) == (16, 8)
    data = factors.flatten(1).double().numpy()
    moments = np.linalg.eigvalsh(data.T @ data / len(data))
    assert layer["blank"] == pytest.approx((data**2).sum(1).mean())
    assert layer["optimum"] == pytest.approx(moments[:8].sum())
    assert layer["paper_bound"] == pytest.approx(math.sqrt(8))

    w = appendix.linear(16, 8, "default", generator(1)).weight.detach().double().numpy()
    error = ((data - data @ w.T @ w) ** 2).sum(1).mean()
    before = layer["default"]["error"]["before"]
    assert before["per_seed"][1] == pytest.approx(error, rel=1e-5)
    assert layer["default"]["rows"]["before"]["per_seed"][1] == pytest.approx(
        np.linalg.norm(w @ w.T - np.eye(8)) / math.sqrt(8)
    )
    assert before["mean"] == pytest.approx(np.mean(before["per_seed"]))
    assert before["std"] == pytest.approx(np.std(before["per_seed"], ddof=1))
    for start in ("default", "orthogonal"):
        error = layer[start]["error"]["after"]["per_seed"]
        assert min(error) >= layer["optimum"] - 1e-6
        assert max(error) < 1.05 * layer["optimum"]
        assert max(layer[start]["rows"]["after"]["per_seed"]) < appendix.TOLERANCE
        assert min(layer[start]["paper"]["after"]["per_seed"]) >= layer["paper_bound"]
    noise = found["layers"]["white noise, as many outputs"]["default"]
    assert noise["columns"]["before"]["mean"] > 0.5
    assert noise["columns"]["after"]["mean"] < 1e-3


def layer_of(outputs, inputs, rows, columns):
    means = {"rows": rows, "columns": columns, "paper": 9.0, "error": 2.0}
    after = {key: {"before": {"mean": 0.5}, "after": {"mean": value}} for key, value in means.items()}
    return {
        "outputs": outputs, "inputs": inputs, "paper_bound": 1.0, "optimum": 1.0, "blank": 8.0,
        "default": after, "orthogonal": after,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (layer_of(2, 4, 0.01, 0.7), "the rows are orthonormal (W W^T = I to 0.01, before training to 0.5)"),
        (layer_of(2, 4, 0.3, 0.7), "the rows are NOT orthonormal (W W^T = I to 0.3, before"),
        (layer_of(2, 4, 0.3, 0.7), "the error 2 times that of the principal components"),
        (
            layer_of(4, 4, 0.9, 0.01),
            "W^T W = I is reached (to 0.01, before training to 0.5), the error 0.25 of an empty image's",
        ),
        (layer_of(4, 4, 0.01, 0.9), "W^T W = I is NOT reached (to 0.9, before"),
    ],
)
def test_the_sentence_follows_the_numbers(layer, words):
    said = appendix._verdict("name", layer)
    assert said.count(words) == 2  # once for each initialisation
    assert ("impossible" in said) == (layer["outputs"] < layer["inputs"])


@pytest.mark.parametrize("unroll", [1, 3])
def test_error_of_the_weights_as_they_start(unroll):
    r"""Without training: :math:`x - \hat r = (I - W^\top W)^T x` for T steps from zero."""
    data = torch.rand(40, 9, generator=generator())
    run = appendix._clamped(data, 32, 8, unroll, "entries", 5, 0)
    w = appendix.linear(9, 32, "default", generator(5), 8).weight.detach().double().numpy()
    outside = np.abs(w) > math.sqrt(2)
    clamped = np.where(outside, np.sign(w) * math.sqrt(2), w)
    left = np.linalg.matrix_power(np.eye(9) - clamped.T @ clamped, unroll)
    assert run["error"] == pytest.approx(((data.double().numpy() @ left) ** 2).sum(1).mean(), rel=1e-3)
    assert run["touched"] == pytest.approx(outside.mean())
    assert 0.3 < outside.mean() < 0.6
    assert run["sigma_before"] == pytest.approx(np.linalg.svd(w)[1][0], rel=1e-5)
    assert run["sigma_bound"] == pytest.approx(np.linalg.svd(clamped)[1][0], rel=1e-5)


def test_spectral_bound():
    weight = torch.randn(6, 4, generator=generator()) * 3
    small = weight / 100
    bounded, unchanged = weight.clone(), small.clone()
    appendix._spectral(bounded)
    appendix._spectral(unchanged)
    assert np.linalg.svd(bounded.numpy())[1][0] == pytest.approx(math.sqrt(2), rel=1e-5)
    torch.testing.assert_close(bounded / bounded[0, 0], weight / weight[0, 0])
    assert torch.equal(unchanged, small)


@pytest.mark.parametrize("bound", ["none", "entries", "spectral"])
def test_the_bound_holds_after_every_step(bound):
    data = torch.rand(200, 9, generator=generator())
    run = appendix._clamped(data, 32, 8, 3, bound, 0, 30)
    assert (run["sigma_after"] <= math.sqrt(2) + 1e-5) == (bound == "spectral")
    assert run["sigma_bound"] <= run["sigma_before"]


def test_clamp_matters_for_one_weight_and_not_for_a_wide_layer(images):
    found = appendix.clamp(images, [0], 5)["layers"]
    # Entries of the default weights are below 1 / sqrt(n), those of the largest gain below 8 / sqrt(16).
    assert found["8x8 crops"]["gain_that_is_clamped"] == pytest.approx(math.sqrt(2) * 4)
    single = found["one weight"]
    for unroll in ("T=1", "T=3"):
        entries, spectral = single[unroll]["entries"], single[unroll]["spectral"]
        for gain in ("1", "2", "4", "8"):
            assert entries[gain]["failed"] == 0
            # A single weight is its own singular value.
            assert entries[gain]["error"]["mean"] == pytest.approx(spectral[gain]["error"]["mean"], rel=1e-3)
    patches = found["3x3 patches"]["T=3"]
    assert patches["entries"]["8"]["failed"] == 1
    assert patches["spectral"]["8"]["failed"] == 0
    assert patches["entries"]["2"] == patches["none"]["2"]


def test_failure_is_an_error_above_the_empty_image_or_none_at_all():
    runs = [{"error": error} for error in (0.5, 2.0, math.inf, math.nan)]
    assert appendix._cell(runs, 1.0)["failed"] == 0.75


def test_the_whole_study(images, tmp_path):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    found = appendix.appendix_a(tmp_path / "study", images, [0, 1], 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for part in ("features", "weights", "clamp"):
        assert found[part]["claim"]
        assert found[part]["holds"]
        picture = tmp_path / "study" / f"appendix-a-{part}.png"
        assert picture.read_bytes()[:4] == b"\x89PNG"
    again = appendix.appendix_a(tmp_path / "again", images, [0, 1], 2)
    assert again == found


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": torch.rand(4, 9)}, "images: expected shape"),
        ({"images": torch.rand(0, 1, 4, 4)}, "images: expected shape"),
        ({"seeds": []}, "seeds: expected at least one"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
    ],
)
def test_bad_input(images, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        appendix.appendix_a(tmp_path, **{"images": images, "seeds": [0], "steps": 1, **changes})


def test_numbers_that_json_does_not_have_become_none():
    assert appendix._finite({"a": [math.inf, 1.0, np.float64(2)], "b": (math.nan, 3)}) == {
        "a": [None, 1.0, 2.0],
        "b": [None, 3],
    }
