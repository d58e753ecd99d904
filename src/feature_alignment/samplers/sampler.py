"""The base class of the samplers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

__all__ = ["ConditionalSampler", "Sampler", "known_classes"]


class Sampler(nn.Module, ABC):
    """A distribution of latents.

    Whatever is fitted is a buffer, so it is saved with the model that owns the sampler, and no optimiser, clamp or
    count of a model's parameters ever includes it. Loading takes the buffers' shapes from the saved tensors.

    Args:
        latent: size of the latent vector.
        classes: number of classes of a conditional model, 0 for an unconditional one.
    """

    #: Whether :meth:`fit` has an effect.
    learns: ClassVar[bool] = True
    #: Fewest latents that :meth:`fit` accepts.
    fewest: ClassVar[int] = 2
    #: Optional module that fitting imports, of the extra ``samplers``; none for no more than PyTorch.
    needs: ClassVar[str | None] = None
    #: Mean log-density of latents held out from the fit, in nats, shape ``()``; minus infinity where it is not known.
    likelihood: Tensor

    def __init__(self, latent: int, classes: int = 0) -> None:
        super().__init__()
        self.latent, self.classes = latent, classes
        self.register_buffer("likelihood", torch.tensor(-math.inf))

    def _apply(self, function: Any, recurse: bool = True) -> Any:
        # A likelihood rounded to half precision would no longer tell near samplers apart.
        kept = self.likelihood
        super()._apply(function, recurse)  # type: ignore[no-untyped-call, unused-ignore]
        self.likelihood = kept.to(self.likelihood.device)
        return self

    @abstractmethod
    def fit(self, latents: Tensor, labels: Tensor | None = None) -> None:
        """Fit the distribution to latents of training images; deterministic.

        Args:
            latents: shape ``(N, latent)``, at least :attr:`fewest`.
            labels: the class of each, int64, shape ``(N,)``; required by a conditional sampler with classes.

        Raises:
            ValueError: too few latents, or some that are not finite; no labels where they are required.
            MissingExtra: :attr:`needs` is not installed.
        """

    @abstractmethod
    def draw(
        self,
        count: int,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw latents, shape ``(count, latent)``, on the device and in the dtype of the sampler's buffers.

        Args:
            count: number of latents.
            labels: the class of each, int64 of shape ``(count,)``; of mixtures of classes, floating point of shape
                ``(count, classes)``, the largest counts. Without them a conditional sampler draws the classes, each
                as often as it was in the latents that it was fitted to.
            generator: source of randomness, on the CPU; by default PyTorch's global one.
            temperature: factor on the normal noise that a latent is made of. Below 1 latents are nearer to the mean, of
                a mixture to that of their component: images are more typical and differ less.
        """

    @abstractmethod
    def log_prob(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the log-density of each latent in nats, float64, shape ``(N,)``.

        Args:
            latents: shape ``(N, latent)``.
            labels: the class of each, as for :meth:`draw`; the density is then that given the class.
        """

    def check(self, latents: Tensor) -> None:
        """Raise a ValueError unless there are latents enough, of the right size, that are finite numbers."""
        self.check_size(latents)
        if len(latents) < self.fewest:
            raise ValueError(f"latents: expected {self.fewest} or more to fit to, got {len(latents)}")
        if not bool(latents.isfinite().all()):
            raise ValueError("latents: expected finite numbers")

    def check_size(self, latents: Tensor) -> None:
        """Raise a ValueError unless the latents are of the right size."""
        if latents.dim() != 2 or latents.shape[1] != self.latent:
            raise ValueError(f"latents: expected shape (N, {self.latent}), got {tuple(latents.shape)}")

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        state_dict.setdefault(f"{prefix}likelihood", torch.tensor(-math.inf))  # which earlier versions do not have
        # The number of components, say, is known from the saved tensors alone.
        for key, value in state_dict.items():
            name = key.removeprefix(prefix)
            if key.startswith(prefix) and name in self._buffers:
                at = self._buffers[name]
                self._buffers[name] = torch.empty_like(value, dtype=at.dtype, device=at.device)  # type: ignore[union-attr]
        super()._load_from_state_dict(state_dict, prefix, *rest)


class ConditionalSampler(Sampler):
    r"""A distribution of latents :math:`p(z|c)` for each class c, or a single one if ``classes`` is 0.

    Without a label it is :math:`p(z) = \sum_c p(c) \, p(z|c)`, with the classes' shares of the latents as p(c).
    """

    shares: Tensor

    def __init__(self, latent: int, classes: int = 0) -> None:
        super().__init__(latent, classes)
        self.groups = max(1, classes)
        self.register_buffer("shares", torch.full((self.groups,), 1 / self.groups))

    @abstractmethod
    def log_density(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Return the log-density of each latent given its class, float64, shape ``(N,)``; labels int64."""

    def log_prob(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: D102
        self.check_size(latents)
        if not len(latents):
            return latents.new_zeros(0, dtype=torch.double)
        if labels is not None or not self.classes:
            return self.log_density(latents, self.known(len(latents), labels))
        return self.joint(latents).logsumexp(1)

    def joint(self, latents: Tensor) -> Tensor:
        r"""Return :math:`\log p(c) \, p(z|c)` of each latent and class, float64, shape ``(N, classes)``."""
        each = [self.log_density(latents, torch.full((len(latents),), label)) for label in range(self.classes)]
        return torch.stack(each, 1) + self.shares.double().log()

    def known(self, count: int, labels: Tensor | None, generator: torch.Generator | None = None) -> Tensor:
        """Return labels on the CPU, int64, shape ``(count,)``: all 0 if there are no classes; drawn if missing.

        Raises:
            ValueError: labels of another shape, or of a class that there is not.
        """
        if not self.classes:
            return torch.zeros(count, dtype=torch.long)
        if labels is None and not count:
            return torch.zeros(0, dtype=torch.long)
        if labels is None:
            return torch.multinomial(self.shares.cpu(), count, replacement=True, generator=generator)
        return known_classes(labels, count, self.classes)

    def count_classes(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Check what :meth:`fit` is given, set :attr:`shares`, and return the labels on the CPU."""
        self.check(latents)
        if self.classes and labels is None:
            raise ValueError(f"labels: expected the class of each latent, 0 to {self.classes - 1}, got none")
        known = self.known(len(latents), labels)
        self.shares.copy_(known.bincount(minlength=self.groups) / len(known))
        return known


def known_classes(labels: Tensor, count: int, classes: int) -> Tensor:
    """Return labels on the CPU, int64, shape ``(count,)``; of mixtures ``(count, classes)`` the largest class.

    Raises:
        ValueError: labels of another shape, or of a class that there is not.
    """
    shape = (count, classes) if labels.is_floating_point() else (count,)
    if labels.shape != shape:
        raise ValueError(f"labels: expected shape {shape}, got {tuple(labels.shape)}")
    found = (labels.argmax(1) if labels.is_floating_point() else labels).cpu().long()
    if count and not 0 <= int(found.min()) <= int(found.max()) < classes:
        raise ValueError(f"labels: expected 0 to {classes - 1}, got {int(found.min())} to {int(found.max())}")
    return found
