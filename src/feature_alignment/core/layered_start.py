r"""A start computed from the target: an approximate inverse of the network, stage by stage as in Algorithm 3.

With :math:`E = E_L \circ \dots \circ E_1`, stage :math:`E_l` maps :math:`H_{l-1}` to :math:`H_l`. Let
:math:`\phi_l` be the elementwise activation that :math:`E_l` ends in, the identity if it ends in none, and
:math:`\phi_0` the squashing of the input; :math:`F_l = E_l \circ \phi_{l-1}`. From :math:`h_L = z`, for
:math:`l = L, \dots, 1`:

.. math::
    a_l = s_l - \tau_l J_l^\top \bigl(F_l(s_l) - h_l\bigr), \qquad h_{l-1} = \phi_{l-1}(a_l)

with :math:`J_l` the Jacobian of :math:`F_l` at :math:`s_l`, a learned start shared by the batch, so that every
:math:`a_l` is affine in :math:`h_l`. The start of the flow is :math:`a_1`. A single step from a shared start is a
decoder without hidden layers; this one has as many hidden layers as the encoder.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from .bounds import bounded
from .checks import refuse_batch_statistics
from .layers import Arcsinh
from .pullback import PullBack, vjp
from .speed.elementwise import scaled
from .structures import Network, Structure
from .trials import check_independence

__all__ = ["ELEMENTWISE", "LayeredStart", "cut"]

Elementwise: TypeAlias = Callable[[Tensor], Tensor]

#: Elementwise activations that a stage may end in.
ELEMENTWISE: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Tanh, nn.Sigmoid,
    nn.Hardtanh, nn.Hardswish, nn.ReLU6, Arcsinh,
)  # fmt: skip
#: Slope at 0 below which a learned start begins at 1 instead: a kink or flat part would make the Jacobian vanish.
FLAT = 0.25


class LayeredStart(nn.Module):
    r"""Map targets to starts in logit space, for ``start`` of :func:`~feature_alignment.align`; learned.

    Its parameters are the starts :math:`s_l`, one number per channel, or per unit if :math:`H_l` is flat, and the
    logarithms of the step sizes :math:`\tau_l`; the stages' weights belong to the network. Initially :math:`s_l = 0`
    and :math:`\tau_l = 1 / \phi_{l-1}'(0)`; if that slope is small, :math:`s_l = 1` and :math:`\tau_l` is the
    reciprocal slope there.

    Args:
        stages: :math:`E_1, \dots, E_L`, first to last, each mapping one tensor to one tensor (the last one to the
            structure of the target): modules such as a residual block, or any callables. See :func:`cut`. If the
            last one is not a module, it is not evaluated on construction.
        sample: one input, shape ``(1, ...)``, from which the shapes between the stages are derived.
        squash: :math:`\phi_0`; the identity for inputs without a range.
        bound: :math:`\rho_0`, on the root mean square of a start: one that is longer is scaled down to it,
            :math:`a_1 \leftarrow a_1 \min(1, \rho_0 / \operatorname{rms}(a_1))`. A start far beyond the range in which
            :math:`\phi_0` changes has no gradient that leads back; scaled down, it has. None for no bound.

    Raises:
        ValueError: no stages; a stage that uses batch statistics, mixes samples or draws random numbers; a
            ``sample`` that is not a batch of one; a ``bound`` that is not positive.

    Shape:
        targets of ``N`` samples, in the structure of the last stage's output, to starts ``(N, ...)``.

    Example:
        >>> encoder = nn.Sequential(nn.Linear(8, 6), nn.SiLU(), nn.Linear(6, 3))
        >>> start = LayeredStart(cut(encoder), torch.zeros(1, 8))
        >>> start(torch.randn(5, 3)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        stages: Sequence[Network],
        sample: Tensor,
        squash: Elementwise = torch.sigmoid,
        bound: float | None = None,
    ) -> None:
        super().__init__()
        if bound is not None and not 0 < bound < math.inf:
            raise ValueError(f"bound: expected a finite number greater than 0, got {bound}")
        self.bound = bound
        if not stages:
            raise ValueError("stages: expected at least one")
        if sample.ndim < 2 or len(sample) != 1:
            raise ValueError(f"sample: expected one input, shape (1, ...), got {tuple(sample.shape)}")
        self._stages = tuple(stages)  # not registered: their weights are the network's
        self._activations: tuple[Elementwise, ...] = (squash, *(last_activation(stage) for stage in stages[:-1]))
        self.shapes: list[torch.Size] = []
        starts, log_sizes = [], []
        for number, (stage, activation) in enumerate(zip(self._stages, self._activations, strict=True), 1):
            start, slope = _begin(activation, sample)
            self.shapes.append(sample.shape)
            starts.append(nn.Parameter(torch.full_like(_by_channel(sample), start)))
            log_sizes.append(nn.Parameter(torch.tensor(1 / slope).log().to(sample)))
            if number < len(self._stages) or isinstance(stage, nn.Module):
                sample = _through(number, stage, sample)
        self.starts, self.log_step_sizes = nn.ParameterList(starts), nn.ParameterList(log_sizes)

    def forward(self, target: Structure) -> Tensor:
        """Return the start for each target, before the squashing."""
        return self.linearized()(target)

    def linearized(self) -> Callable[[Structure], Tensor]:
        """Evaluate every stage at its start; return the map from targets to starts, for the weights of this moment."""
        parts = zip(self._stages, self._activations, self.starts, self.log_step_sizes, self.shapes, strict=True)
        stages = [_at_start(*each) for each in parts]

        def start_of(target: Structure) -> Tensor:
            *above, first = reversed(stages)
            hidden = target
            for stage in above:
                hidden = stage.activation(stage(hidden))
            start: Tensor = first(hidden)
            return start if self.bound is None else bounded(start, self.bound)

        return start_of


@dataclass(frozen=True)
class _Linearized:
    r"""The affine map from :math:`h_l` to :math:`a_l = b_l + c_l \odot J^\top h_l`, :math:`J` the stage's Jacobian.

    The activation :math:`\phi_{l-1}` is elementwise, with one slope per channel at :math:`s_l`; with the step size
    that is the factor :math:`c_l`.
    """

    activation: Elementwise
    pull_back: PullBack
    scale: Tensor
    offset: Tensor

    def __call__(self, hidden: Structure) -> Tensor:
        return scaled(self.pull_back(hidden), self.scale, self.offset)


def _at_start(
    stage: Network, activation: Elementwise, start: Tensor, log_size: Tensor, shape: torch.Size
) -> _Linearized:
    """Linearise a stage and the activation before it where it starts: evaluated for a batch of one."""
    value, pull_activation = vjp(activation, start)
    output, pull_back = vjp(stage, value.expand(shape))
    scale = log_size.exp() * pull_activation(torch.ones_like(start))
    return _Linearized(activation, pull_back, scale, start - scale * pull_back(output))


def cut(network: nn.Sequential) -> list[nn.Sequential]:
    """Cut a network into stages: a linear or convolutional layer with what follows it, up to the next.

    What reshapes (``Flatten``, ``Unflatten``) belongs to the layer that it prepares for.

    Args:
        network: of any layers, one after the other; nested ones count as a layer each.

    Raises:
        ValueError: no layers.
    """
    stages: list[list[nn.Module]] = []
    waiting: list[nn.Module] = []
    for layer in network:
        if isinstance(layer, nn.Flatten | nn.Unflatten):
            waiting.append(layer)
        elif isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) or not stages:
            stages.append([*waiting, layer])
            waiting = []
        else:
            stages[-1] += [*waiting, layer]
            waiting = []
    if not stages:
        raise ValueError("network: expected layers to cut into stages, got none")
    stages[-1] += waiting
    return [nn.Sequential(*stage) for stage in stages]


def last_activation(stage: Network) -> Elementwise:
    """Return the elementwise activation that a stage ends in, or the identity."""
    last = stage
    while isinstance(last, nn.Sequential) and len(last):
        last = last[len(last) - 1]
    if not isinstance(last, ELEMENTWISE):
        return _identity
    if not getattr(last, "inplace", False):
        return cast(Elementwise, last)
    activation = copy.copy(last)  # one that leaves its input as it is
    activation.inplace = False  # type: ignore[assignment]
    return activation


def _identity(x: Tensor) -> Tensor:
    return x


def _begin(activation: Elementwise, like: Tensor) -> tuple[float, float]:
    """Return where a learned start begins, and the activation's slope there."""
    found = []
    for start in (0.0, 1.0):
        point = torch.tensor([start], dtype=like.dtype, device="cpu", requires_grad=True)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(activation(point).sum(), point)
        found.append((start, float(slope)))
        if found[-1][1] >= FLAT:
            return found[-1]
    return found[-1][0], max(found[-1][1], FLAT)


def _by_channel(sample: Tensor) -> Tensor:
    """Return one number per channel, or per unit of a flat sample, expandable to the sample's shape."""
    return sample if sample.ndim == 2 else sample[(slice(None), slice(None), *[slice(0, 1)] * (sample.ndim - 2))]


@torch.no_grad()
def _through(number: int, stage: Network, sample: Tensor) -> Tensor:
    """Return the output of a stage after checking that the stage treats samples independently."""
    try:
        if isinstance(stage, nn.Module):
            refuse_batch_statistics(stage)
        if not sample.is_meta:  # which has shapes, but no values to compare
            check_independence(stage, sample)
    except ValueError as error:
        raise ValueError(f"stages: stage {number}: {error}") from None
    output: Tensor = stage(sample.clone())  # it may work in place
    return output
