"""Every option, changed on resuming: applied, or refused by name with the reason."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
import torch

from feature_alignment.data import DataOptions
from feature_alignment.models import AE, FA, GAN, GON, VAE, VFA, VFAGAN, Local, Model
from feature_alignment.training import Run, TrainingError, TrainingOptions, fit
from feature_alignment.training.checkpoint import load_checkpoint
from feature_alignment.training.resuming import APPLIED, asked, refuse_changes

KINDS = [FA, VFA, VFAGAN, Local, AE, VAE, GAN, GON]
#: Another valid value, where it is not found by the type.
OTHER = {
    "start": "learned", "squash": "every", "adversarial": "wasserstein", "fakes": "reconstruction",
    "schedule": "cosine", "perceptual_spread": "variance", "start_branch": "mean", "beta": 0.5, "activation": "relu",
    "channels": (8,), "discriminator_channels": (8,), "discriminator_width": 4, "clip_gradient": 1.0, "max_step": 3.0,
    "steps": 2, "betas": (0.9, 0.99), "classes": 2, "clamp_weights": None, "refiner_kernel": 5, "step_size": 0.5,
    "sampler": "mixture", "penalty_weight": 2.0, "refiner": "residual", "augment": ("translation",),
    "average_weights": 0.5, "clamp_inputs": 0.1, "learning_rate": 1e-3, "loss": "image",
    "decode_steps": 3, "class_branch": "probabilities", "max_start": 8.0,
}  # fmt: skip


def other(name, value):
    """Return another value of an option."""
    if name in OTHER:
        return OTHER[name]
    return not value if isinstance(value, bool) else value + 1


def changes():
    for kind in KINDS:
        for field in dataclasses.fields(kind.Options):
            yield pytest.param(kind, field.name, id=f"{kind.__name__}-{field.name}")


def built(kind, **options):
    torch.manual_seed(0)
    small = {"latent": 3, "channels": (4,), "width": 8, "refiner_filters": 2} | options
    return kind((1, 8, 8), **{name: value for name, value in small.items() if name in known(kind)})


def known(kind):
    return {field.name for field in dataclasses.fields(kind.Options)}


@pytest.mark.parametrize(("kind", "name"), list(changes()))
def test_an_option_of_a_model_is_applied_or_refused_by_name(kind, name, tiny, ten):
    before = built(kind)
    value = getattr(before.options, name)
    try:
        after = built(kind, **{name: other(name, value)})
    except ValueError:
        pytest.skip("not by itself")
    then, now = (asked(model, tiny, ten(), 1) for model in (before, after))
    if name in APPLIED["model"]:
        refuse_changes("last.ckpt", {"asked": then, "updates": 4}, now)
        # Nothing of it is in the state that is restored: the new value is the one that is used.
        for key, tensor in before.state_dict().items():
            assert torch.equal(tensor, after.state_dict()[key]), key
    else:
        with pytest.raises(TrainingError, match=rf"last\.ckpt: model\.{name} was .* and is now .*it defines"):
            refuse_changes("last.ckpt", {"asked": then, "updates": 4}, now)


def test_further_steps_may_be_given_on_resuming(tiny, ten):
    before, after = (built(FA, steps=2, squash="every", further_steps=count) for count in (0, 3))
    then, now = (asked(model, tiny, ten(), 1) for model in (before, after))
    refuse_changes("last.ckpt", {"asked": then, "updates": 4}, now)
    assert before.state_dict().keys() == after.state_dict().keys()


def test_a_bound_on_the_start_may_be_given_on_resuming(tiny, ten):
    before, after = (built(FA, start="layers", squash="every", max_start=bound) for bound in (None, 8.0))
    then, now = (asked(model, tiny, ten(), 1) for model in (before, after))
    refuse_changes("last.ckpt", {"asked": then, "updates": 4}, now)
    assert before.state_dict().keys() == after.state_dict().keys()


@pytest.mark.parametrize("field", dataclasses.fields(TrainingOptions), ids=lambda field: field.name)
def test_an_option_of_the_training_is_applied_or_refused_by_name(field, tiny, small, ten):
    values = {"seed": 1, "steps": 20, "accelerator": "auto", "devices": "auto", "strategy": "ddp",
              "precision": "64-true", "compile": "default", "log_every": 1, "checkpoint_every": 9,
              "checkpoint_seconds": 1.0, "max_seconds": 9.0}  # fmt: skip
    then, now = (asked(small(), tiny, options, 1) for options in (ten(), ten(**{field.name: values[field.name]})))
    if field.name in APPLIED["training"]:
        refuse_changes("last.ckpt", {"asked": then, "updates": 4}, now)
        return
    with pytest.raises(TrainingError, match=r"training\.seed was 0 and is now 1; order and noise"):
        refuse_changes("last.ckpt", {"asked": then, "updates": 4}, now)


def test_fewer_updates_than_are_done_are_refused(tiny, small, ten):
    state = {"asked": asked(small(), tiny, ten(), 1), "updates": 4}
    with pytest.raises(TrainingError, match=r"training\.steps: expected at least the 4 updates done, got 3"):
        refuse_changes("last.ckpt", state, asked(small(), tiny, ten(steps=3), 1))


def test_the_batch_of_all_processes_may_not_change_but_their_number_may(tiny, small, ten):
    state = {"asked": asked(small(), tiny, ten(), 1), "updates": 4}
    tiny.batch_size = 4
    refuse_changes("last.ckpt", state, asked(small(), tiny, ten(devices=2), 2))
    with pytest.raises(TrainingError, match=r"data\.batch_size was 8 and is now 4; the position in the data"):
        refuse_changes("last.ckpt", state, asked(small(), tiny, ten(), 1))


@pytest.mark.parametrize("change", ["pixels", "order", "count", "labels", "place"])
def test_other_images_are_refused_wherever_they_are(change, tiny, small, ten):
    state, images = {"asked": asked(small(), tiny, ten(), 1), "updates": 4}, tiny.train
    if change == "place":  # the same images elsewhere are the same
        tiny.options = DataOptions("/somewhere/else", 8)
        refuse_changes("last.ckpt", state, asked(small(), tiny, ten(), 1))
        return
    if change == "labels":
        tiny.classes = 2
    changed = {"pixels": 255 - images.pixels, "order": images.pixels.flip(0), "count": images.pixels[:40]}
    labels = torch.zeros(48, dtype=torch.int64) if change == "labels" else None
    tiny.train = replace(images, pixels=changed.get(change, images.pixels), labels=labels)
    with pytest.raises(
        TrainingError, match=r"data\.name squares: the updates done saw other images \(48 images of 1 x"
    ):
        refuse_changes("last.ckpt", state, asked(small(), tiny, ten(), 1))


def test_fit_refuses_before_it_touches_anything(tiny, small, ten, tmp_path):
    run = Run(tmp_path)
    fit(small(), tiny, run, ten())
    before = run.checkpoint.read_bytes(), run.log.read_bytes()
    for model, options, message in (
        (small(), ten(seed=3, steps=12), "training.seed was 0 and is now 3"),
        (small(step_size=0.5), ten(steps=12), "model.step_size was 1.0 and is now 0.5"),
        (small(AE), ten(steps=12), "a checkpoint of another model"),
    ):
        with pytest.raises(TrainingError, match=message):
            fit(model, tiny, run, options, resume=True)
    assert (run.checkpoint.read_bytes(), run.log.read_bytes()) == before


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "bf16-mixed"])
def test_another_precision_is_applied(precision, tiny, small, ten, tmp_path):
    run = Run(tmp_path)
    fit(small(), tiny, run, ten(steps=4))
    fit(small(), tiny, run, ten(steps=6, precision=precision), resume=True)
    weight = load_checkpoint(run.checkpoint)["model"]["mean.weight"]
    assert weight.dtype == {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(precision, torch.float32)
    assert Model.from_pretrained(tmp_path).sample(2).isfinite().all()


def test_one_other_pixel_of_one_image_is_another_set(tiny, small, ten):
    """Also of an image that the description of the set, of 64, does not look at."""
    images = tiny.train
    many = replace(images, pixels=images.pixels.repeat(3, 1, 1, 1), labels=None)
    tiny.train = many
    state = {"asked": asked(small(), tiny, ten(), 1), "updates": 4}
    refuse_changes("last.ckpt", state, asked(small(), tiny, ten(), 1))
    tiny.train = replace(many, pixels=many.pixels.clone())
    tiny.train.pixels[1, 0, 0, 0] ^= 1
    with pytest.raises(TrainingError, match=r"data\.name squares: the updates done saw other images \("):
        refuse_changes("last.ckpt", state, asked(small(), tiny, ten(), 1))
    del state["asked"]["pixels"]  # of a version that did not look
    refuse_changes("last.ckpt", state, asked(small(), tiny, ten(), 1))
