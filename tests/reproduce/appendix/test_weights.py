"""Claim (b): against principal components, and its sentences against the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from seeds import generator

from feature_alignment.reproduce.appendix import weights
from feature_alignment.reproduce.appendix.layers import linear


@pytest.mark.parametrize("shape", [(3, 7), (5, 5), (8, 4)])
def test_orthogonality(shape):
    weight = torch.randn(shape, generator=generator())
    w = weight.double().numpy()
    rows, columns = weights.orthogonality(weight)
    assert rows == pytest.approx(np.linalg.norm(w @ w.T - np.eye(shape[0])))
    assert columns == pytest.approx(np.linalg.norm(w.T @ w - np.eye(shape[1])))


@pytest.mark.slow
def test_weights_against_principal_components(factors):
    found = weights.weights(factors, [0, 1], 600)
    layer = found["layers"]["images, fewer outputs"]
    assert (layer["inputs"], layer["outputs"]) == (16, 8)
    data = factors.flatten(1).double().numpy()
    moments = np.linalg.eigvalsh(data.T @ data / len(data))
    assert layer["blank"] == pytest.approx((data**2).sum(1).mean())
    assert layer["optimum"] == pytest.approx(moments[:8].sum())
    assert layer["paper_bound"] == pytest.approx(math.sqrt(8))

    w = linear(16, 8, "default", generator(1)).weight.detach().double().numpy()
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
        assert max(layer[start]["rows"]["after"]["per_seed"]) < weights.TOLERANCE
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
    said = weights.verdict("name", layer)
    assert said.count(words) == 2  # once for each initialisation
    assert ("impossible" in said) == (layer["outputs"] < layer["inputs"])
