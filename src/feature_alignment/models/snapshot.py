"""The encoder and its heads at their current weights, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from ..core import speed
from ..core.checks import batch_size
from ..core.layers import Cast
from ..core.pullback import Chain, computes_as
from ..core.speed.fusion import composed
from ..core.structures import Structure
from .networks import Encoder
from .variational import Posterior

if TYPE_CHECKING:
    from .fa import FA
    from .vfa import VFA

__all__ = ["Snapshot"]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """An encoder and its heads at their current weights; take a new snapshot after the weights have changed.

    Posteriors and features of an update come from one snapshot, so that layers are fused once per update.

    Attributes:
        model: the model that the network belongs to.
        layers: map images ``(N, C, H, W)`` to the concatenated outputs of the heads, ``(N, K)``.
    """

    model: FA
    layers: Chain

    @classmethod
    def of(cls, model: FA, count: int) -> Snapshot:
        """Return a snapshot for encoding ``count`` images once and aligning them for all steps.

        The encoder's last layer and the heads are fused into one affine map if that reduces the operations.
        """
        encoder, heads = model.encoder, model.heads()
        in_full = Cast(model.mean.weight.dtype)  # under autocast: losses need more precision than bfloat16
        passes = (1 + 2 * model.options.steps) * count
        if _fusible(encoder, heads) and sum(head.out_features for head in heads) <= passes:
            encoder = cast(Encoder, encoder)
            return cls(model, Chain([*encoder.trunk, composed(cast(nn.Linear, encoder.last), heads), in_full]))
        return cls(model, Chain([encoder, heads[0] if len(heads) == 1 else model.all_heads, in_full]))

    @property
    def network(self) -> Chain:
        """:math:`E`, from images to the aligned output, which has the structure of ``model.target``."""
        return Chain([*self.layers.parts, *self.model.aligned_parts()])

    def outputs(self, images: Tensor) -> Tensor:
        """Return the concatenated outputs of the heads for each image, shape ``(N, K)``."""
        return self.model.evaluate(self.layers, images)

    def posterior(self, images: Tensor) -> Posterior:
        """Return the posterior of each image; for variational models only."""
        return cast("VFA", self.model).split(self.outputs(images))

    def feature(
        self, latent: Tensor, one_hot: Tensor | None = None, *, check: bool = False, steps: int | None = None
    ) -> Tensor:
        r"""Return :math:`\hat r`, the feature of each latent, given its class; differentiable, ``(N, C, H, W)``.

        Args:
            latent: shape ``(N, latent)``.
            one_hot: the class of each, shape ``(N, classes)``, for a conditional model.
            check: as for :func:`feature_alignment.align`.
            steps: :math:`T`, by default the trained number; further steps reuse the size and bound of the last one.
        """
        model = self.model
        return model.squashed(self.iterate(model.target(latent, one_hot), check=check, steps=steps))

    def iterate(self, target: Structure, *, check: bool = False, steps: int | None = None) -> Tensor:
        """Return the iterate that :meth:`feature` squashes, for each target; differentiable, ``(N, C, H, W)``."""
        model, count = self.model, batch_size(target)
        steps = model.options.steps if steps is None else steps
        return model.follow(self.network, target, model.starts(count), check, steps)

    def further(self, target: Structure, iterate: Tensor) -> Tensor:
        """Return the iterate after one step more than T."""
        return self.model.follow(self.network, target, iterate, False, 1, self.model.options.steps)


def _fusible(encoder: nn.Module, heads: list[nn.Linear]) -> bool:
    """Whether only linear layers, computed as such, follow the trunk of one of our own encoders."""
    if not speed.enabled() or not computes_as(encoder, Encoder):
        return False
    return all(computes_as(layer, nn.Linear) for layer in (cast(Encoder, encoder).last, *heads))
