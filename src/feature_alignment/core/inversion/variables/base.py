r"""Variables :math:`r = \varphi(u)` in which a pre-image is sought, near the start in the norm of :math:`u`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["Variables"]


class Variables:
    r"""A change of variables :math:`r = \varphi(u)`; a subclass has ``forward`` and ``inverse``.

    Many inputs have the same output. The solvers find the one that is near the start in the norm of what they vary: of
    pixels that is noise which the network takes for an image, of variables in which images are likely it is an image.

    Attributes:
        start: :math:`u` where the search begins unless :func:`~feature_alignment.invert` is given a start; shape
            ``(1, ...)``, or ``None``: then it has to be given.
        deviation: the standard deviation of :meth:`draw`.
        squash: whether inputs are the sigmoids of logits, which are affine in :math:`u`; then there is a method
            ``logits``.
    """

    start: Tensor | None = None
    deviation: float = 1.0
    squash: bool = False

    def forward(self, u: Tensor) -> Tensor:
        """Return the inputs :math:`r` for a batch of :math:`u`; differentiable."""
        raise NotImplementedError

    def logits(self, u: Tensor) -> Tensor:
        """Return what a change of :math:`u` changes of the logits of inputs, if these are bounded."""
        raise NotImplementedError

    def inverse(self, r: Tensor) -> Tensor:
        """Return :math:`u` with :math:`r = \\varphi(u)` (the nearest, where there is none); a ValueError if refused."""
        raise NotImplementedError

    def __call__(self, u: Tensor) -> Tensor:
        """Return :meth:`forward`."""
        return self.forward(u)

    @staticmethod
    def fit(images: Tensor, covariance: str = "auto", **options: float | bool) -> Variables:
        """Return :class:`Gaussian` variables fitted to images: see :meth:`Gaussian.fit`, whose arguments these are."""
        from .gaussian import fit

        return fit(images, covariance, **options)  # type: ignore[arg-type]


def same_size(name: str, shape: Sequence[int], expected: Sequence[int]) -> None:
    """Raise a ValueError unless samples have the shape that the variables are for."""
    if tuple(shape) != tuple(expected):
        raise ValueError(
            f"variables: {name} are for inputs of shape {tuple(expected)}, the start has {tuple(shape)}; "
            "resize the images or fit them to images of this size"
        )
