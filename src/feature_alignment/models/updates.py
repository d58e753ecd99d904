"""Updates: minimising a model's losses, one batch at a time, in any training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .model import Model
from .options import at_least

__all__ = ["Loss", "Updates"]

#: How far beyond [0, 1] a rounding may bring an image, in half precision too.
SLACK = 0.01


class Loss(NamedTuple):
    """The result of a loss function, for :meth:`Updates.take`.

    Attributes:
        total: the loss to minimise, shape ``()``.
        terms: detached scalars for the log, by name.
        kept: detached results that later losses of the same batch use.
    """

    total: Tensor
    terms: dict[str, Tensor]
    kept: Any = None


class Updates:
    """The optimisers and learning rate schedules of a model: all that a training loop needs.

    Args:
        model: already on its device; it is set to training mode.
        total: number of updates of the whole training, for the learning rate schedule.
        done: number of updates done already, in a training that is resumed.

    Example:
        >>> from feature_alignment.models import FA, Updates
        >>> model = FA((1, 8, 8), latent=4, channels=(4,), width=16)
        >>> updates = Updates(model, total=2)
        >>> for images in torch.rand(2, 16, 1, 8, 8):
        ...     losses = updates.step(images)
        >>> sorted(losses), updates.done
        (['reconstruction'], 2)
    """

    #: Number of processes that train on each batch together, see :func:`feature_alignment.core.draws.part_of_batch`.
    processes = 1

    def __init__(self, model: Model, total: int, done: int = 0) -> None:
        at_least(1, total=total)
        self.model, self.total, self.begun, self.done = model.train(), total, done, done
        self.optimizers: dict[str, Optimizer] = model.optimizers()
        self.parameters = {name: trained_by(optimizer) for name, optimizer in self.optimizers.items()}
        self.scheduled = list(self.optimizers.values())
        self.schedules: list[LambdaLR] = []
        self.terms: dict[str, Tensor] = {}

    def step(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Train on a batch: one update of all of the model's networks. Return the terms of the losses, by name.

        Args:
            images: floating point in [0, 1], or uint8 up to 255; shape ``(N, C, H, W)``.
            labels: their classes, int64 of shape ``(N,)``, or none.

        Raises:
            ValueError: no images; images of another shape or dtype than the model's, or, in the first update, outside
                of [0, 1]; labels that it cannot take, by their values if they are on the CPU.
        """
        if not self.model.training:  # which inference in between leaves alone, a call of eval() does not
            self.model.train()
        if not self.schedules:
            self.schedules = [LambdaLR(each, self._factor) for each in self.scheduled]
        self.terms = {}
        with self.arithmetic():
            images = self.model.as_floats(images)
            self.model.check_images(images)
            if not len(images):
                raise ValueError("images: expected at least one in a batch, got none")
            if self.done == self.begun:
                _check_range(images)
            if labels is not None and self.model.options.classes:
                self.model.check_labels(labels, len(images))
            self.model.training_step(images, labels, self)
        self.done += 1
        for schedule in self.schedules:
            schedule.step()
        return self.terms

    def take(self, name: str, loss: Callable[[], Loss], clip: float | None = None) -> Any:
        """Evaluate a loss and take a step of one optimiser; only its parameters receive gradients.

        Args:
            name: of the optimiser, in :meth:`Model.optimizers`.
            loss: evaluates the loss.
            clip: bound on the norm of the gradient; none for no bound.

        Returns:
            ``kept`` of the loss.
        """
        optimizer = self.optimizers[name]
        with self._only(name):
            found = self.evaluate(name, loss)
            optimizer.zero_grad()
            self.backward(found.total)
        if clip is not None:
            self.clip(name, clip)
        optimizer.step()
        torch.clear_autocast_cache()  # of weights as they were: later losses of this batch need the new ones
        self.terms |= found.terms
        return found.kept

    # --- overridden where a training library is used ------------------------------------------------------

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return the context of a training step, such as autocast."""
        return nullcontext()

    def evaluate(self, name: str, loss: Callable[[], Loss]) -> Loss:
        """Evaluate the loss that the optimiser ``name`` minimises."""
        return loss()

    def backward(self, total: Tensor) -> None:
        """Differentiate a loss."""
        total.backward()

    def clip(self, name: str, largest: float) -> None:
        """Clip the norm of the gradient of an optimiser's parameters to ``largest``."""
        nn.utils.clip_grad_norm_(self.parameters[name], largest)

    # ------------------------------------------------------------------------------------------------------

    def _factor(self, since: int) -> float:
        """Return the schedule's factor of the learning rates, ``since`` updates after construction."""
        if self.model.options.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (self.begun + since) / self.total)))

    @contextmanager
    def _only(self, name: str) -> Iterator[None]:
        """Treat the parameters of all other optimisers as constants, but those that are this one's too."""
        own = set(map(id, self.parameters[name]))
        others = [each for group in self.parameters.values() for each in group if id(each) not in own]
        others = [parameter for parameter in others if parameter.requires_grad]  # the user may have frozen some
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)


def _check_range(images: Tensor) -> None:
    """Raise a ValueError unless the values are those of images, in [0, 1] to rounding."""
    if images.numel():
        lowest, highest = (float(each) for each in images.detach().float().aminmax())
        if not -SLACK <= lowest <= highest <= 1 + SLACK:
            raise ValueError(
                f"images: expected values in [0, 1], got {lowest:.3g} to {highest:.3g}; give pixels of 0 to 255 as "
                "uint8, and normalise inside the network"
            )


def trained_by(optimizer: Optimizer) -> list[nn.Parameter]:
    """Return the parameters of an optimiser."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
