"""What every model has to do, whichever it is: one contract over all of them."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from feature_alignment.core import speed
from feature_alignment.models import AE, FA, GAN, GON, VAE, VFA, VFAGAN, Local, Model, Updates

SMALL = {"image_shape": (1, 8, 8), "latent": 5, "channels": (4,), "width": 12}
ADVERSARY = {"refiner_filters": 4, "discriminator_width": 8}
ALIGNED = {"steps": 2, "squash": "every", "step_size": 4.0, "activation": "silu"}

LAYERED = {**ALIGNED, "start": "layers", "learn_step_size": True, "max_step": 1e-3}

#: What makes a GAN a present-day one.
MODERN = {"adversarial": "relativistic", "projection": True, "augment": ["translation", "cutout"],
          "average_weights": 0.9}  # fmt: skip

CASES = {
    "ae": (AE, {}),
    "ae classes": (AE, {"classes": 3}),
    "vae": (VAE, {"beta": 0.5}),
    "vae classes": (VAE, {"beta": 0.5, "classes": 3}),
    "gon": (GON, {"activation": "leaky_relu"}),
    "gon two steps": (GON, {"steps": 2, "step_size": (2.0, 1.0), "classes": 3, "clip_gradient": 10.0}),
    "gan": (GAN, {"search_steps": 3}),
    "gan wasserstein-gp": (GAN, {"search_steps": 3, "adversarial": "wasserstein-gp"}),
    "gan relativistic": (GAN, {"search_steps": 3, **MODERN, "classes": 3, "normalize": False, "activate_width": True}),
    "local": (Local, {}),
    "local image": (Local, {"loss": "image", "clip_gradient": 10.0}),
    "local two steps": (Local, {"steps": 2, "step_size": 0.5}),
    "fa": (FA, {}),
    "fa automatic": (FA, {"step_size": "auto", "activation": "tanh"}),
    "fa noise": (FA, {"start": "normal"}),
    "fa three steps recomputed": (FA, {**ALIGNED, "steps": 3, "recompute": True}),
    "fa learned": (FA, {**ALIGNED, "start": "learned", "learn_step_size": True}),
    "fa layers": (FA, {**LAYERED, "activate_width": True}),
    "fa layers alone": (FA, {**LAYERED, "steps": 0}),
    "vfa": (VFA, {}),
    "vfa classes": (VFA, {"classes": 3, "class_weight": 4.0, "cross_entropy_weight": 1.0}),
    "vfa two steps": (VFA, {**ALIGNED, "classes": 3, "start_branch": "mean", "schedule": "cosine"}),
    "vfa probabilities": (
        VFA,
        {
            **LAYERED,
            "classes": 3,
            "start_branch": "mean",
            "class_branch": "probabilities",
            "class_weight": 10.0,
            "cross_entropy_weight": 1.0,
            "learn_weights": True,
        },
    ),
    "vfa-gan": (VFAGAN, {**ADVERSARY, "classes": 3}),
    "vfa-gan layers": (VFAGAN, {**ADVERSARY, **LAYERED, "classes": 3, "start_branch": "mean"}),
    "vfa-gan relativistic": (
        VFAGAN,
        {**ADVERSARY, **MODERN, "classes": 3, "refiner": "residual"},
    ),
    "vfa-gan two steps": (VFAGAN, {**ADVERSARY, **ALIGNED, "fakes": "reconstruction", "clip_gradient": 1.0}),
}
#: Of each network that is compiled, one; a case takes tens of seconds.
COMPILED = ("ae", "gan", "gon two steps", "fa", "fa layers", "vfa two steps", "vfa-gan")
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@pytest.fixture(params=CASES, name="model")
def model_of(request):
    torch.manual_seed(0)
    kind, options = CASES[request.param]
    return kind(**SMALL, **options)


def batch(model, count=6, dtype=torch.float32):
    labels = torch.arange(count) % model.classes if model.classes else None
    return torch.rand(count, 1, 8, 8, dtype=dtype), labels


def test_every_model_encodes_decodes_samples_and_interpolates(model):
    images, labels = batch(model)
    latent = model.encode(images)
    assert latent.shape == (6, 5)
    results = [model.decode(latent, labels), model.reconstruct(images, labels), model.reconstruct(images)]
    results += [model.sample(6, generator=torch.Generator().manual_seed(1)), model.sample(6, labels)]
    square = model.interpolate(latent[:4], None if labels is None else labels[:4], size=3)
    results += [square.flatten(0, 1)[:6], *([] if model.refiner is None else [model.refine(images, labels)])]
    for result in results:
        assert result.shape == images.shape
        assert not result.requires_grad
        assert result.min() >= 0
        assert result.max() <= 1
    assert model.training


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_model_trains_and_every_term_is_a_finite_number(model, dtype):
    if dtype == "bfloat16" and getattr(model.options, "adversarial", "") in ("wasserstein-gp", "relativistic"):
        pytest.skip("a gradient penalty in bfloat16 is all rounding")
    model.to(DTYPES[dtype])
    images, labels = batch(model, dtype=DTYPES[dtype])
    updates = Updates(model, total=3)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    for _ in range(3):
        terms = updates.step(images, labels)
    assert terms
    assert all(math.isfinite(value) and value.numel() == 1 for value in terms.values())
    assert all(p.dtype == DTYPES[dtype] for p in model.parameters())
    if dtype != "bfloat16":  # a bias cancels where two outputs are subtracted
        still = [name for name, p in model.named_parameters() if p.requires_grad and torch.equal(before[name], p)]
        still = [name for name in still if before[name].numel()]
        # Where every step is at its bound, the gradient of its size is zero but for rounding.
        bounded = ["log_step_sizes"] if getattr(model.options, "max_step", None) else []
        assert all("bias" in name or name in bounded for name in still), still


def test_every_model_is_the_same_after_saving_and_loading(model, tmp_path):
    images, labels = batch(model)
    Updates(model, total=1).step(images, labels)
    model.class_names = tuple(f"kind {number}" for number in range(model.classes))
    model.eval().save_pretrained(tmp_path)
    loaded = Model.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.class_names == model.class_names
    assert not loaded.training
    latent = model.encode(images)
    torch.testing.assert_close(loaded.encode(images), latent, rtol=0, atol=0)
    if getattr(model.options, "start", "") != "normal":
        torch.testing.assert_close(loaded.decode(latent, labels), model.decode(latent, labels), rtol=0, atol=0)
    same = [torch.Generator().manual_seed(5) for _ in range(2)]
    torch.testing.assert_close(loaded.prior(3, same[0]), model.prior(3, same[1]), rtol=0, atol=0)


def test_with_the_speed_switch_off_every_result_is_the_same(model):
    """Training, in float64, and decoding: to the rounding of another order of the same sums."""
    found = []
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for fast in (True, False):
        model.load_state_dict(state)
        model.double()
        torch.manual_seed(1)
        images, labels = batch(model, dtype=torch.float64)
        with speed.switched(fast):
            updates = Updates(model, total=2)
            terms = [updates.step(images, labels) for _ in range(2)][-1]
            latent = model.encode(images)
            torch.manual_seed(2)
            images = model.decode(latent, labels)
        found.append((terms, latent, images, dict(model.state_dict())))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_models_train_compiled_as_they_do_uncompiled(name):
    from feature_alignment.training.compilation import compiled

    torch.manual_seed(0)
    kind, options = CASES[name]
    model = kind(**SMALL, **options)
    state, found = {name: value.clone() for name, value in model.state_dict().items()}, []
    images, labels = batch(model)
    for mode in (None, "default"):
        model.load_state_dict(state)
        with compiled(model, mode):
            updates = Updates(model, total=1)
            torch.manual_seed(1)
            found.append(updates.step(images, labels))
        torch._dynamo.reset()
    assert found[0].keys() == found[1].keys()
    if (
        not hasattr(model.options, "beta")
        and "generator" not in found[0]
        and getattr(model.options, "start", "") != "normal"
    ):
        # Nothing is drawn: noise would be drawn elsewhere by compiled code.
        torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_weights_of_integers_are_no_weights(tmp_path):
    AE((1, 8, 8), latent=3, channels=(4,), width=8).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "encoder.0.weight"
    save_file(weights | {name: (10 * weights[name]).to(torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=rf"does not fit config.json: {name} holds torch.int8, expected floating point"
    ):
        Model.from_pretrained(tmp_path)
