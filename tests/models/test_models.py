"""The models: protocol, options, one step of training worked out again, saving and loading."""

from __future__ import annotations

import copy
import gc
import json
import math

import pytest
import torch
from reference import algorithm_1
from safetensors.torch import load_file, save_file
from torch import nn

from feature_alignment.core import speed
from feature_alignment.core.layers import Arcsinh
from feature_alignment.core.speed.fusion import Affine
from feature_alignment.data import load
from feature_alignment.models import AE, FA, GAN, GON, VAE, VFA, VFAGAN, Local, Model, Updates
from feature_alignment.models.networks import Decoder, Discriminator, Encoder
from feature_alignment.models.snapshot import Snapshot
from feature_alignment.models.variational import kl_weight

SMALL = {"image_shape": (1, 28, 28), "latent": 6, "channels": (4, 8), "width": 24}
ADVERSARY = {"refiner_filters": 4, "discriminator_width": 8}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def digits():
    train = load("mnist-mini", "train")
    return train.images(), train.labels


def train(model, images, labels, steps, batch=16):
    """Train on a fixed order of images; return the updates."""
    updates = Updates(model, steps)
    for images_, labels_ in zip(
        images.split(batch)[:steps], [None] * steps if labels is None else labels.split(batch)[:steps], strict=True
    ):
        updates.step(images_, labels_)
    return updates


@pytest.mark.parametrize("kind", [VFA, VFAGAN])
@pytest.mark.parametrize("classes", [0, 10])
def test_protocol(kind, classes):
    model = kind(**SMALL, classes=classes, **(ADVERSARY if kind is VFAGAN else {}))
    images, labels = torch.rand(5, 1, 28, 28), torch.arange(5) if classes else None
    latent = model.encode(images)
    assert latent.shape == (5, 6)
    for result in (model.decode(latent, labels), model.reconstruct(images, labels), model.reconstruct(images)):
        assert result.shape == images.shape
        assert not result.requires_grad
    generator = torch.Generator().manual_seed(3)
    first = model.sample(4, generator=generator)
    again = model.sample(4, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(first, again)
    assert first.shape == (4, 1, 28, 28)
    square = model.interpolate(latent[:4], None if labels is None else labels[:4], size=3)
    assert square.shape == (3, 3, 1, 28, 28)
    corners = model.decode(latent[:4], None if labels is None else labels[:4])
    if kind is VFAGAN:
        corners = model.refine(corners, None if labels is None else labels[:4])
    torch.testing.assert_close(square[[0, 0, 2, 2], [0, 2, 0, 2]], corners)
    assert model.training


def test_between_classes_there_is_as_much_of_a_class_as_in_one():
    model = VFA(**SMALL, classes=10)
    latent, labels = torch.randn(4, 6), torch.tensor([3, 3, 7, 7])
    half = 0.5**0.5 * (nn.functional.one_hot(torch.tensor(3), 10) + nn.functional.one_hot(torch.tensor(7), 10))
    middle = model.decode(latent.mean(0, keepdim=True), half[None])[0]
    torch.testing.assert_close(model.interpolate(latent, labels, size=3)[1, 1], middle)
    assert VFA(**SMALL).between(torch.ones(2, 4) / 4, None) is None


def test_feature_of_the_default_model_is_the_transposed_jacobian_at_zero():
    """T = 1, start 0, one sigmoid at the end: written out with the Jacobian of the encoder."""
    model = VFA(**SMALL, classes=3, class_weight=4.0, activation="tanh").double()
    latent, labels = torch.randn(3, 6, dtype=torch.float64), torch.tensor([0, 2, 1])

    def outputs(x):
        at = model.posterior(x)
        return torch.cat([at.mean + (0.5 * at.log_variance).exp(), 2.0 * at.scores], 1)

    zero = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(outputs, zero).squeeze(2).reshape(9, 784)
    target = torch.cat([latent, 2.0 * 1.5 * nn.functional.one_hot(labels, 3)], 1)
    expected = torch.sigmoid((target - outputs(zero)) @ jacobian).view(3, 1, 28, 28)
    assert expected.std() > 0.01
    torch.testing.assert_close(model.decode(latent, labels, stress=1.5), expected)


def test_the_initial_encoder_has_a_jacobian_where_the_flow_starts():
    """Features of different latents differ from the first step on, with the defaults as they are."""
    features = VFA(**SMALL).decode(torch.randn(16, 6))
    assert features.std(0).mean() > 1e-3


def test_with_weights_the_decoder_of_probabilistic_principal_components_is_its_own_encoder():
    """Tipping and Bishop (1999): W = U (L - s)^1/2, means (W'W + s)^-1 W'x; the weights are the variances L."""
    draw = torch.randn(9, 9, dtype=torch.float64)
    directions, variances = torch.linalg.qr(draw)[0][:, :3], torch.tensor([5.0, 2.0, 0.7], dtype=torch.float64)
    noise = 0.3
    decoder = directions * (variances - noise).sqrt()
    encoder = torch.linalg.solve(decoder.T @ decoder + noise * torch.eye(3), decoder.T)
    options = {"squash": "none", "start_branch": "mean", "learn_weights": True, "width": 9, "clamp_weights": None}
    model = VFA((1, 3, 3), 3, encoder=nn.Flatten(), **options).double()
    with torch.no_grad():
        model.mean.weight.copy_(encoder)
        model.mean.bias.zero_()
        model.weight_exponents.copy_(variances.log() / 10)
    latent = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(model.decode(latent), (latent @ decoder.T).view(5, 1, 3, 3))


def test_mean_branch_and_paper_output_without_sigmoid():
    model = VFA(**SMALL, start_branch="mean", squash="none").double()
    latent = torch.randn(2, 6, dtype=torch.float64)
    zero = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: model.posterior(x).mean, zero).reshape(6, 784)
    expected = ((latent - model.posterior(zero).mean) @ jacobian).view(2, 1, 28, 28)
    torch.testing.assert_close(model.decode(latent), expected.detach())


def test_every_step_squashed_keeps_features_inside_the_unit_interval():
    model = VFA(**SMALL, steps=3, step_size=50.0, squash="every")
    features = model.decode(10 * torch.randn(4, 6))
    assert features.min() >= 0
    assert features.max() <= 1


@pytest.mark.parametrize("start", ["zeros", "uniform", "normal", "learned", torch.full((1, 28, 28), 0.3)])
def test_starts(start):
    model = VFA(**SMALL, start=start)
    starts = model.starts(4)
    if isinstance(start, str) and start in ("uniform", "normal"):
        assert starts.shape == (4, 1, 28, 28)
        assert not torch.equal(starts[0], starts[1])
    else:
        assert starts.shape == (1, 1, 28, 28)
        assert starts.requires_grad == (isinstance(start, str) and start == "learned")
        assert starts.unique().tolist() == [pytest.approx(0.3 if isinstance(start, torch.Tensor) else 0.0)]


# --- fused heads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"steps": 1}, {"steps": 3, "squash": "every"}, {"steps": 2, "recompute": True}])
@pytest.mark.parametrize("classes", [0, 3])
def test_fused_heads_change_neither_features_nor_gradients(options, classes):
    model = VFA(**SMALL, classes=classes, activation="tanh", **options).double()
    images = torch.rand(16, 1, 28, 28, dtype=torch.float64)
    one_hot = nn.functional.one_hot(torch.randint(3, (16,)), 3).double() if classes else None
    found = []
    for fast in (True, False):
        with speed.switched(fast):
            network = model.snapshot(16)
            posterior = network.posterior(images)
            feature = network.feature(posterior.mean, one_hot)
            loss = (images - feature).square().sum() + posterior.log_variance.square().sum()
            gradients = torch.autograd.grad(loss, model.aligned_parameters(), allow_unused=True)
        assert has_fused_heads(network) == fast
        found.append([feature, *(gradient for gradient in gradients if gradient is not None)])
    assert len(found[0]) == 1 + len(model.aligned_parameters())
    for fused, plain in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain)


def has_fused_heads(network):
    return any(isinstance(part, Affine) for part in network.layers.parts)


def test_heads_are_fused_only_where_that_saves_work_and_skips_nothing():
    model = FA(**SMALL, steps=2)
    assert not has_fused_heads(model.snapshot(1))  # 6 latents, 5 passes of one image
    assert has_fused_heads(model.snapshot(2))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 24))
    assert not has_fused_heads(FA(**SMALL, encoder=encoder).snapshot(100))
    calls = []
    for module in (model.encoder, model.encoder.last, model.mean):
        handle = module.register_forward_hook(lambda module, *_: calls.append(module))
        assert not has_fused_heads(model.snapshot(2))
        model.feature(torch.randn(4, 6))
        assert set(calls) == {module}
        handle.remove()
        calls.clear()
    assert has_fused_heads(model.snapshot(2))


def test_refiner_and_discriminator_see_the_encoder_as_it_is_after_its_update(digits, monkeypatch):
    model, heads = VFAGAN(**SMALL, **ADVERSARY, classes=10, learning_rate=1e-2), []

    def weight():
        return torch.cat([head.weight for head in model.heads()]) @ model.encoder.last.weight

    def remember(method):
        def remembering(network, *arguments, **options):
            (head,) = [part for part in network.layers.parts if isinstance(part, Affine)]
            heads.append((head.weight.detach().clone(), weight().detach().clone()))
            return method(network, *arguments, **options)

        return remembering

    for name in ("posterior", "iterate"):
        monkeypatch.setattr(Snapshot, name, remember(getattr(Snapshot, name)))
    before = weight().detach().clone()
    train(model, digits[0][:16], digits[1][:16], 1)
    assert len(heads) >= 4  # twice for the encoder's update, for the perceptual term, for the prior's features
    for head, now in heads:
        torch.testing.assert_close(head, now)
    torch.testing.assert_close(heads[0][0], before)
    assert float((heads[-1][0] - before).norm() / before.norm()) > 1e-2


def test_one_training_step_is_adam_on_equation_4(digits, monkeypatch):
    """The step taken through the trainer, against the loss typed out again and torch's own Adam."""
    options = {"classes": 10, "beta": 0.7, "learning_rate": 1e-3, "cross_entropy_weight": 0.3}
    model, twin = VFA(**SMALL, **options), VFA(**SMALL, **options)
    twin.load_state_dict(model.state_dict())
    twin.double()
    model.double()
    images, labels = digits[0][:16].double(), digits[1][:16]
    noise = torch.randn(16, 6, dtype=torch.float64)
    monkeypatch.setattr(torch, "randn", lambda *size, **options: noise)
    train(model, images, labels, 1)
    clamped = images.clamp(0.01, 0.99)
    at = twin.posterior(clamped)
    z = at.mean + noise * (at.log_variance / 2).exp()

    def aligned(x):
        here = twin.posterior(x)
        return here.mean + (here.log_variance / 2).exp(), here.scores

    start = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    feature = torch.sigmoid(algorithm_1(aligned, (z, nn.functional.one_hot(labels, 10)), start))
    kl = 0.5 * (at.mean**2 + at.log_variance.exp() - 1 - at.log_variance).sum(1)
    loss = ((clamped - feature).square().sum((1, 2, 3)) + 0.7 * kl).mean()
    loss = loss + 0.3 * nn.functional.cross_entropy(at.scores, labels)
    parameters = [p for p in twin.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.999))
    loss.backward()
    optimizer.step()
    for (name, mine), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        # Adam's first step is the gradient's sign: rounding decides where there is no gradient to speak of.
        clear = torch.ones_like(mine, dtype=torch.bool) if other.grad is None else other.grad.abs() > 1e-9
        torch.testing.assert_close(mine[clear], other[clear], msg=lambda m, n=name: f"{n}: {m}")


def test_beta_is_drawn_afresh_for_every_example():
    first, second = (kl_weight(torch.ones(1000), "uniform", 0, 0) for _ in range(2))
    assert first.min() >= 0
    assert first.max() <= 1
    assert abs(first.mean() - 0.5) < 0.05
    assert not torch.equal(first, second)


def test_kl_warmup_grows_linearly():
    weights = [kl_weight(torch.ones(1), 2.0, 4, step) for step in range(6)]
    assert weights == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_the_cosine_schedule_falls_from_the_rate_to_zero_over_the_updates(digits):
    model = VFA(**SMALL, schedule="cosine", learning_rate=1e-3)
    updates, rates = Updates(model, 4), []
    for images in digits[0][:64].split(16):
        updates.step(images)
        rates.append(updates.optimizers["encoder"].param_groups[0]["lr"])  # of the next update
    assert rates == pytest.approx([1e-3 * 0.5 * (1 + math.cos(math.pi * done / 4)) for done in (1, 2, 3, 4)])


def test_weights_are_clamped_before_the_step(digits):
    model = VFA(**SMALL, learning_rate=1e-3)
    with torch.no_grad():
        model.encoder[0].weight[0, 0, 0, 0] = 9.0
        model.mean.weight[0, 0] = -9.0
    train(model, *digits[:1], None, 1)
    assert model.encoder[0].weight.abs().max() <= math.sqrt(2) + 1.1e-3
    assert model.mean.weight.abs().max() <= math.sqrt(2) + 1.1e-3


@pytest.mark.parametrize("adversarial", ["least-squares", "wasserstein", "wasserstein-gp"])
@pytest.mark.parametrize("fakes", ["prior", "reconstruction"])
def test_gan_trains_all_three_networks_and_no_gradient_crosses(digits, adversarial, fakes):
    model = VFAGAN(**SMALL, **ADVERSARY, classes=10, adversarial=adversarial, fakes=fakes, critic_clip=0.02)
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model, *digits, 2)
    for part in ("encoder", "mean", "log_variance", "scores", "refiner", "discriminator"):
        changed = [not torch.equal(before[n], p) for n, p in model.named_parameters() if n.startswith(part)]
        assert any(changed), part
    bound = max(p.abs().max() for p in model.discriminator.parameters())
    assert (bound <= 0.02) == (adversarial == "wasserstein")


def test_the_refiners_gradient_is_bounded_as_the_encoders_is(digits):
    model = VFAGAN(**SMALL, **ADVERSARY, perceptual_weight=1e6, clip_gradient=1e-2)
    train(model, digits[0], None, 1)
    for part in (model.refiner, model.encoder):
        norm = torch.stack([each.grad.norm() for each in part.parameters() if each.grad is not None]).norm()
        assert 0.5e-2 < norm <= 1.001e-2


def test_the_refiner_leaves_the_encoder_as_vfa_trains_it(digits):
    """Equation 5 acts on detached features: the encoder's path must be that of the model without refiner."""
    torch.manual_seed(1)
    gan = VFAGAN(**SMALL, **ADVERSARY, fakes="reconstruction", perceptual_weight=5.0)
    plain = VFA(**SMALL)
    plain.load_state_dict({k: v for k, v in gan.state_dict().items() if k in plain.state_dict()})
    for model in (gan, plain):
        torch.manual_seed(2)
        train(model, digits[0], None, 1)
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(parameter, dict(gan.named_parameters())[name])


def test_training_lowers_the_reconstruction_error_on_digits(digits):
    images, labels = digits
    model = VFA(**(SMALL | {"width": 64}), classes=10, steps=2, step_size=4.0, squash="every", activation="silu",
                learn_step_size=True, learning_rate=3e-3, beta=0.1, clip_gradient=10.0, class_weight=40.0)  # fmt: skip
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    train(model, images, labels, 120, batch=32)
    error = (images[-500:] - model.reconstruct(images[-500:], labels[-500:])).square().sum((1, 2, 3)).mean()
    constant = (images[-500:] - images.mean(0)).square().sum((1, 2, 3)).mean()
    assert error < 0.9 * constant
    assert model.log_step_sizes.grad is not None


def test_own_encoder_is_trained_and_refused_if_it_mixes_the_batch(digits):
    def encoder(*middle):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 24), *middle, nn.Tanh())

    model = VFA(**SMALL, encoder=encoder())
    before = model.encoder[1].weight.clone()
    train(model, digits[0], None, 1)
    assert not torch.equal(before, model.encoder[1].weight)
    with pytest.raises(ValueError, match="BatchNorm1d"):
        train(VFA(**SMALL, encoder=encoder(nn.BatchNorm1d(24))), digits[0], None, 1)


def test_stress_emphasises_the_class():
    model = VFA(**SMALL, classes=3)
    latent, labels = torch.randn(1, 6), torch.tensor([1])
    weak, normal, strong = (torch.logit(model.decode(latent, labels, stress).double()) for stress in (0.0, 1.0, 3.0))
    torch.testing.assert_close(strong - weak, 3 * (normal - weak), atol=1e-4, rtol=1e-3)  # affine for T = 1


def test_frozen_weights_of_an_encoder_are_not_clamped():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.Linear(24, 24))
    for layer in encoder[1:]:
        nn.init.constant_(layer.weight, 3.0)
    encoder[1].requires_grad_(False)
    FA(**(SMALL | {"width": 24}), encoder=encoder, clamp_weights=1.0).clamp_weights()
    assert [layer.weight.unique().tolist() for layer in encoder[1:]] == [[3.0], [1.0]]


@pytest.mark.parametrize("write", ["a fused optimiser", "a write into .data"])
def test_decoding_in_one_step_notices_new_weights_however_they_were_written(write, digits):
    model = FA(**SMALL, clamp_weights=None)
    latent = torch.randn(3, 6)
    before = model.eval().decode(latent)
    if write == "a fused optimiser":
        train(model, *digits, 2)
    else:
        model.mean.weight.data.mul_(2)
    after = model.eval().decode(latent)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model.feature(latent).detach(), atol=1e-5, rtol=1e-4)


def test_infer_labels_finds_the_class_that_explains_the_image():
    model = VFA(**SMALL, classes=4, class_weight=100.0)
    labels = torch.tensor([3, 0, 2, 1])
    images = model.decode(torch.zeros(4, 6), labels)
    model.encode = lambda images, labels=None: torch.zeros(len(images), 6)
    assert model.infer_labels(images).tolist() == labels.tolist()
    trained = VFA(**SMALL, classes=4, cross_entropy_weight=1.0)
    assert torch.equal(trained.infer_labels(images), trained.posterior(images).scores.argmax(1))


@pytest.mark.parametrize("kind", [FA, AE, Local])
def test_a_model_of_version_0_1_loads_decodes_as_it_did_and_draws_from_the_statistics_of_its_latents(kind, tmp_path):
    model = kind(**SMALL).eval()
    model.save_pretrained(tmp_path)
    weights = {name: each for name, each in load_file(tmp_path / "model.safetensors").items() if "max_step" not in name}
    mean, deviation = torch.linspace(-3, 3, 6), torch.linspace(0.5, 2, 6)
    statistics = {"running_mean": mean, "running_var": deviation**2, "num_batches_tracked": torch.tensor(7)}
    save_file(
        weights | {f"latent_statistics.{name}": each for name, each in statistics.items()},
        tmp_path / "model.safetensors",
    )
    config = json.loads((tmp_path / "config.json").read_text())
    for later in ("max_step", "further_steps", "augment", "sampler"):
        config["arguments"].pop(later, None)
    (tmp_path / "config.json").write_text(json.dumps({"model": config["model"], "arguments": config["arguments"]}))
    old, latent = kind.from_pretrained(tmp_path), torch.randn(4, 6)
    torch.testing.assert_close(old.decode(latent), model.decode(latent))
    draws = old.samplers.choose().draw(20_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0), mean, atol=0.05, rtol=0)
    torch.testing.assert_close(draws.std(0), deviation, atol=0.05, rtol=0)
    assert old.sample(2).shape == (2, 1, 28, 28)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_residual_refiner_saved_without_a_filter_loads_and_refines_as_it_did(average, tmp_path, digits):
    model = VFAGAN(
        **SMALL, refiner="residual", refiner_filters=4, discriminator_width=8, average_weights=average
    ).eval()
    images, _ = digits
    refiner = model.refiner.average.module if average else model.refiner
    torch.nn.init.normal_(refiner.last[1].weight)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: each for name, each in weights.items() if "smoothing" not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors")
    hidden = refiner.first(images)
    unfiltered = (images.clamp(1e-3, 1 - 1e-3).logit() + refiner.last(hidden + refiner.block(hidden))).sigmoid()
    torch.testing.assert_close(VFAGAN.from_pretrained(tmp_path).refine(images), unfiltered)
    assert not torch.allclose(model.refine(images), unfiltered)


def test_a_refiner_trained_with_an_option_that_is_gone_loads_and_refines_as_it_did(tmp_path, digits):
    model = VFAGAN(**SMALL, refiner_filters=4, discriminator_width=8).eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["arguments"] |= {"fakes": "both", "refine_prior": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    images = digits[0][:4]
    torch.testing.assert_close(Model.from_pretrained(tmp_path).refine(images), model.refine(images))


# --- the models without classes -----------------------------------------------------------------------

UNCONDITIONAL = [FA, AE, VAE, GAN, GON, Local]


@pytest.mark.parametrize("kind", UNCONDITIONAL)
def test_protocol_of_the_unconditional_models(kind, digits, tmp_path):
    model = kind(**SMALL, **({"search_steps": 3} if kind is GAN else {}))
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model, *digits, 2)
    assert any(not torch.equal(before[name], value) for name, value in model.named_parameters())
    images = digits[0][:5]
    latent = model.encode(images)
    assert latent.shape == (5, 6)
    decoded = model.decode(latent)
    torch.testing.assert_close(model.reconstruct(images), decoded)
    samples = model.sample(4, generator=torch.Generator().manual_seed(3))
    assert samples.shape == (4, 1, 28, 28)
    for each in (decoded, samples, model.interpolate(latent[:4], size=3)):
        assert not each.requires_grad
        assert each.min() >= 0
        assert each.max() <= 1
    with pytest.raises(ValueError, match="takes none"):
        model.decode(latent, torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match=r"latent: expected shape \(N, 6\)"):
        model.decode(latent[:, :5])
    model.eval().save_pretrained(tmp_path)
    torch.testing.assert_close(Model.from_pretrained(tmp_path).decode(latent), model.decode(latent), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [FA, AE, VAE])
def test_own_encoders_are_taken(kind, digits):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.Tanh())
    model = kind(**SMALL, encoder=encoder)
    before = encoder[1].weight.clone()
    train(model, digits[0], None, 1)
    assert not torch.equal(before, encoder[1].weight)


@pytest.mark.parametrize("adversarial", ["least-squares", "wasserstein", "wasserstein-gp"])
def test_the_discriminator_steps_the_same_for_both_batches_at_once_and_one_after_the_other(adversarial, digits):
    stepped = []
    for wrap in (lambda inside: inside, nn.Sequential):
        torch.manual_seed(0)
        inside = Discriminator((1, 28, 28), (4, 8), 8)
        model = VFAGAN(**SMALL, refiner_filters=4, discriminator=wrap(inside), adversarial=adversarial)
        model.double()
        torch.manual_seed(1)
        train(model, digits[0].double(), None, 2)
        stepped.append(list(inside.parameters()))
    for together, apart in zip(*stepped, strict=True):
        torch.testing.assert_close(together, apart)


def test_a_discriminator_derived_from_ours_sees_each_batch_by_itself(digits):
    seen = []

    class Watching(Discriminator):
        def forward(self, images):
            seen.append(len(images))
            return super().forward(images)

    model = VFAGAN(**SMALL, refiner_filters=4, discriminator=Watching((1, 28, 28), (4, 8), 8))
    train(model, digits[0], None, 1)
    assert seen == [16, 16, 16]  # refined; real; from the prior


@pytest.mark.parametrize("fakes", ["prior", "reconstruction"])
def test_the_discriminator_rejects_the_images_that_the_option_names(fakes, digits):
    """Equation 6 has the refined images of equation 5; the paper's code has others, of draws from the prior."""
    seen = []

    class Watching(Discriminator):
        def forward(self, images):
            seen.append(images.detach().clone())
            return super().forward(images)

    discriminator = Watching((1, 28, 28), (4, 8), 8)
    train(VFAGAN(**SMALL, refiner_filters=4, discriminator=discriminator, fakes=fakes), digits[0], None, 1)
    refined, _, rejected = seen
    assert torch.equal(refined, rejected) == (fakes == "reconstruction")


@pytest.mark.parametrize("kind", [GAN, VFAGAN])
def test_own_discriminators_are_taken(kind, digits):
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(784, 1), nn.Flatten(0))
    model = kind(**SMALL, discriminator=discriminator)
    before = discriminator[1].weight.clone()
    train(model, digits[0], None, 1)
    assert not torch.equal(before, discriminator[1].weight)


@pytest.mark.parametrize("kind", [FA, VFA, AE, VAE, GAN, GON, Local])
def test_images_of_another_shape_are_named(kind):
    model = kind(**SMALL)
    for shape in ((3, 28, 28), (1, 32, 32)):
        with pytest.raises(ValueError, match=r"images: expected shape \(N, 1, 28, 28\), got \(2, "):
            model.reconstruct(torch.rand(2, *shape))


@pytest.mark.parametrize("kind", [FA, AE, VAE, GAN, GON, Local])
def test_sizes_that_do_not_fit_are_named(kind):
    with pytest.raises(ValueError, match="side divisible by 8 for 3 entries of channels, got 28 x 28"):
        kind((1, 28, 28), 6, channels=(4, 4, 4), width=8)


@pytest.mark.parametrize(("shape", "channels"), [((1, 28, 28), (3, 5)), ((3, 32, 32), (4, 5, 6)), ((2, 8, 8), (3,))])
def test_the_decoder_mirrors_the_encoder(shape, channels):
    encoder, decoder = Encoder(shape, channels, 7), Decoder(shape, 6, channels, 7)
    image = torch.rand(2, *shape)
    down = [list(image.shape[1:])]
    for layer in encoder:
        image = layer(image)
        if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
            down.append(list(image.shape[1:]))
    up, image = [], torch.rand(2, 6)
    for layer in decoder:
        if isinstance(layer, nn.ConvTranspose2d):
            up.append(list(image.shape[1:]))
        image = layer(image)
    assert image.shape == (2, *shape)
    assert up == down[:0:-1]
    assert image.min() >= 0
    assert image.max() <= 1
    convolutions = [layer for layer in decoder if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == sum(isinstance(layer, nn.Conv2d) for layer in encoder)
    norms = [layer for layer in Decoder(shape, 6, channels, 7, normalize=True) if "BatchNorm" in type(layer).__name__]
    assert len(norms) == 2 + len(convolutions) - 1


def test_plain_feature_alignment_is_algorithm_1(digits):
    """Two steps, a start for each sample, double backward: the algorithm as it is printed, and torch's own Adam."""
    options = {"steps": 2, "step_size": [0.5, 0.3], "squash": "none", "clamp_inputs": 0.0, "learning_rate": 1e-3,
               "activation": "tanh"}  # fmt: skip
    model, twin = FA(**SMALL, **options), FA(**SMALL, **options)
    twin.load_state_dict(model.state_dict())
    twin.double()
    model.double()
    images = digits[0][:16].double()
    train(model, images, None, 1)
    plain = nn.Sequential(twin.encoder, twin.mean)
    start = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    r = algorithm_1(plain, plain(images), start, steps=2, step_size=[0.5, 0.3])
    optimizer = torch.optim.Adam([*twin.encoder.parameters(), *twin.mean.parameters()], lr=1e-3, betas=(0.5, 0.999))
    (images - r).square().sum((1, 2, 3)).mean().backward()
    optimizer.step()
    for (name, mine), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        clear = torch.ones_like(mine, dtype=torch.bool) if other.grad is None else other.grad.abs() > 1e-9
        torch.testing.assert_close(mine[clear], other[clear], msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", [AE, VAE])
def test_the_autoencoders_loss_is_the_sum_over_pixels_and_the_divergence(kind, digits, monkeypatch):
    model = kind(**SMALL, learning_rate=1e-9, **({"beta": 0.5} if kind is VAE else {}))
    images, noise, seen = digits[0][:16], torch.randn(16, 6), []
    monkeypatch.setattr(torch, "randn", lambda *size, **options: noise)
    monkeypatch.setattr(Updates, "backward", lambda self, total: seen.append(total.item()))
    train(model, images, None, 1)
    hidden = model.encoder(images)
    mean, expected = model.mean(hidden), 0.0
    if kind is VAE:
        log_variance = model.log_variance(hidden)
        expected = 0.5 * 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
        mean = mean + noise * (log_variance / 2).exp()
    expected = expected + 16 * 784 / 16 * nn.functional.mse_loss(model.decoder(mean), images)
    assert seen == [pytest.approx(float(expected.detach()), rel=1e-5)]


@pytest.mark.parametrize("kind", [AE, FA, GON, Local])
def test_samples_without_a_prior_follow_the_latents_of_training_images(kind, digits):
    model, images = kind(**SMALL), digits[0][::3]
    model.fit_samplers((images * 255).round().byte())
    latents = model.encode(images).double()
    drawn = model.prior(50_000, torch.Generator().manual_seed(0), sampler="gaussian").double()
    scale = float(latents.std(0).max())
    torch.testing.assert_close(drawn.mean(0), latents.mean(0), atol=0.03 * scale, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), latents.T.cov(), atol=0.05 * scale**2, rtol=0.05)
    prior = VAE(**SMALL)
    prior.fit_samplers(images)
    torch.testing.assert_close(prior.prior(20_000).std(0), torch.ones(6), atol=0.05, rtol=0)


@pytest.mark.parametrize("adversarial", ["least-squares", "wasserstein", "wasserstein-gp"])
def test_gan_trains_both_networks(digits, adversarial):
    model = GAN(**SMALL, adversarial=adversarial, critic_clip=0.02)
    before = {name: value.clone() for name, value in model.named_parameters()}
    train(model, *digits, 2)
    for part in ("generator", "discriminator"):
        assert any(not torch.equal(before[n], p) for n, p in model.named_parameters() if n.startswith(part)), part
    bound = max(p.abs().max() for p in model.discriminator.parameters())
    assert (bound <= 0.02) == (adversarial == "wasserstein")


def test_latent_search_finds_what_was_generated_image_by_image():
    model = GAN(**(SMALL | {"latent": 2}), search_steps=150, search_restarts=3).eval()
    images = model.decode(torch.tensor([[0.5, -1.0], [1.5, 0.3], [-0.7, -0.2], [0.0, 1.0]]))
    latent = model.encode(images)
    distance = images.var(0).sum()
    errors = (model.decode(latent) - images).square().sum((1, 2, 3))
    assert errors.max() < 0.05 * distance
    torch.testing.assert_close(model.encode(images[1:2]), latent[1:2], atol=1e-3, rtol=1e-3)
    hasty = GAN(**(SMALL | {"latent": 2}), search_steps=150, search_restarts=1).eval()
    hasty.load_state_dict(model.state_dict())
    single = (hasty.reconstruct(images) - images).square().sum((1, 2, 3))
    assert (errors <= single + 1e-4).all()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("dtype", "size"), [(torch.half, 1), (torch.bfloat16, 3)])
def test_the_latent_is_sought_in_half_precision_too(dtype, size):
    model = GAN(**(SMALL | {"latent": 2}), search_steps=150, search_restarts=3, normalize=False).eval()
    with torch.no_grad():  # of 1: small gradients, whose squares vanish in half precision; of 3: images that differ
        for each in model.generator.parameters():
            each *= size
    images = model.decode(torch.tensor([[0.5, -1.0], [1.5, 0.3], [-0.7, -0.2]]))
    half = model.to(dtype)
    latent = half.encode(images.to(dtype))
    assert latent.dtype == dtype
    errors = (half.decode(latent).float() - images).square().sum((1, 2, 3))
    assert errors.max() < 0.2 * images.var(0).sum()


def test_a_critic_keeps_its_frozen_weights(digits):
    model = GAN(**SMALL, adversarial="wasserstein", critic_clip=0.02)
    frozen = next(each for each in model.discriminator.parameters() if each.ndim == 4).requires_grad_(False)
    before = frozen.clone()
    train(model, *digits, 1)
    assert torch.equal(frozen, before)
    assert before.abs().max() > 0.02


@pytest.mark.parametrize("loss", ["layer", "image"])
def test_a_layer_of_local_whose_weight_is_frozen_is_passed_over(digits, loss):
    model = Local(**SMALL, loss=loss, clip_gradient=1.0)
    weights = [layer.weight for layer in model.network.learning_layers()]
    weights[0].requires_grad_(False)
    before = [each.clone() for each in weights]
    train(model, *digits, 1)
    assert [torch.equal(*each) for each in zip(weights, before, strict=True)] == [True, *[False] * (len(weights) - 1)]


def test_a_gan_given_the_class_seeks_the_latent_of_that_class():
    model = GAN(**(SMALL | {"latent": 2}), classes=3, projection=True, search_steps=150, search_restarts=3).eval()
    with torch.no_grad():  # the class matters as much as the latent, as after training
        model.generator[0].weight[:, 2:] *= 3
    latent, labels = torch.tensor([[0.5, -1.0], [1.5, 0.3], [-0.7, -0.2], [0.0, 1.0]]), torch.tensor([2, 0, 1, 2])
    images = model.decode(latent, labels)

    def errors(reconstructed):
        return (reconstructed - images).square().sum((1, 2, 3))

    distance = images.var(0).sum()
    assert errors(model.reconstruct(images, labels)).max() < 0.05 * distance
    assert errors(model.reconstruct(images, (labels + 1) % 3)).min() > 0.05 * distance
    other = (labels + 1) % 3  # the latent of another class is sought for that class
    assert errors(model.reconstruct(images, other)).sum() < 0.95 * errors(model.decode(latent, other)).sum()
    assert torch.equal(model.infer_labels(images), labels)
    torch.testing.assert_close(model.encode(images), model.encode(images, labels))
    torch.testing.assert_close(model.reconstruct(images), model.reconstruct(images, labels))


def test_local_trains_its_layers_and_inverts_them(digits):
    torch.manual_seed(1)
    images = digits[0][torch.randperm(len(digits[0]))]
    model = Local((1, 28, 28), 16, channels=(8, 8), width=64, learning_rate=3e-3)
    untrained = (images[-500:] - model.reconstruct(images[-500:])).square().sum((1, 2, 3)).mean()
    train(model, images, None, 120, batch=32)
    error = (images[-500:] - model.reconstruct(images[-500:])).square().sum((1, 2, 3)).mean()
    constant = (images[-500:] - images.mean(0)).square().sum((1, 2, 3)).mean()
    assert error < 0.8 * constant < untrained
    assert len(model.optimizers()) == 6


@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_local_layer_that_predicts_the_image_is_taught_through_the_layers_before_it_as_they_are(clip):
    """Against transposed layers written out, each differentiated by itself; plain gradient descent in Adam's place."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 9), Arcsinh(), nn.Linear(9, 7), Arcsinh(), nn.Linear(7, 3))
    twin = copy.deepcopy(layers).double()
    model = Local((1, 3, 4), 3, layers=layers, loss="image", clip_gradient=clip).double()
    images = torch.rand(5, 1, 3, 4, dtype=torch.double)
    updates = Updates(model, 1)
    for name, group in updates.parameters.items():
        updates.optimizers[name] = torch.optim.SGD(group, lr=1e-2)
    terms = updates.step(images)

    linear, x = [twin[1], twin[3], twin[5]], images.flatten(1)
    for number, layer in enumerate(linear):
        output = layer(x)
        found = output
        for below in reversed(linear[: number + 1]):
            found = (found - below.bias) @ below.weight
            found = found.sinh() if below is not linear[0] else found
        loss = (images.flatten(1) - found).square().sum() / 5
        torch.testing.assert_close(terms[f"layer_{number}"], loss.detach())
        gradients = torch.autograd.grad(loss, [layer.weight, layer.bias])
        norm = math.sqrt(sum(float(each.square().sum()) for each in gradients))
        with torch.no_grad():
            for weight, gradient in zip([layer.weight, layer.bias], gradients, strict=True):
                weight -= 1e-2 * gradient * (1 if clip is None else min(1, clip / norm))
        x = output.detach().arcsinh()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_local_takes_layers_of_ones_own():
    layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 40), Arcsinh(), nn.Linear(40, 6))
    model = Local((1, 28, 28), 6, layers=layers)
    assert model.decode(torch.zeros(2, 6)).shape == (2, 1, 28, 28)
    with pytest.raises(ValueError, match=r"layers: expected an output of shape \(7,\), got \(6,\)"):
        Local((1, 28, 28), 7, layers=layers)
    with pytest.raises(TypeError, match=r"layers\[1\]: MaxPool2d"):
        Local((1, 28, 28), 6, layers=nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2)))


# --- saving and loading -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"classes": 10, "start": "learned", "steps": 2, "learn_step_size": True}])
def test_saved_and_loaded_model_gives_the_same_images(tmp_path, options):
    model = VFAGAN(**SMALL, **ADVERSARY, **options).eval()
    model.save_pretrained(tmp_path)
    loaded = Model.from_pretrained(tmp_path)
    assert type(loaded) is VFAGAN
    assert not loaded.training
    images, labels = torch.rand(3, 1, 28, 28), torch.arange(3) if options else None
    torch.testing.assert_close(loaded.reconstruct(images, labels), model.reconstruct(images, labels), rtol=0, atol=0)
    torch.testing.assert_close(loaded.refine(images, labels), model.refine(images, labels), rtol=0, atol=0)


def test_given_start_and_own_encoder_survive_saving(tmp_path):
    def encoder():
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 24))

    model = VFA(**SMALL, encoder=encoder(), start=torch.full((1, 28, 28), 0.2))
    model.save_pretrained(tmp_path)
    loaded = VFA.from_pretrained(tmp_path, encoder=encoder())
    torch.testing.assert_close(loaded.start, model.start)
    latent = torch.randn(2, 6)
    torch.testing.assert_close(loaded.decode(latent), model.decode(latent))


def test_loading_refuses_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        Model.from_pretrained(tmp_path)
    VFA(**SMALL).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds the model 'VFA', expected VFAGAN"):
        VFAGAN.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model\.safetensors: does not fit config\.json.*size mismatch"):
        VFA.from_pretrained(tmp_path, latent=7)
    (tmp_path / "config.json").write_text(json.dumps({"model": "Nothing", "arguments": {}}))
    with pytest.raises(ValueError, match="holds the model 'Nothing'"):
        Model.from_pretrained(tmp_path)
    for text in ("{", "[" * 10**5, "null", '{"model": "VFA", "arguments": {}, "white": {"integers": -1}}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json: not the configuration of a model"):
            Model.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 10**10}, r"model\.safetensors: does not fit config\.json: .*size mismatch"),  # terabytes
        ({"channels": [10**6, 10**6]}, r"model\.safetensors: does not fit config\.json: .*size mismatch"),
        ({"width": -8}, r"config\.json: not a VFAGAN of this version: width: expected a size of 1 or more, got -8"),
        ({"classes": 10**9}, r"does not fit config\.json: .*size mismatch"),
        ({"schedule": 3}, r"config\.json: not a VFAGAN of this version: schedule: expected constant or cosine, got"),
        ({"image_shape": ["a", 28, 28]}, r"config\.json: not a VFAGAN of this version"),
        ({"latnt": 3}, r"config\.json: not a VFAGAN of this version: VFAGAN has no option 'latnt'"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"start": "layers", "squash": "every"}])
def test_a_configuration_of_no_sense_is_named_before_it_asks_for_memory(tmp_path, changes, message, options):
    VFAGAN(**SMALL, **ADVERSARY, **options).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["arguments"] |= changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        Model.from_pretrained(tmp_path)


def test_weights_that_are_missing_or_too_many_are_named(tmp_path):
    VFA(**SMALL).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for changed in ({"x": torch.zeros(1), **weights}, dict(list(weights.items())[1:])):
        save_file(changed, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=r"does not fit config\.json: .*(Unexpected|Missing) key"):
            Model.from_pretrained(tmp_path)


def test_a_model_in_a_folder_whose_name_is_no_text_is_loaded(tmp_path):
    model = VFA(**SMALL).eval()
    model.save_pretrained(tmp_path / "run\udcff")
    loaded = Model.from_pretrained(tmp_path / "run\udcff").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match=r"does not fit config\.json.*size mismatch"):
        Model.from_pretrained(tmp_path / "run\udcff", latent=7)


def test_the_values_of_white_are_saved_with_the_model(tmp_path):
    model = VFA(**SMALL)
    assert model.white == {}
    model.white = {"integers": 4095.0}
    model.save_pretrained(tmp_path)
    assert Model.from_pretrained(tmp_path).white == {"integers": 4095.0}
    config = json.loads((tmp_path / "config.json").read_text())
    del config["white"]  # of an earlier version
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Model.from_pretrained(tmp_path).white == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"steps": 2, "step_size": [1.0]}, "one for each of 2 steps"),
        ({"step_size": -1.0}, "step_size: expected a positive number"),
        ({"start": "ones"}, "start: expected one of zeros, .*learned.* got 'ones'"),
        ({"squash": "x"}, "squash: expected one of last, every, none, got 'x'"),
        ({"start_branch": "x"}, "start_branch: expected one of"),
        ({"schedule": "x"}, "schedule: expected one of"),
        ({"clamp_inputs": 0.5}, "clamp_inputs: expected at least 0 and below 0.5"),
        ({"class_weight": -1.0}, "class_weight: expected at least 0"),
        ({"class_branch": "logits"}, "class_branch: expected one of scores, probabilities"),
        ({"beta": "half"}, "beta: expected one of uniform, got"),
        ({"beta": -0.1}, "beta: expected uniform or a number of at least 0"),
        ({"start": torch.zeros(1, 2, 2)}, r"start: expected shape \(1, 28, 28\), got \(1, 2, 2\)"),
        ({"learning_rate": 0.0}, "learning_rate: expected a positive number"),
        ({"latent": 0}, "latent: expected at least 1, got 0"),
        ({"classes": 1}, "classes: expected 0"),
        ({"clip_gradient": -1.0}, "clip_gradient: expected a positive number, got -1"),
        ({"clamp_weights": -1.0}, "clamp_weights: expected a positive number, got -1"),
        ({"beta": math.nan}, "beta: expected uniform or a number of at least 0, got nan"),
        ({"betas": (1.5, 0.9)}, "betas: expected two numbers of at least 0 and below 1"),
        ({"channels": ()}, "channels: expected sizes of 1 or more"),
        ({"width": 0}, "width: expected a size of 1 or more, got 0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        VFA(**(SMALL | options))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("learning_rate", "a number"),
        ("latent", "a whole number"),
        ("max_step", "a number or none"),
        ("class_weight", "a number"),
        ("learn_weights", "true or false"),
    ],
)
def test_text_for_a_number_is_named(name, what):
    """As PyYAML reads 2e-3."""
    with pytest.raises(TypeError, match=f"{name}: expected {what}, got the text '2e-3'"):
        VFA((1, 28, 28), **{name: "2e-3"})


@pytest.mark.parametrize("name", ["adversarial", "fakes", "perceptual_spread"])
def test_bad_options_of_the_gan_are_named(name):
    with pytest.raises(ValueError, match=f"{name}: expected one of .*, got 'x'"):
        VFAGAN(**SMALL, **ADVERSARY, **{name: "x"})


@pytest.mark.parametrize("refiner", ["plain", "residual"])
@pytest.mark.parametrize("size", [-1, 0, 4])
def test_a_kernel_of_the_refiner_that_has_no_centre_is_named(refiner, size):
    with pytest.raises(ValueError, match=f"refiner_kernel: expected an odd number of at least 1, got {size}"):
        VFAGAN(**SMALL, **ADVERSARY, refiner=refiner, refiner_kernel=size)


def test_bad_labels_and_latents_are_named():
    conditional, plain = VFA(**SMALL, classes=3).eval(), VFA(**SMALL).eval()
    latent = torch.zeros(2, 6)
    for model, arguments, message in (
        (conditional, (latent,), "built for 3 classes and needs them"),
        (conditional, (latent, torch.tensor([0, 3])), "labels: expected 0 to 2, got 0 to 3"),
        (conditional, (latent, torch.tensor([0])), r"labels: expected shape \(2,\), got \(1,\)"),
        (conditional, (latent, torch.zeros(2, 4)), r"mixtures of shape \(2, 3\), got \(2, 4\)"),
        (plain, (latent, torch.tensor([0, 1])), "built without classes and takes none"),
        (plain, (torch.zeros(2, 5),), r"latent: expected shape \(N, 6\), got \(2, 5\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.decode(*arguments)
    with pytest.raises(ValueError, match="built for 3 classes and needs them"):
        conditional.feature(latent, steps=4)
    with pytest.raises(ValueError, match="VFA has no refiner"):
        plain.refine(torch.rand(1, 1, 28, 28))


@pytest.mark.parametrize("kind", [AE, FA, GAN, VFA])
def test_what_is_not_in_the_dtype_of_the_weights_is_named(kind):
    model = kind(**SMALL, classes=3, **({"projection": True} if kind is GAN else {})).eval()
    labels = {"labels": torch.tensor([0, 2])}
    for method, given, message in (
        (model.encode, torch.rand(2, 1, 28, 28).double(), r"images: expected torch\.float32 .* got torch\.float64"),
        (model.encode, torch.zeros(2, 1, 28, 28).byte(), r"images: .* got torch\.uint8; as_floats\(\) converts bytes"),
        (lambda z: model.decode(z, **labels), torch.zeros(2, 6).double(), r"latent: .* got torch\.float64"),
    ):
        with pytest.raises(ValueError, match=message):
            method(given)
    for integer in (torch.int32, torch.uint8):
        latent = torch.randn(2, 6)
        assert torch.equal(model.decode(latent, labels["labels"].to(integer)), model.decode(latent, **labels))
    with pytest.raises(TypeError, match="labels: expected a tensor, got list"):
        model.decode(torch.zeros(2, 6), [0, 2])
    with pytest.raises(ValueError, match=f"this {kind.__name__} was built without classes and has none to infer"):
        kind(**SMALL).eval().infer_labels(torch.rand(2, 1, 28, 28))


def test_a_latent_is_searched_in_inference_mode_too():
    model, images = GAN(**SMALL, search_steps=3).eval(), torch.rand(2, 1, 28, 28)
    expected = model.encode(images)
    with torch.inference_mode():
        assert torch.equal(model.encode(images.clone()), expected)


def test_a_start_given_in_another_dtype_is_that_of_the_weights():
    model = FA(**SMALL, start=torch.ones(1, 28, 28, dtype=torch.long)).eval()
    assert model.decode(torch.zeros(2, 6)).dtype == torch.float32


# --- the layered start ---------------------------------------------------------------------------------


LAYERED = {"start": "layers", "squash": "every", "activation": "silu", "steps": 2, "step_size": 4.0, "max_step": 3.0}


@pytest.mark.parametrize("branch", ["scores", "probabilities"])
def test_a_layered_start_is_corrected_by_bounded_steps_of_algorithm_1(branch):
    """From the layered start, every step written out with its gradient and its bound, beyond the trained T too."""
    weighted = branch == "probabilities"
    options = {"start_branch": "mean", "activate_width": True, "class_branch": branch, "learn_weights": weighted}
    model = VFA(**SMALL, **LAYERED, **options, classes=3, class_weight=4.0).double()
    weights = torch.linspace(0.5, 3, 6).double() if weighted else torch.ones(6).double()
    with torch.no_grad():
        if weighted:
            model.weight_exponents.copy_(weights.log() / 10)
        model.log_step_sizes.copy_(torch.tensor([4.0, 0.5]).log())
        model.log_max_steps.copy_(torch.tensor([3.0, 0.1]).log())
    latent, labels = torch.randn(5, 6, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    one_hot = nn.functional.one_hot(labels, 3).double()
    target = (weights.sqrt() * latent, 2 * one_hot)
    start = model.layered_start(target).detach()

    def aligned(x):
        at = model.posterior(x)
        return weights.sqrt() * at.mean, 2 * (
            at.scores if branch == "scores" else at.scores.exp() / at.scores.exp().sum(1, True)
        )

    sizes, bounds = [4.0, 0.5, 0.5, 0.5], [3.0, 0.1, 0.1, 0.1]
    features = {0: start.sigmoid()}
    for steps in range(1, 5):
        features[steps] = algorithm_1(
            aligned, target, start, steps=steps, step_size=sizes[:steps], max_step=bounds[:steps], squash=torch.sigmoid
        ).detach()
    for steps, expected in features.items():
        found = model.feature(latent, one_hot, steps=steps).detach()
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(model.decode(latent, labels), features[2], rtol=1e-8, atol=1e-10)


def test_a_layered_start_alone_and_its_parameters_are_trained(digits):
    model = FA(**SMALL, **(LAYERED | {"steps": 0}), learning_rate=1e-2)
    before = [parameter.clone() for parameter in model.layered_start.parameters()]
    train(model, digits[0][torch.randperm(4500)], None, 3)
    assert all(not torch.equal(one, other) for one, other in zip(before, model.layered_start.parameters(), strict=True))


class Unrolled(nn.Module):
    """An encoder of one's own, with a connection around two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(784, 24), nn.Linear(24, 24)

    def forward(self, images):
        hidden = self.first(images.flatten(1))
        return hidden + self.second(hidden).tanh()


class Skipping(nn.Module):
    """The connection around the body adds nothing to an image of zeros."""

    def __init__(self):
        super().__init__()
        self.body, self.skip = nn.Linear(784, 24), nn.Linear(784, 24, bias=False)

    def forward(self, images):
        return self.body(images.flatten(1)) + self.skip(images.flatten(1))


class Around(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, hidden):
        return hidden + self.layer(hidden).tanh()


def test_stages_of_an_encoder_of_ones_own():
    encoder = Unrolled()
    stages = [nn.Sequential(nn.Flatten(), encoder.first), Around(encoder.second)]
    model = FA(**SMALL, **LAYERED, encoder=encoder, stages=stages)
    assert model.decode(torch.randn(3, 6)).shape == (3, 1, 28, 28)
    with pytest.raises(ValueError, match=r"since Unrolled is not an nn\.Sequential"):
        FA(**SMALL, **LAYERED, encoder=encoder)
    with pytest.raises(ValueError, match="their composition is not the encoder"):
        FA(**SMALL, **LAYERED, encoder=encoder, stages=[stages[0], encoder.second])
    skipping = Skipping()
    with pytest.raises(ValueError, match="their composition is not the encoder"):
        FA(**SMALL, **LAYERED, encoder=skipping, stages=[nn.Sequential(nn.Flatten(), skipping.body)])
    with pytest.raises(ValueError, match="squash: a start of layers is in logit space, expected every, got 'last'"):
        FA(**SMALL, **(LAYERED | {"squash": "last"}))
    with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
        FA(**SMALL, steps=0)
    with pytest.raises(ValueError, match="max_start: bounds a start of layers, got a start of zeros"):
        FA(**SMALL, max_start=8.0)
    with pytest.raises(ValueError, match="max_start: expected a positive number, got 0"):
        FA(**SMALL, **LAYERED, max_start=0.0)
    assert FA(**SMALL, **LAYERED, max_start=0.1).decode(1e3 * torch.ones(1, 6)).sub(0.5).abs().max() < 0.45
    with pytest.raises(ValueError, match="max_step: expected a positive number, got 0"):
        FA(**SMALL, max_step=0.0)


@pytest.mark.parametrize("options", [{"squash": "none"}, {"squash": "every", "steps": 3, "decode_steps": 1}])
def test_one_step_is_bounded_in_decoding_too(options):
    model, latent = FA(**SMALL, **options, max_step=0.01).eval(), torch.randn(3, 6)
    with torch.no_grad():
        assert torch.allclose(model.decode(latent), model.feature(latent, steps=1), atol=1e-6)


def test_what_is_decoded_under_autocast_is_not_kept_for_later():
    model, latent = FA(**SMALL).eval(), torch.randn(3, 6)
    expected = copy.deepcopy(model).decode(latent)
    with torch.autocast("cpu", torch.bfloat16):
        model.decode(latent)
    assert torch.equal(model.decode(latent), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_is_loaded_in_the_dtype_that_it_was_saved_in(dtype, tmp_path):
    model = VFA(**SMALL).to(dtype).eval()
    model.save_pretrained(tmp_path)
    loaded = Model.from_pretrained(tmp_path)
    assert loaded.dtype == dtype
    for name, weights in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weights), name
    config = json.loads((tmp_path / "config.json").read_text())
    del config["dtype"]  # of an earlier version
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Model.from_pretrained(tmp_path).dtype == torch.float32
    (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": "int8"}))
    with pytest.raises(ValueError, match=r"config\.json: not the configuration of a model: .*int8"):
        Model.from_pretrained(tmp_path)


def test_weights_of_fitted_samplers_are_loaded_with_the_others():
    fitted, empty = AE(**SMALL).eval(), AE(**SMALL).eval()
    fitted.fit_samplers(torch.rand(40, 1, 28, 28))
    empty.load_state_dict(fitted.state_dict())
    assert set(empty.samplers) == set(fitted.samplers) == {"normal", "gaussian", "mixture"}
    drawn = [each.sample(3, generator=torch.Generator().manual_seed(0), sampler="mixture") for each in (fitted, empty)]
    assert torch.equal(*drawn)


class OfOnesOwn(VFA):
    """A class that brings its encoder is loaded without one."""

    def __init__(self, image_shape, **options):
        super().__init__(image_shape, encoder=nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Tanh()), **options)


def test_a_model_with_a_module_of_ones_own_is_loaded_with_it_or_not_at_all(tmp_path):
    """Another encoder with the same names and shapes would be another model, without an error."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Tanh())
    model = FA((1, 16, 16), latent=3, width=8, encoder=encoder).eval()
    model.save_pretrained(tmp_path / "own")
    with pytest.raises(ValueError, match="was built with encoder of your own, whose code is not saved; pass encoder="):
        Model.from_pretrained(tmp_path / "own")
    images = torch.rand(2, 1, 16, 16)
    same = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Tanh())
    assert torch.equal(Model.from_pretrained(tmp_path / "own", encoder=same).encode(images), model.encode(images))
    whole = OfOnesOwn((1, 16, 16), latent=3, width=8).eval()
    whole.save_pretrained(tmp_path / "class")
    assert torch.equal(Model.from_pretrained(tmp_path / "class").encode(images), whole.encode(images))


@pytest.mark.parametrize("kind", [VAE, VFA])
def test_a_log_variance_far_beyond_the_prior_is_bounded_and_any_other_is_the_networks(kind):
    """At 180 a deviation is infinite, a draw no number, and with it the loss of the whole batch."""
    model = kind((1, 16, 16), latent=3, channels=(4,), width=8, clip_gradient=10.0)
    images = torch.rand(4, 1, 16, 16)
    hidden = model.encoder(images)
    torch.testing.assert_close(model.posterior(images).log_variance, model.log_variance(hidden))
    with torch.no_grad():
        model.log_variance.bias.fill_(180.0)
    at = model.posterior(images)
    assert float(at.log_variance.detach().max()) == 20
    at.log_variance.sum().backward()  # or nothing would bring it back
    torch.testing.assert_close(model.log_variance.bias.grad, torch.full((3,), 4.0))
    losses = Updates(model, total=2).step(images)
    assert all(bool(each.isfinite()) for each in losses.values())
    assert all(bool(each.isfinite().all()) for each in model.parameters())
    narrow = kind((1, 16, 16), latent=3, channels=(4,), width=8, max_log_variance=0.5)
    with torch.no_grad():
        narrow.log_variance.bias.fill_(3.0)
    assert float(narrow.posterior(images).log_variance.max()) == 0.5
    with pytest.raises(ValueError, match="max_log_variance: expected at least 0, got -1"):
        kind((1, 16, 16), latent=3, max_log_variance=-1.0)


@pytest.mark.parametrize("kind", [FA, VFA, AE, VAE, GAN, Local])
@pytest.mark.parametrize(("scale", "shift"), [(2.0, -1.0), (255.0, 0.0), (math.nan, 0.0)])
def test_images_outside_of_0_to_1_are_refused_in_the_first_update(kind, scale, shift):
    images = torch.rand(4, 1, 28, 28).requires_grad_(False)
    images[0, 0, 0, 0] = 0.0
    images[0, 0, 0, 1] = 1.0
    updates = Updates(kind(**SMALL), total=2)
    with pytest.raises(ValueError, match=r"images: expected values in \[0, 1\], got .*; give pixels of 0 to 255 as"):
        updates.step(scale * images + shift)
    updates.step(images)
    updates.step((255 * images).byte())


@pytest.mark.parametrize("kind", [FA, VFA, AE, VAE, GAN, VFAGAN])
def test_labels_that_are_no_classes_are_refused_by_an_update(kind):
    updates = Updates(kind(**SMALL, classes=3, **(ADVERSARY if kind is VFAGAN else {})), total=9)
    images = torch.rand(2, 1, 28, 28)
    for labels, message in (
        (torch.tensor([0, 3]), "labels: expected 0 to 2, got 0 to 3"),
        (torch.tensor([-1, 0]), "labels: expected 0 to 2, got -1 to 0"),
        (torch.tensor([0]), r"labels: expected shape \(2,\), got \(1,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            updates.step(images, labels)
    for labels in ([0, 1], torch.tensor([0.0, 1.0])):
        with pytest.raises(TypeError, match="labels: expected"):
            updates.step(images, labels)
    updates.step(images, torch.tensor([0, 2], dtype=torch.int32))


def test_labels_of_any_integer_reach_the_cross_entropy():
    updates = Updates(VFA(**SMALL, classes=3, cross_entropy_weight=1.0), total=2)
    updates.step(torch.rand(2, 1, 28, 28), torch.tensor([0, 2], dtype=torch.int16))


def test_an_update_trains_though_the_model_was_evaluated_in_between():
    model = GAN(**SMALL, average_weights=0.9, adversarial="relativistic", normalize=False)
    updates, images = Updates(model, total=3), torch.rand(2, 1, 28, 28)
    updates.step(images)
    model.eval()
    updates.step(images)
    assert model.training


def test_a_batch_of_one_is_refused_by_batch_normalisation():
    with pytest.raises(ValueError, match=r"batch normalisation needs 2 in a batch, got 1; normalize=False has none"):
        Updates(GAN(**SMALL), total=1).step(torch.rand(1, 1, 28, 28))
    Updates(GAN(**SMALL, normalize=False), total=1).step(torch.rand(1, 1, 28, 28))


def test_a_class_of_ones_own_with_the_name_of_one_of_ours_is_told_apart(tmp_path):
    own = type("VFA", (VFA,), {"__module__": "my_code"})
    VFA(**SMALL).save_pretrained(tmp_path / "ours")
    own(**SMALL).save_pretrained(tmp_path / "own")
    assert type(Model.from_pretrained(tmp_path / "ours")) is VFA
    assert type(Model.from_pretrained(tmp_path / "own")) is own
    del own
    gc.collect()  # as in a process that has not imported it
    with pytest.raises(ValueError, match="holds the model 'VFA' of the module my_code, which has to be imported first"):
        Model.from_pretrained(tmp_path / "own")


def test_samplers_are_fitted_to_a_label_an_image():
    model = VFA(**SMALL, classes=3)
    with pytest.raises(ValueError, match=r"labels: expected shape \(40,\), got \(20,\)"):
        model.fit_samplers(torch.rand(40, 1, 28, 28), torch.zeros(20, dtype=torch.long))


# --- priors of the classes --------------------------------------------------------------------------------

PRIORS = {**SMALL, "classes": 4, "class_prior": True, "learn_weights": True, "start_branch": "mean", "steps": 1,
          "class_branch": "probabilities", "cross_entropy_weight": 2.0, "beta": 0.7}  # fmt: skip


def with_class_priors(**options):
    """A model whose classes have priors of their own, and one without that is the same otherwise."""
    model, twin = VFA(**PRIORS | options).double(), VFA(**PRIORS | options | {"class_prior": False}).double()
    with torch.no_grad():
        model.class_means.normal_()
        model.class_log_deviations.normal_(std=0.5)
    twin.load_state_dict({name: each for name, each in model.state_dict().items() if "class_" not in name})
    return model.eval(), twin.eval()


def test_the_loss_with_class_priors_is_the_divergence_from_them(monkeypatch):
    model, twin = with_class_priors()
    images, labels = torch.rand(6, 1, 28, 28, dtype=torch.double), torch.tensor([3, 0, 1, 1, 2, 0])
    noise = torch.randn(6, model.latent, dtype=torch.double)
    monkeypatch.setattr(torch, "randn", lambda *size, **options: noise)
    at, mean, deviation = twin.posterior(images), model.class_means[labels], model.class_log_deviations[labels].exp()
    features = twin.feature(at.mean + noise * at.deviation, nn.functional.one_hot(labels, 4).double())
    error = (features - images).square().flatten(1).sum(1)
    prior = torch.distributions.Normal(mean, deviation)
    divergence = torch.distributions.kl_divergence(torch.distributions.Normal(at.mean, at.deviation), prior).sum(1)
    wanted = (error + 0.7 * divergence).mean() + 2.0 * nn.functional.cross_entropy(at.scores, labels)
    found = model.encoder_loss(images, labels)
    torch.testing.assert_close(found.total, wanted)
    torch.testing.assert_close(found.terms["kl"], divergence.mean().detach())
    for parameter in (model.class_means, model.class_log_deviations):
        (slope,) = torch.autograd.grad(found.total, parameter, retain_graph=True)
        (expected,) = torch.autograd.grad(wanted, parameter, retain_graph=True)
        torch.testing.assert_close(slope, expected)
        assert slope.abs().amin(1).min() > 0


def test_latents_of_a_model_with_class_priors_are_in_their_units():
    model, twin = with_class_priors()
    images, labels = torch.rand(6, 1, 28, 28, dtype=torch.double), torch.tensor([3, 0, 1, 1, 2, 0])
    mean, deviation = model.class_means[labels].detach(), model.class_log_deviations[labels].exp().detach()
    torch.testing.assert_close(model.encode(images, labels), (twin.encode(images) - mean) / deviation)
    latent = torch.randn(6, model.latent, dtype=torch.double)
    for stress in (0.5, 1.0, 2.0):
        stressed = twin.decode(mean + deviation * latent, labels, stress=stress)
        torch.testing.assert_close(model.decode(latent, labels, stress=stress), stressed)
    assert model.decode(latent, labels, stress=0.0).isfinite().all()
    torch.testing.assert_close(model.reconstruct(images, labels), twin.reconstruct(images, labels))
    inferred = twin.infer_labels(images)
    assert torch.equal(model.infer_labels(images), inferred)
    torch.testing.assert_close(model.reconstruct(images), twin.reconstruct(images, inferred))
    halves = torch.tensor([[0.5, 0.5, 0.0, 0.0]], dtype=torch.double)
    between = halves @ model.class_means + (halves @ model.class_log_deviations).exp() * latent[:1]
    torch.testing.assert_close(model.decode(latent[:1], halves), twin.decode(between.detach(), halves))


def test_class_priors_move_to_the_latents_of_their_classes_and_are_saved(tmp_path):
    labels = torch.arange(32) % 2
    images = (0.1 + 0.8 * labels.view(-1, 1, 1, 1) + torch.zeros(32, 1, 28, 28)).clamp(0, 1)
    model = VFA(**PRIORS | {"classes": 2, "learning_rate": 1e-2, "activation": "silu"})
    updates = Updates(model, total=60)
    for _ in range(60):
        updates.step((images + 0.05 * torch.rand_like(images)).clamp(0, 1), labels)
    found = model.eval().snapshot(32).posterior(images).mean
    for label in (0, 1):
        assert (model.class_means[label] - found[labels == label].mean(0)).norm() < (
            model.class_means[1 - label] - found[labels == label].mean(0)
        ).norm()
    model.save_pretrained(tmp_path)
    assert torch.equal(Model.from_pretrained(tmp_path).encode(images, labels), model.encode(images, labels))
    assert VFA(**SMALL, class_prior=True).class_means is None
