"""What is trained."""

from __future__ import annotations

import pytest

from feature_alignment.reproduce.settings import setting

MODELS = ("ae", "vae", "gan", "shared", "vfa-2d", "local")


@pytest.mark.parametrize(
    ("name", "shape", "channels", "width", "weight"),
    [
        ("mnist", (1, 28, 28), [32, 64], 4096, 0.01),  # Table 2
        ("cifar10", (3, 32, 32), [32, 64, 128], 2048, 0.0),  # Table 3
        ("celeba", (3, 64, 64), [32, 64, 128, 256], 4096, 1.0),  # Table 4
    ],
)
def test_the_papers_scale_is_the_papers_setting(name, shape, channels, width, weight):
    for row in MODELS:
        chosen = setting(row, "paper", name, shape, 60_000)
        assert chosen.batch_size == 128
        assert chosen.images == 10_000
        assert chosen.options["learning_rate"] == 1e-4  # its code's; the paper prints 1e-5
        assert (chosen.options["channels"], chosen.options["width"]) == (channels, width)
    assert setting("shared", "paper", name, shape, 60_000).options["perceptual_weight"] == weight


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_the_layered_start_stands_beside_the_papers(scale):
    """The same encoder, images and updates; a larger image has a larger bound on a step."""
    paper, ours = (setting(row, scale, "celeba", (3, 64, 64), 60_000) for row in ("shared", "vfa-gan"))
    assert (paper.batch_size, paper.steps, paper.labels) == (ours.batch_size, ours.steps, ours.labels)
    assert [paper.options[name] for name in ("channels", "width", "latent")] == [
        ours.options[name] for name in ("channels", "width", "latent")
    ]
    assert ours.options["start"] == "layers"
    assert paper.options.get("start", "shared") == "shared"
    small = setting("vfa-gan", scale, "mnist", (1, 28, 28), 60_000)
    assert ours.options["max_step"] == 2 * small.options["max_step"] == 40.0
    assert [each.options["perceptual_weight"] for each in (small, ours)] == [0.3, 1.0]


@pytest.mark.parametrize("scale", ["smoke", "cpu", "paper"])
def test_the_papers_baselines_are_unconditional(scale):
    assert not any(setting(row, scale, "mnist", (1, 28, 28), 60_000).labels for row in ("ae", "vae", "gan"))
