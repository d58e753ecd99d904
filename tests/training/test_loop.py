"""A training: what it writes, how it ends, and that a continued one is the one that was never interrupted."""

from __future__ import annotations

import copy
import csv
import dataclasses
import math
import signal
import time

import pytest
import torch

from feature_alignment.data import DataOptions, TrainingData
from feature_alignment.models import AE, FA, GAN, VAE, VFA, VFAGAN, Local, Model
from feature_alignment.training import Run, TrainingError, TrainingOptions, fit, loop
from feature_alignment.training.stopping import Stopped

SMALL = {"latent": 4, "channels": (4, 4), "width": 16}
MODERN = {"adversarial": "relativistic", "projection": True, "augment": ["translation", "cutout"],
          "average_weights": 0.9}  # fmt: skip
CASES = {
    "fa": (FA, {"start": "normal"}),
    "vfa": (VFA, {"kl_warmup": 5, "schedule": "cosine", "classes": 10}),
    "vfa, class priors": (VFA, {"class_prior": True, "cross_entropy_weight": 1.0, "classes": 10}),
    "vfa-gan": (VFAGAN, {"refiner_filters": 4, "discriminator_width": 8, "schedule": "cosine", "classes": 10}),
    "vfa-gan relativistic": (
        VFAGAN,
        {
            "refiner": "residual",
            "refiner_filters": 4,
            "discriminator_width": 8,
            **MODERN,
            "classes": 10,
            "fakes": "reconstruction",
        },
    ),
    "local": (Local, {}),
    "ae": (AE, {"clip_gradient": 1.0}),
    "vae": (VAE, {}),
    "gan": (GAN, {"search_steps": 2, "clip_gradient": 1.0}),
    "gan relativistic": (GAN, {"search_steps": 2, "normalize": False, **MODERN}),
}


@pytest.fixture(scope="module")
def data():
    return TrainingData(DataOptions(batch_size=16))


@pytest.fixture(scope="module")
def unlabelled():
    return TrainingData(DataOptions(batch_size=16, labels=False))


def model_of(name):
    torch.manual_seed(0)
    kind, options = CASES[name]
    return kind((1, 28, 28), **SMALL, **options)


def options(**changes):
    return TrainingOptions(**({"steps": 12, "accelerator": "cpu", "devices": 1, "log_every": 2} | changes))


def lines(run):
    with run.log.open() as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("name", CASES)
def test_a_continued_training_is_the_one_that_was_never_interrupted(name, data, unlabelled, tmp_path, monkeypatch):
    """Stopped by a signal after an odd update, between two lines of the log: bit for bit the same weights and log."""
    chosen = data if CASES[name][1].get("classes") else unlabelled
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    for run in (whole, parts):
        run.directory.mkdir()
    fit(model_of(name), chosen, whole, options())

    step = loop.FabricUpdates.step

    def interrupted(updates, *batch):
        losses = step(updates, *batch)
        if updates.done == 5:
            signal.raise_signal(signal.SIGTERM)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(loop.FabricUpdates, "step", interrupted)
        with pytest.raises(Stopped, match="stopped at step 5") as stopped:
            fit(model_of(name), chosen, parts, options())
    assert stopped.value.signal == signal.SIGTERM
    torch.manual_seed(99)
    done = fit(model_of(name), chosen, parts, options(), resume=True)

    assert done["steps"] == 12
    assert lines(parts) == lines(whole)
    left, right = (Model.from_pretrained(run.directory).state_dict() for run in (whole, parts))
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


def test_killed_after_a_checkpoint_it_goes_on_from_there(data, tmp_path, monkeypatch):
    """Updates after the checkpoint are lost and done again; the log has every line once."""
    whole, parts = Run(tmp_path / "whole"), Run(tmp_path / "parts")
    for run in (whole, parts):
        run.directory.mkdir()
    fit(model_of("vfa"), data, whole, options(checkpoint_every=4))

    step = loop.FabricUpdates.step

    def killed(updates, *batch):
        if updates.done == 7:
            raise RuntimeError("killed")
        return step(updates, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop.FabricUpdates, "step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            fit(model_of("vfa"), data, parts, options(checkpoint_every=4))
    assert [line[1] for line in lines(parts)[1:]] == ["1", "3", "5"]
    fit(model_of("vfa"), data, parts, options(checkpoint_every=4), resume=True)
    assert lines(parts) == lines(whole)
    left, right = (Model.from_pretrained(run.directory).state_dict() for run in (whole, parts))
    assert all(torch.equal(value, right[key]) for key, value in left.items())


def test_a_rate_that_is_asked_for_on_resuming_is_the_one_used(data, tmp_path):
    run = Run(tmp_path)
    fit(model_of("vfa"), data, run, options(steps=4))
    before = Model.from_pretrained(tmp_path).state_dict()
    kind, given = CASES["vfa"]
    slow = kind((1, 28, 28), **SMALL, **(given | {"schedule": "constant", "learning_rate": 1e-12}))
    fit(slow, data, run, options(steps=8), resume=True)
    after = Model.from_pretrained(tmp_path).state_dict()
    trained = [key for key in before if not key.startswith("samplers.")]  # those are fitted to draws, which differ
    assert all(torch.allclose(before[key], after[key], rtol=0, atol=1e-9) for key in trained)


@pytest.mark.parametrize(
    ("name", "changed"),
    [("ae", {"learning_rate": 5e-3}), ("ae", {"betas": (0.5, 0.9)}), ("vfa-gan", {"discriminator_rate": 1e-5})],
)
def test_what_an_optimiser_is_asked_for_on_resuming_is_what_it_does(name, changed, data, unlabelled, tmp_path):
    """The moments are restored, the rates and betas of the time are not: the next update is another one."""
    chosen = data if CASES[name][1].get("classes") else unlabelled
    found = []
    for place, options_of_model in (("as before", {}), ("changed", changed)):
        run = Run(tmp_path / place)
        fit(model_of(name), chosen, run, options(steps=3))
        kind, given = CASES[name]
        torch.manual_seed(0)
        again = kind((1, 28, 28), **(SMALL | given | options_of_model))
        fit(again, chosen, run, options(steps=4), resume=True)
        found.append(torch.load(run.checkpoint, weights_only=True)["model"])
    assert any(not torch.equal(value, found[1][key]) for key, value in found[0].items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_every_signal_that_ends_a_process_leaves_a_checkpoint(number, tiny, small, ten, tmp_path, monkeypatch, heard):
    step = loop.FabricUpdates.step

    def interrupted(updates, *batch):
        losses = step(updates, *batch)
        if updates.done == 3:
            signal.raise_signal(number)
        return losses

    monkeypatch.setattr(loop.FabricUpdates, "step", interrupted)
    before = heard(number)
    with pytest.raises(Stopped, match="stopped at step 3") as stopped:
        fit(small(), tiny, Run(tmp_path), ten(checkpoint_every=100))
    assert stopped.value.signal == number
    assert signal.getsignal(number) == before
    assert torch.load(Run(tmp_path).checkpoint, weights_only=True)["updates"] == 3


def test_a_time_limit_stops_with_a_checkpoint(data, tmp_path):
    run = Run(tmp_path)
    done = fit(model_of("fa"), data, run, options(steps=100_000, max_seconds=0.3))
    assert 0.3 <= done["seconds"] < 30
    assert torch.load(run.checkpoint, weights_only=True)["updates"] == done["steps"]


def test_a_loss_that_is_no_number_stops_the_training_by_name(data, tmp_path):
    with pytest.raises(TrainingError, match=r"the loss 'reconstruction' became nan at step .*smaller learning_rate"):
        fit(FA((1, 28, 28), **SMALL, learning_rate=1e18, clamp_weights=None), data, Run(tmp_path), options(steps=50))
    assert not (tmp_path / "model.safetensors").exists()


def test_a_loss_that_is_no_number_is_noticed_after_the_last_line_of_the_log_too(data, tmp_path):
    """Whatever was to be saved last is not: a checkpoint from before is worth more."""
    model = FA((1, 28, 28), **SMALL, learning_rate=1e18, clamp_weights=None)
    with pytest.raises(TrainingError, match="the loss 'reconstruction' became nan at step 9"):
        fit(model, data, Run(tmp_path), options(steps=9, log_every=100, checkpoint_every=100))
    assert not Run(tmp_path).checkpoint.exists()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed", "16-mixed"])
def test_every_precision_trains(precision, data, tmp_path):
    done = fit(model_of("vfa-gan"), data, Run(tmp_path), options(steps=3, log_every=1, precision=precision))
    assert done["steps"] == 3
    assert all(math.isfinite(float(value)) for line in lines(Run(tmp_path))[1:] for value in line)
    images = Model.from_pretrained(tmp_path).sample(2)
    assert images.shape == (2, 1, 28, 28)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable checkpoint"),
        (b"PK\x03\x04 cut", "not a readable checkpoint"),
        (None, "not a checkpoint of"),
    ],
)
def test_a_damaged_checkpoint_is_named_in_one_line(content, message, data, tmp_path):
    run = Run(tmp_path)
    run.checkpoint.parent.mkdir()
    if content is None:
        torch.save({"something": 1}, run.checkpoint)
    else:
        run.checkpoint.write_bytes(content)
    with pytest.raises(TrainingError, match=f"last.ckpt: {message}") as raised:
        fit(model_of("fa"), data, run, options(), resume=True)
    assert "\n" not in str(raised.value)


def test_a_checkpoint_of_another_model_is_named(data, tmp_path):
    run = Run(tmp_path)
    fit(model_of("fa"), data, run, options(steps=1))
    with pytest.raises(TrainingError, match=r"last\.ckpt: a checkpoint of another model"):
        fit(model_of("ae"), data, run, options(), resume=True)


def test_the_names_of_the_classes_are_saved_with_the_model(data, tmp_path):
    """Not the numbers that a model without names has."""
    named = copy.copy(data)
    named.train = dataclasses.replace(data.train, classes=tuple("abcdefghij"))
    fit(model_of("vfa"), named, Run(tmp_path), options(steps=1))
    assert Model.from_pretrained(tmp_path).class_names == tuple("abcdefghij")


def test_the_log_is_written_as_it_comes(data, tmp_path, monkeypatch):
    seen, write = [], loop.Log.write

    def watched(log, row):
        write(log, row)
        seen.append(len(lines(Run(tmp_path))))

    monkeypatch.setattr(loop.Log, "write", watched)
    begun = time.time()
    fit(model_of("fa"), data, Run(tmp_path), options(steps=6))
    assert seen == [2, 3, 4]
    events = [path for path in tmp_path.iterdir() if path.name.startswith("events.out.tfevents")]
    assert events[0].stat().st_mtime >= begun - 1


def test_a_single_training_image_is_no_reason_to_lose_the_model(tmp_path):
    data = TrainingData(DataOptions(batch_size=1, labels=False))
    data.train = dataclasses.replace(data.train, pixels=data.train.pixels[:1], labels=data.train.labels[:1])
    fit(model_of("fa"), data, Run(tmp_path), options(steps=2))  # its sampler takes a covariance of latents
    assert Model.from_pretrained(tmp_path).sample(2).shape == (2, 1, 28, 28)


def test_a_training_is_not_written_over(data, tmp_path):
    run = Run(tmp_path)
    fit(model_of("fa"), data, run, options(steps=2))
    written = run.log.read_bytes()
    with pytest.raises(TrainingError, match=r"has a training in it; resume it, or take another directory"):
        fit(model_of("fa"), data, Run(str(tmp_path)), options(steps=2))
    assert run.log.read_bytes() == written
    assert fit(model_of("fa"), data, run, options(steps=4), resume=True)["steps"] == 4


def test_weights_that_are_no_numbers_are_not_saved(data, tmp_path, monkeypatch):
    """The losses of a feature stay finite, as it is clamped."""

    def lost(updates, *batch):
        updates.done += 1
        with torch.no_grad():
            updates.model.mean.bias.fill_(math.inf)
        return {"reconstruction": torch.tensor(1.0)}

    monkeypatch.setattr(loop.FabricUpdates, "step", lost)
    with pytest.raises(TrainingError, match=r"mean\.bias is not finite at the end; a smaller learning_rate"):
        fit(model_of("fa"), data, Run(tmp_path), options(steps=2))
    assert not (tmp_path / "model.safetensors").exists()


def test_short_names_of_precisions_are_those_that_they_mean(data, tmp_path):
    short = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true", "tf32": "tf32"}
    assert {name: options(precision=name).precision for name in short} == short
    with pytest.raises(TrainingError, match="precision: 16-mixed scales the gradients that clip_gradient"):
        fit(model_of("ae"), data, Run(tmp_path), options(precision="16"))
    # A GAN bounds no gradient, and is not told to.
    fit(model_of("gan"), data, Run(tmp_path / "gan"), options(precision="16", steps=1))
    with pytest.raises(TrainingError, match=r"training with .*precision=transformer-engine"):
        fit(model_of("fa"), data, Run(tmp_path), options(precision="transformer-engine"))


def test_the_images_are_batched_by_a_data_loader_of_ones_own(data, unlabelled):
    pixels, labels = next(iter(torch.utils.data.DataLoader(data.train, batch_size=5)))
    assert torch.equal(pixels, data.train.pixels[:5])
    assert torch.equal(labels, data.train.labels[:5])
    images = dataclasses.replace(data.train, labels=None)
    assert torch.equal(next(iter(torch.utils.data.DataLoader(images, batch_size=5))), pixels)
