"""The benchmark of a training step: its sides compute the same, and it reports what it promises."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

NETWORKS = {
    "encoder": ("encoder", "mean", "log_variance", "scores"),
    "refiner": ("refiner",),
    "discriminator": ("discriminator",),
}
TINY = {"image_shape": (1, 8, 8), "channels": (4, 6), "width": 24}


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "training_step.py"
    specification = importlib.util.spec_from_file_location("training_step", path)
    module = importlib.util.module_from_spec(specification)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "training_step", module)
        specification.loader.exec_module(module)
        patch.setitem(module.TABLES, "2", TINY)
        patch.setattr(module, "DEVICE", "cpu")
        yield module


def test_it_reports_every_key(benchmark, tmp_path, capsys):
    path = tmp_path / "result.json"
    result = benchmark.main(
        [
            "--batch",
            "4",
            "--latent",
            "6",
            "--repeats",
            "1",
            "--tables",
            "2",
            "--steps",
            "1",
            "2",
            "--peak-size",
            "128",
            "--json",
            str(path),
        ]
    )
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text()) == result
    assert set(result["tables"]) == {"2"}
    for steps, case in result["tables"]["2"].items():
        assert case["repeats"] == 1
        for key in ("speedup_over_plain", "ratio_to_autoencoder", "fraction_of_peak", "best_speedup_over_plain"):
            assert case[key] >= 0
        assert case["best_settings"].split(",")[0] in ("float32", "bfloat16")
        assert case["best_speedup_over_plain"] >= case["speedup_over_plain"]
        if steps == "1":
            assert case["best_speedup_over_plain"] >= case["best_speedup_over_best_plain"]
            assert 1e-4 < case["gradient_error"]["plain_bfloat16"] < 0.3
        assert case["gradient_error"]["float32"] < 1e-5
        assert 1e-4 < case["gradient_error"]["bfloat16"] < 0.3
        assert case["gigaflop"].keys() == {"plain", "ours", "autoencoder"}
    assert result["vfa_gan"]["literal_ms"] > 0
    assert {"ours_ms", "speedup", "best_speedup"} <= result["vfa_gan"].keys()
    for case in (result["tables"]["2"]["1"], result["vfa_gan"]):
        assert abs(sum(case["where"].values()) - 1) < 0.01
        assert min(case["where"][part] for part in ("convolutions", "products", "optimiser", "between operations")) > 0
        fastest = {name: each["min_ms"] for name, each in case["milliseconds"].items()}
        rival, key = ("plain", "_over_plain") if "plain" in fastest else ("literal", "")
        assert case[f"speedup{key}_by_minimum"] == pytest.approx(fastest[rival] / fastest["ours"], rel=0.05)
    assert result["vfa_gan"]["where"]["batch normalisation"] > 0


@pytest.mark.parametrize("steps", [1, 3])
def test_plain_algorithm_1_has_our_gradients(benchmark, steps):
    torch.manual_seed(0)
    images = 0.01 + 0.98 * torch.rand(4, 1, 8, 8)
    ours = benchmark.FA(latent=6, steps=steps, squash="last" if steps == 1 else "every", **TINY)
    plain = torch.nn.Sequential(*benchmark.plain_layers(**TINY), torch.nn.Linear(24, 6))
    benchmark.copy_weights(list(plain.parameters()), ours.aligned_parameters())
    benchmark.plain_loss(plain, images, steps).backward()
    benchmark.update_of(ours, images, None)()
    for mine, other in zip(ours.aligned_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)
    assert not torch.equal(ours.mean.weight, plain[-1].weight)  # the optimiser did take its step


def test_the_literal_loop_has_our_gradients_for_all_three_networks(benchmark):
    torch.manual_seed(0)
    images, labels = torch.rand(4, 1, 8, 8), torch.tensor([0, 3, 3, 9])
    # A rate of next to nothing: the weights stay as they are, the terms comparable.
    ours = benchmark.VFAGAN(latent=6, classes=benchmark.CLASSES, refiner_filters=8, learning_rate=1e-12, **TINY)
    literal, gradients = benchmark.Literal(ours), {}
    for name, optimizer, weights in zip(NETWORKS, literal.optimizers, literal.parameters, strict=True):
        # Later losses of the literal loop add to these gradients; those of the moment are its step's.
        optimizer.step = lambda name=name, weights=weights: gradients.setdefault(
            name, [p.grad.clone() for p in weights if p.grad is not None]
        )
    torch.manual_seed(1)
    benchmark.update_of(ours, images, labels)()
    torch.manual_seed(1)
    literal.step(images, labels)
    for network, parts in NETWORKS.items():
        parameters = [p for part in parts for p in getattr(ours, part).parameters()]
        for mine, other in zip([p.grad for p in parameters], gradients[network], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5, msg=lambda m, n=network: f"{n}: {m}")


def test_operations_count_a_product_and_its_gradients(benchmark):
    left, right = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    assert benchmark.operations(lambda: (left @ right).sum().backward()) == 3 * 2 * 3 * 5 * 7
