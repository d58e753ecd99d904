"""The network at the weights it has now, as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from ..core import speed
from ..core.layers import Cast
from ..core.pullback import Chain
from ..core.speed.fusion import composed, hooked
from .networks import Encoder
from .variational import Posterior

if TYPE_CHECKING:
    from .fa import FA
    from .vfa import VFA

__all__ = ["Snapshot"]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """An encoder with its heads at the weights it has now; ask for it again once they have changed.

    Posteriors and features of an update come from one snapshot, so that layers that were fused for it are fused once.

    Attributes:
        model: whose network it is.
        layers: from images ``(N, C, H, W)`` to what the heads put out, side by side, ``(N, K)``.
    """

    model: FA
    layers: Chain

    @classmethod
    def of(cls, model: FA, count: int) -> Snapshot:
        """Return the snapshot with which ``count`` images are encoded once and aligned for all steps.

        The encoder's last layer and the heads are fused into one affine map where that saves work.
        """
        encoder, heads = model.encoder, model.heads()
        in_full = Cast(model.mean.weight.dtype)  # losses are not for bfloat16
        passes = (1 + 2 * model.options.steps) * count
        if _fusible(encoder, heads) and sum(head.out_features for head in heads) <= passes:
            encoder = cast(Encoder, encoder)
            return cls(model, Chain([*encoder.trunk, composed(cast(nn.Linear, encoder.last), heads), in_full]))
        return cls(model, Chain([encoder, heads[0] if len(heads) == 1 else model.all_heads, in_full]))

    @property
    def network(self) -> Chain:
        """:math:`E`, from images to what is aligned, the structure of ``model.target``."""
        return Chain([*self.layers.parts, *self.model.aligned_parts()])

    def outputs(self, images: Tensor) -> Tensor:
        """Return what the heads put out for each image, shape ``(N, K)``."""
        return self.model.evaluate(self.layers, images)

    def posterior(self, images: Tensor) -> Posterior:
        """Return the posterior of each image, under a variational model."""
        return cast("VFA", self.model).split(self.outputs(images))

    def feature(
        self, latent: Tensor, one_hot: Tensor | None = None, *, check: bool = False, steps: int | None = None
    ) -> Tensor:
        r"""Return :math:`\hat r` of ``latent`` (and class), differentiable; shape ``(N, C, H, W)``.

        Args:
            latent: shape ``(N, latent)``.
            one_hot: the class of each, shape ``(N, classes)``, of a conditional model.
            check: as for :func:`feature_alignment.align`.
            steps: of the flow, by default as many as were trained; those beyond take the last one's size and bound.
        """
        model = self.model
        return model.follow(self.network, model.target(latent, one_hot), model.starts(len(latent)), check, steps)


def _fusible(encoder: nn.Module, heads: list[nn.Linear]) -> bool:
    """Say whether nothing but linear maps follows the trunk: neither a user's own encoder nor a hooked layer."""
    if not speed.enabled() or type(encoder) is not Encoder or not isinstance(encoder.last, nn.Linear):
        return False
    return not hooked(encoder, encoder.last, *heads)
