"""Every work-around for PyTorch, each with the version in which it was seen to be needed."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
import torch.utils.checkpoint as checkpointing
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

__all__ = [
    "let_checkpoints_repeat_it",
    "outside_inference_mode",
    "twice_differentiable",
    "uncompiled",
    "without_fast_path",
]

_inside = threading.local()


class _Shared:
    """Settings of the whole process: the first thread to enter sets them, the last to leave restores them.

    Restored by each thread for itself, they would stay as another one had set them.
    """

    def __init__(self, settings: Callable[[], Iterator[AbstractContextManager[Any]]]) -> None:
        self.settings, self.lock, self.users, self.stack = settings, threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self.lock:
            if not self.users:
                for each in self.settings():
                    self.stack.enter_context(each)
            self.users += 1

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                self.stack.close()


def _without_fusion() -> Iterator[AbstractContextManager[Any]]:
    yield sdpa_kernel(SDPBackend.MATH)


def _without_compilation() -> Iterator[AbstractContextManager[Any]]:
    if "torch._dynamo" in sys.modules:  # nothing is compiled otherwise
        yield torch.compiler.set_stance("force_eager")


@contextmanager
def _slowly() -> Iterator[None]:
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _without_fast_path() -> Iterator[AbstractContextManager[Any]]:
    yield _slowly()


_unfused, _uncompiled = _Shared(_without_fusion), _Shared(_without_compilation)
_slow = _Shared(_without_fast_path)


@contextmanager
def without_fast_path() -> Iterator[None]:
    """Evaluate ``nn.TransformerEncoder`` as with gradients: its fast path makes a mask's places zeros. Seen in 2.14."""
    if torch.compiler.is_compiling():
        yield
        return
    with _slow:
        yield


@contextmanager
def uncompiled() -> Iterator[None]:
    """Evaluate compiled functions as they were written: what was compiled calls no hook added since. Seen in 2.14."""
    if torch.compiler.is_compiling():
        yield
        return
    with _uncompiled:
        yield


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Evaluate networks such that their derivatives can be differentiated again, where PyTorch has a way to.

    - Attention runs on the math backend: the fused ones have no second derivative. Seen in 2.14.
    - Transformers are evaluated :func:`without_fast_path`.
    - Compiled functions run as they were written: AOTAutograd has no double backward. Seen in 2.14.
    - TorchScript runs without its optimiser, which loses the parameters' derivatives under :mod:`torch.func` after an
      evaluation under ``no_grad``. Seen in 2.14.
    - Operations in :data:`REPLACEMENTS` are replaced.
    """
    if getattr(_inside, "depth", 0) or torch.compiler.is_compiling():
        yield
        return
    _inside.depth = 1
    try:
        with ExitStack() as stack:
            stack.enter_context(_unfused)
            stack.enter_context(_uncompiled)
            stack.enter_context(_slow)
            stack.enter_context(torch.jit.optimized_execution(False))  # type: ignore[attr-defined]
            stack.enter_context(_Replacing())
            yield
    finally:
        _inside.depth = 0


class _Replacing(TorchFunctionMode):
    """Call the replacement of a function instead, wherever it is called from."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return REPLACEMENTS.get(function, function)(*args, **(kwargs or {}))


def _hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
    """``aten::hardsigmoid_backward`` has no derivative. Seen in 2.14."""
    slopes = ((x > -3) & (x < 3)).to(x.dtype) / 6
    inside = slopes * x + 0.5  # where the slope is 0 and x infinite, not a number, and not taken
    result = torch.where(x >= 3, torch.ones_like(x), torch.where(x <= -3, torch.zeros_like(x), inside))
    return x.copy_(result) if inplace else result


def _hardsigmoid_(x: Tensor) -> Tensor:
    return x.copy_(_hardsigmoid(x))


def _recurrent(function: Callable[..., Any]) -> Callable[..., Any]:
    """Use neither oneDNN, whose LSTM torch.func refuses (seen in 2.14), nor cuDNN, which has no second derivative."""

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        with _native:
            return function(*args, **kwargs)

    return plain


def _without_libraries() -> Iterator[AbstractContextManager[Any]]:
    yield _without_onednn()
    yield torch.backends.cudnn.flags(enabled=False)


@contextmanager
def _without_onednn() -> Iterator[None]:
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)  # what backends.mkldnn.flags() does, but for a warning about TF32
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)


_native = _Shared(_without_libraries)


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """Normalise by running statistics as the affine map that it is.

    For a batch of one on a CPU, ``aten::native_batch_norm_backward`` misreads the strides of a gradient that comes from
    ``flatten(2).transpose(1, 2)``, and returns wrong numbers without an error. Seen in 2.14.
    """
    if training or mean is None or variance is None:
        return torch.batch_norm(x, weight, bias, mean, variance, training, momentum, eps, cudnn_enabled)
    shape = (1, -1, *[1] * (x.ndim - 2))
    scale = (variance + eps).rsqrt() if weight is None else weight * (variance + eps).rsqrt()
    shift = -mean * scale if bias is None else bias - mean * scale
    return (x * scale.view(shape) + shift.view(shape)).to(x.dtype)


def _functional_batch_norm(
    x: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training or mean is None or variance is None:
        return functional.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
    return _batch_norm(x, weight, bias, mean, variance, training, momentum, eps, False)


def _cdist(x: Tensor, y: Tensor, p: float = 2.0, *args: Any, **kwargs: Any) -> Tensor:
    """The second derivative of ``torch.cdist`` fails under :mod:`torch.func`'s vmap. Seen in 2.14.

    That of a norm is not a number at 0, where all derivatives of a distance are taken for 0.
    """
    if p != 2.0:
        return torch.cdist(x, y, p, *args, **kwargs)
    difference = x.unsqueeze(-2) - y.unsqueeze(-3)
    apart = (difference != 0).any(-1)
    distances = torch.linalg.vector_norm(torch.where(apart.unsqueeze(-1), difference, 1), dim=-1)
    return torch.where(apart, distances, 0)


#: What computes the same and can be differentiated twice, by the function that cannot.
REPLACEMENTS: dict[Any, Callable[..., Any]] = {
    functional.batch_norm: _functional_batch_norm,
    torch.batch_norm: _batch_norm,
    functional.hardsigmoid: _hardsigmoid,
    torch.cdist: _cdist,
    torch._C._nn.hardsigmoid: _hardsigmoid,
    torch._C._nn.hardsigmoid_: _hardsigmoid_,
    torch.ops.aten.hardsigmoid: _hardsigmoid,
    torch.ops.aten.hardsigmoid.default: _hardsigmoid,
    torch.ops.aten.hardsigmoid_.default: _hardsigmoid_,
}
for _name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
    _function = getattr(torch._VF, _name)
    REPLACEMENTS[_function] = _recurrent(_function)


def outside_inference_mode(function: Callable[[], Any]) -> Any:
    """Call ``function`` under ``no_grad`` instead of inference mode, where PyTorch 2.11 pulls back zeros silently."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        return function()
    with torch.inference_mode(False), torch.no_grad():
        return function()


@functools.cache
def let_checkpoints_repeat_it() -> None:
    """Have ``torch.utils.checkpoint`` repeat an evaluation under :func:`twice_differentiable` under it again.

    It does so in the backward pass, when that context is left. The reentrant kind cannot be used with
    ``torch.autograd.grad`` and is evaluated without checkpoints. Both only change what happens inside the context.
    For 2.9 to 2.14, whose names they patch; where a later version has others, PyTorch's own error answers
    networks with attention inside a checkpoint.
    """
    for name in ("_checkpoint_without_reentrant_generator_impl", "_checkpoint_without_reentrant_generator"):
        if hasattr(checkpointing, name):
            setattr(checkpointing, name, _repeating(getattr(checkpointing, name)))
            break
    checkpointing.CheckpointFunction = _Reentrant  # type: ignore[misc]


def _repeating(generator: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(generator)
    def wrapped(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not getattr(_inside, "depth", 0):
            return generator(function, *args, **kwargs)

        def again(*inputs: Any, **options: Any) -> Any:
            with twice_differentiable():
                return function(*inputs, **options)

        return generator(again, *args, **kwargs)

    return wrapped


class _Reentrant(checkpointing.CheckpointFunction):  # type: ignore[no-untyped-call, unused-ignore]
    @classmethod
    def apply(cls, function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        if getattr(_inside, "depth", 0):
            return function(*args)
        return super().apply(function, preserve, *args)
