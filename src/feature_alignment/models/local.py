"""Local feature alignment (§3.4): every layer has its own loss, and reconstruction proceeds layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.local import Learning, LocalNetwork
from .inference import inference
from .model import Model
from .networks import Encoder, orthogonal_
from .options import ModelOptions, above_zero, at_least, one_of, sizes
from .updates import Loss, Updates

__all__ = ["Local", "LocalOptions"]


@dataclass(frozen=True)
class LocalOptions(ModelOptions):
    r"""Options of :class:`Local`.

    Args:
        channels, width: of the encoder, see :class:`feature_alignment.models.networks.Encoder`.
        steps: :math:`T`, gradient steps of each layer's feature.
        step_size: :math:`\tau`, of every layer.
        loss: what a layer learns to predict from its output: ``layer``, its own input (Algorithm 2); or ``image``, the
            image, by running the layers before it backwards as they are. Then a gradient passes through these, and
            memory grows with depth, as in end-to-end training, of which it goes part of the way. The inverse of the
            activation grows exponentially: without a small ``clip_gradient`` a long training may diverge.
    """

    channels: Sequence[int] = (32, 64)
    width: int = 4096
    steps: int = 1
    step_size: float = 1.0
    loss: Literal["layer", "image"] = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(channels=self.channels, width=self.width)
        at_least(1, steps=self.steps)
        above_zero(step_size=self.step_size)
        one_of("loss", self.loss, Literal["layer", "image"])


class Local(Model):
    r"""Encoder trained by Algorithm 2 or by the error in the image (``loss``), decoded by Algorithm 3.

    The activation is :math:`\operatorname{arcsinh}`, which is inverted exactly. Samples are decoded from a normal
    distribution with the mean and covariance of the training images' latents.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        layers: layers of your own from ``(N, C, H, W)`` to ``(N, latent)``, instead of those described by
            ``channels`` and ``width``, see :class:`feature_alignment.core.local.LocalNetwork`.
        options: see :class:`LocalOptions`.

    Raises:
        ValueError: an option out of range, named, or layers whose output is not a latent.
        TypeError: a layer that can be neither aligned nor inverted, by position and type.
    """

    Options: ClassVar[type[Any]] = LocalOptions
    options: LocalOptions
    has_prior = False
    decodes_class = False

    def __init__(
        self, image_shape: Sequence[int], latent: int = 32, *, layers: nn.Sequential | None = None, **options: Any
    ) -> None:
        super().__init__(image_shape, latent=latent, **options)
        if layers is None:
            encoder = Encoder(image_shape, self.options.channels, self.options.width, "arcsinh")
            layers = nn.Sequential(*encoder, nn.Linear(self.options.width, latent)).apply(orthogonal_)
        steps, step_size = self.options.steps, self.options.step_size
        self.network = LocalNetwork([*layers], image_shape, steps=steps, step_size=step_size)
        if self.network.shapes[-1] != (latent,):
            raise ValueError(f"layers: expected an output of shape ({latent},), got {self.network.shapes[-1]}")

    @inference
    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: D102
        self.check_images(images)
        latent: Tensor = self.network(images)
        return latent

    @inference
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:
        """Return the image of each latent by Algorithm 3, with pixels clamped to [0, 1]."""
        self.check_latent(latent)
        self.one_hot(labels, latent.shape[0])
        return self.network.run_backwards(latent).clamp(0, 1)

    def optimizers(self) -> dict[str, Optimizer]:  # noqa: D102
        layers = self.network.learning_layers()
        return {f"layer_{number}": self.adam(layer.parameters()) for number, layer in enumerate(layers)}

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """Take one update of Algorithm 2: every layer on its own loss."""
        options = self.options
        alone = updates.processes == 1 and not torch.is_autocast_enabled(self.device.type)
        if alone and options.loss == "layer" and options.clip_gradient is None:
            _, losses = self.network.local_step(images, list(updates.optimizers.values()))
        else:  # gradients are bounded, scaled, or exchanged between processes, which automatic differentiation allows
            losses = self._layer_updates(images, updates)
        updates.terms |= {f"layer_{number}": loss for number, loss in enumerate(losses)}
        updates.terms["layers"] = torch.stack(losses).sum()

    def _layer_updates(self, images: Tensor, updates: Updates) -> list[Tensor]:
        """Take the updates by :meth:`Updates.take`; return the loss of each learning layer."""
        names: list[str] = []
        x = images.clone() if self.network.writes_to_its_input() else images
        for place, layer in enumerate(self.network):
            if isinstance(layer, Learning):
                names.append(f"layer_{len(names)}")
                loss = partial(self._layer_loss, names[-1], place, layer, x, images)
                if layer.weight.requires_grad:
                    x = updates.take(names[-1], loss, self.options.clip_gradient)
                else:  # a loss of nothing that is trained: the bias cancels
                    found = loss()
                    updates.terms |= found.terms
                    x = found.kept
            else:
                with torch.no_grad():
                    x = layer(x)
        return [updates.terms[name] for name in names]

    def _layer_loss(self, name: str, place: int, layer: Learning, x: Tensor, images: Tensor) -> Loss:
        if self.options.loss == "layer":
            output, distance = self.network.layer_distance(layer, x)
        else:
            output, feature = self.network.there_and_back(layer, x)
            distance = (images - self.network.backwards(feature, place)).square().sum()
        loss = distance / len(x)
        return Loss(loss, {name: loss.detach()}, output.detach())
