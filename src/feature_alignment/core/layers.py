"""The arcsinh activation, and the conversion of dtypes as a layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Arcsinh", "Cast"]


class Arcsinh(nn.Module):
    r"""Inverse hyperbolic sine, :math:`\ln(x + \sqrt{1 + x^2})`: invertible, unbounded, smooth (§3.4)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the inverse hyperbolic sine of each element."""
        return torch.asinh(x)


@dataclass(frozen=True, eq=False)
class Cast:
    """Conversion to a dtype."""

    dtype: torch.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``x`` converted to the dtype."""
        return x.to(self.dtype)
