"""The latents of a generative model as variables: the pre-image is sought among what it decodes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .base import Variables

__all__ = ["Generative"]


class Generative(Variables):
    r"""Inputs that a trained model decodes: :math:`r = D(u)`, :math:`u` its latent.

    Args:
        decode: :math:`D`, from latents, shape ``(N, ...)``, to inputs of the network; differentiable, such as
            ``feature`` of an ``FA`` or ``VFA``, ``decoder`` of an ``AE`` or ``VAE``, ``generate`` of a ``GAN``; the
            ``decode`` of a model is not.
        start: the latent where the search begins, shape ``(1, ...)``: the mean of the prior, or what an encoder says.

    Raises:
        TypeError, ValueError: ``decode`` cannot be called; ``start`` is not one floating-point latent.

    Example:
        >>> import torch
        >>> variables = Generative(torch.nn.Linear(2, 12), torch.zeros(1, 2))
        >>> variables.forward(variables.start).shape
        torch.Size([1, 12])
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], start: Tensor) -> None:
        if not callable(decode):
            raise TypeError(f"decode: expected a function from latents to inputs, got {type(decode).__name__}")
        if not isinstance(start, Tensor) or not start.is_floating_point():
            raise TypeError(
                f"start: expected a floating-point latent, got {getattr(start, 'dtype', type(start).__name__)}"
            )
        if start.ndim < 2 or len(start) != 1:
            raise ValueError(f"start: expected one latent of shape (1, ...), got {tuple(start.shape)}")
        self.decode, self.start = decode, start

    def forward(self, u: Tensor) -> Tensor:
        """Return what the model decodes."""
        return self.decode(u.clone())  # it may work in place

    def inverse(self, r: Tensor) -> Tensor:
        """Raise a ValueError: the latent of an input is not known, and the search begins at ``start``."""
        raise ValueError(
            "start: leave it out, a generative model's search begins at the latent its variables were given"
        )
