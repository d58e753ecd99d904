"""Context managers that enable ``torch.compile`` and TensorFloat-32 during a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..models import Model
from .options import TrainingError

__all__ = ["compiled", "matrix_products"]


@contextmanager
def compiled(model: Model, mode: str | None) -> Iterator[None]:
    """Compile the model's parts that a training step evaluates; on exit they are uncompiled again.

    Args:
        model: its class lists the parts in ``compiled``.
        mode: of ``torch.compile``; none leaves the model as it is.

    Raises:
        TrainingError: the model has no part to compile, or compilation fails.
    """
    # A gradient penalty differentiates the discriminator twice, which compiled code does not support.
    penalised = getattr(model.options, "adversarial", "") in ("wasserstein-gp", "relativistic")
    twice = {"discriminator"} if penalised else set()
    names = [name for name in model.compiled if name not in twice] if mode else []
    if mode and not names:
        raise TrainingError(f"compile: {type(model).__name__} has no part that torch.compile could take over")
    for name in names:
        part = getattr(model, name)
        if isinstance(part, nn.Module):
            part.compile(mode=mode)
        else:
            setattr(model, name, torch.compile(part, mode=mode))
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(f"compile: torch.compile does not manage this model here: {reason}") from None
    finally:
        for name in names:
            part = getattr(model, name)
            if isinstance(part, nn.Module):
                part._compiled_call_impl = None
            else:
                delattr(model, name)


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Compute float32 matrix products in TensorFloat-32 if ``precision`` is ``tf32``; restore the setting on exit."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
