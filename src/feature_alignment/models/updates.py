"""Updates: what training does with a model's losses, whatever loop it runs in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from .model import Model

__all__ = ["Loss", "Updates"]


class Loss(NamedTuple):
    """What a loss function returns to :meth:`Updates.take`.

    Attributes:
        total: what is minimised, shape ``()``.
        terms: what the log shows, scalars by name.
        kept: what later losses of the same batch need, detached.
    """

    total: Tensor
    terms: dict[str, Tensor]
    kept: Any = None


class Updates:
    """The optimisers of a model at work, one batch after the other: all that a training loop needs.

    Args:
        model: on its device; set to training mode.
        total: updates that the training will have, for the learning rate's schedule.
        done: updates that earlier parts of it had.

    Example:
        >>> from feature_alignment.models import FA, Updates
        >>> model = FA((1, 8, 8), latent=4, channels=(4,), width=16)
        >>> updates = Updates(model, total=2)
        >>> for images in torch.rand(2, 16, 1, 8, 8):
        ...     losses = updates.step(images)
        >>> sorted(losses), updates.done
        (['reconstruction'], 2)
    """

    def __init__(self, model: Model, total: int, done: int = 0) -> None:
        self.model, self.total, self.begun, self.done = model.train(), total, done, done
        self.optimizers: dict[str, Optimizer] = model.optimizers()
        self.parameters = {name: trained_by(optimizer) for name, optimizer in self.optimizers.items()}
        self.scheduled = list(self.optimizers.values())
        self.schedules: list[LambdaLR] = []
        self.terms: dict[str, Tensor] = {}

    def step(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Train on a batch: one update of everything the model trains. Return the terms of its losses, by name.

        Args:
            images: floating point in [0, 1], or uint8 up to 255; shape ``(N, C, H, W)``.
            labels: their classes, int64 of shape ``(N,)``, or none.
        """
        if not self.schedules:
            self.schedules = [LambdaLR(each, self._factor) for each in self.scheduled]
        self.terms = {}
        with self.arithmetic():
            self.model.training_step(self.model.as_floats(images), labels, self)
        self.done += 1
        for schedule in self.schedules:
            schedule.step()
        return self.terms

    def take(self, name: str, loss: Callable[[], Loss], clip: float | None = None) -> Any:
        """Take a step of one optimiser down a loss; gradients reach nothing but what this optimiser trains.

        Args:
            name: of the optimiser, in :meth:`Model.optimizers`.
            loss: computes it.
            clip: largest norm of the gradient; none for no bound.

        Returns:
            What the loss ``kept``.
        """
        optimizer = self.optimizers[name]
        with self._only(name):
            found = self.evaluate(name, loss)
            optimizer.zero_grad()
            self.backward(found.total)
        if clip is not None:
            self.clip(name, clip)
        optimizer.step()
        self.terms |= found.terms
        return found.kept

    # --- what a training library does in its own way ------------------------------------------------------

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return the context that a training step runs in."""
        return nullcontext()

    def evaluate(self, name: str, loss: Callable[[], Loss]) -> Loss:
        """Compute the loss of an optimiser."""
        return loss()

    def backward(self, total: Tensor) -> None:
        """Differentiate a loss."""
        total.backward()

    def clip(self, name: str, largest: float) -> None:
        """Bound the norm of the gradient of what an optimiser trains."""
        nn.utils.clip_grad_norm_(self.parameters[name], largest)

    # ------------------------------------------------------------------------------------------------------

    def _factor(self, since: int) -> float:
        """Return what the schedule multiplies the learning rates by, ``since`` updates after the first one here."""
        if self.model.options.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (self.begun + since) / self.total)))

    @contextmanager
    def _only(self, name: str) -> Iterator[None]:
        """Let what the other optimisers train be constants."""
        others = [each for other, group in self.parameters.items() if other != name for each in group]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)


def trained_by(optimizer: Optimizer) -> list[nn.Parameter]:
    """Return the parameters of an optimiser."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
