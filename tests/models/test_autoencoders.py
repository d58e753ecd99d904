"""The autoencoders: given the class, mirrored, and with tied weights."""

from __future__ import annotations

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from feature_alignment.cli.configuration import CONFIGS
from feature_alignment.models import AE, FA, VAE, Model, Updates
from feature_alignment.models.networks import Decoder

SMALL = {"image_shape": (1, 8, 8), "latent": 3, "channels": (4, 6), "width": 10}
LABELS = torch.tensor([0, 3, 1, 2, 0])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# --- given the class ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AE, VAE])
def test_the_decoder_is_given_the_label_beside_the_latent(kind):
    model = kind(**SMALL, classes=4)
    latent = torch.randn(5, 3)
    images = model.decode(latent, LABELS)
    beside = torch.zeros(5, 4)
    beside[range(5), LABELS] = 1
    torch.testing.assert_close(images, model.decoder(torch.cat([latent, beside], 1)).detach())
    assert (images - model.decode(latent, (LABELS + 1) % 4)).flatten(1).norm(dim=1).min() > 1e-4
    stressed = model.decoder(torch.cat([latent, 2.5 * beside], 1)).detach()
    torch.testing.assert_close(model.decode(latent, LABELS, stress=2.5), stressed)
    halves = model.decoder(torch.cat([latent, torch.full((5, 4), 0.25)], 1)).detach()
    torch.testing.assert_close(model.decode(latent, torch.full((5, 4), 0.25)), halves)


@pytest.mark.parametrize("kind", [AE, VAE])
def test_an_update_of_a_conditional_autoencoder_is_that_of_its_loss(kind, monkeypatch):
    model = kind(**SMALL, classes=4).double()
    images, noise = torch.rand(5, 1, 8, 8, dtype=torch.double), torch.randn(5, 3, dtype=torch.double)
    hidden, beside = model.encoder(images), nn.functional.one_hot(LABELS, 4).double()
    if kind is VAE:
        hidden = model.given_class(torch.cat([hidden, beside], 1))
    mean, divergence = model.mean(hidden), torch.zeros(5)
    if kind is VAE:
        log_variance = model.log_variance(hidden)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        mean = mean + noise * (log_variance / 2).exp()
    error = (model.decoder(torch.cat([mean, beside], 1)) - images).square().flatten(1).sum(1)
    wanted = torch.autograd.grad((error + divergence).mean(), list(model.parameters()))
    monkeypatch.setattr(torch, "randn", lambda *size, **options: noise)
    Updates(model, total=1).step(images, LABELS)
    for parameter, expected in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, expected)
    seen = model.decoder[0].weight.grad[:, 3:].abs().amin(0)
    assert seen.min() > 0  # every class is in the batch


def test_the_posterior_of_a_conditional_vae_is_given_the_label_or_that_which_reconstructs_best():
    model, images = VAE(**SMALL, classes=4).eval(), torch.rand(5, 1, 8, 8)
    beside = nn.functional.one_hot(LABELS, 4).float()
    mean = model.mean(model.given_class(torch.cat([model.encoder(images), beside], 1)))
    torch.testing.assert_close(model.encode(images, LABELS), mean.detach())
    assert (model.encode(images, LABELS) - model.encode(images, (LABELS + 1) % 4)).norm(dim=1).min() > 1e-3
    under = torch.stack([model.reconstruct(images, torch.full((5,), label)) for label in range(4)])
    best = (under - images).square().flatten(2).sum(2).argmin(0)
    assert torch.equal(model.infer_labels(images), best)
    torch.testing.assert_close(model.encode(images), model.encode(images, best))
    torch.testing.assert_close(model.reconstruct(images), model.reconstruct(images, best))
    model.fit_samplers(images.repeat(8, 1, 1, 1), LABELS.repeat(8), chunk=7)
    assert VAE(**SMALL).given_class is None


def test_a_conditional_vae_of_before_whose_encoder_was_not_given_the_class_is_one_line(tmp_path):
    VAE(**SMALL, classes=4).eval().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    save_file({name: each for name, each in load_file(path).items() if "given_class" not in name}, path)
    with pytest.raises(ValueError, match=r"its encoder was not given the class, as in conditional VAEs until 0\.2\.0"):
        Model.from_pretrained(tmp_path)


def test_a_conditional_vae_learns_to_draw_the_class_asked_for():
    """Classes that differ in brightness, and latents that are of no use: the label is the only way to tell."""
    model = VAE(**SMALL, classes=2, learning_rate=1e-2, activation="silu")
    updates, labels = Updates(model, total=150), torch.arange(32) % 2
    for _ in range(150):
        updates.step(0.2 + 0.6 * labels.view(-1, 1, 1, 1) + 0.05 * torch.randn(32, 1, 8, 8), labels)
    drawn = model.sample(8, torch.tensor([0, 1] * 4), generator=torch.Generator().manual_seed(0)).mean((1, 2, 3))
    assert drawn[::2].max() < 0.35
    assert drawn[1::2].min() > 0.65
    images = 0.2 + 0.6 * labels.view(-1, 1, 1, 1) + torch.zeros(32, 1, 8, 8)
    assert torch.equal(model.infer_labels(images), labels)


@pytest.mark.parametrize("kind", [AE, VAE])
def test_labels_are_needed_with_classes_and_refused_by_decode_without(kind):
    images, latent = torch.rand(5, 1, 8, 8), torch.randn(5, 3)
    for call in (lambda m: m.decode(latent), lambda m: Updates(m, total=1).step(images)):
        with pytest.raises(ValueError, match="was built for 4 classes and needs them"):
            call(kind(**SMALL, classes=4))
    with pytest.raises(ValueError, match="was built without classes and takes none"):
        kind(**SMALL).decode(latent, LABELS)


# --- the mirror ---------------------------------------------------------------------------------------


def test_with_the_width_activated_the_decoder_has_the_encoders_layers_last_to_first():
    model = AE(**SMALL, activation="silu", activate_width=True)
    names = {nn.Flatten: nn.Unflatten, nn.Unflatten: nn.Flatten}

    def kinds(layers):
        plain = [nn.Conv2d if isinstance(each, nn.Conv2d | nn.ConvTranspose2d) else type(each) for each in layers]
        return [names.get(kind, kind) for kind in plain]

    forth, back = [*model.encoder, model.mean], [*model.decoder][:-1]  # without the sigmoid
    assert [type(each) for each in forth if not isinstance(each, nn.Flatten)] == [
        kind for kind in reversed(kinds(back)) if kind is not nn.Flatten
    ]


def test_the_decoder_refuses_by_name():
    with pytest.raises(ValueError, match=r"divisible by 8 for 3 entries.*got 28 x 28"):
        Decoder((1, 28, 28), 4, (8, 8, 8))
    with pytest.raises(ValueError, match=r"activation: expected one of leaky_relu.*'swish'"):
        Decoder((1, 28, 28), 4, activation="swish")


# --- tied weights -------------------------------------------------------------------------------------


def tied(**options):
    """The bundled configuration, of a smaller size."""
    bundled = yaml.safe_load((CONFIGS / "tied-ae.yaml").read_text())["model"]
    assert bundled["class_path"] == "feature_alignment.models.FA"
    return FA(**(bundled["init_args"] | SMALL | options))


def through_transposed(hidden, layer, point, inside, outside):
    r"""One stage backwards: :math:`W^\top \phi'(a) (h - \phi(a))`, with :math:`a` the layer's output at ``point``."""
    at = layer(inside(point)).detach().requires_grad_()
    output = outside(at)
    (slope,) = torch.autograd.grad(output.sum(), at)
    error = slope * (hidden - output.detach())
    if isinstance(layer, nn.Linear):
        return error @ layer.weight
    return nn.functional.conv_transpose2d(error, layer.weight, None, layer.stride, 1, layer.stride[0] - 1)


def test_the_tied_decoder_is_the_encoders_transposed_layers_last_to_first():
    """The initial step sizes, 2 and 4, cancel the slopes of SiLU and sigmoid at the starts, which are 0."""
    model, silu = tied(activation="silu").double(), nn.functional.silu
    first, second, third, fourth, wide = (x for x in model.encoder if isinstance(x, nn.Conv2d | nn.Linear))
    latent = torch.randn(5, 3, dtype=torch.double)

    def zeros(*shape):
        return torch.zeros(1, *shape, dtype=torch.double)

    hidden = silu(through_transposed(latent, model.mean, zeros(10), silu, lambda a: a))
    hidden = silu(through_transposed(hidden, wide, zeros(24), silu, silu).view(-1, 6, 2, 2))
    hidden = silu(through_transposed(hidden, fourth, zeros(6, 4, 4), silu, silu))
    hidden = silu(through_transposed(hidden, third, zeros(4, 4, 4), silu, silu))
    hidden = silu(through_transposed(hidden, second, zeros(4, 8, 8), silu, silu))
    images = torch.sigmoid(through_transposed(hidden, first, zeros(1, 8, 8), torch.sigmoid, silu))
    torch.testing.assert_close(model.decode(latent), images.detach())


def test_the_tied_autoencoder_trains_and_is_the_same_after_saving_and_loading(tmp_path):
    model, images = tied(learning_rate=1e-2), torch.rand(16, 1, 8, 8).round()
    updates = Updates(model, total=40)
    errors = [float(updates.step(images)["reconstruction"]) for _ in range(40)]
    assert errors[-1] < 0.9 * errors[0]
    model.eval().save_pretrained(tmp_path)
    latent = model.encode(images)
    torch.testing.assert_close(Model.from_pretrained(tmp_path).decode(latent), model.decode(latent), rtol=0, atol=0)


def test_tied_weights_are_half_of_the_autoencoders():
    sizes = {"image_shape": (1, 28, 28), "latent": 16, "channels": (16, 32), "width": 512, "activation": "silu"}
    autoencoder = sum(p.numel() for p in AE(**sizes, activate_width=True).parameters())
    assert autoencoder == pytest.approx(1.66e6, rel=0.01)
    assert sum(p.numel() for p in tied(**sizes).parameters()) / autoencoder == pytest.approx(0.5, abs=0.01)
