"""Distances between two sets of features."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

from ..core.draws import seeded
from ..extras import require

__all__ = ["frechet_distance", "kernel_distance"]


class _Extracted(nn.Module):
    """The feature extractor that torchmetrics expects, for features that are extracted already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    r"""Fréchet distance (equation 8) between the Gaussians fitted to two sets of features.

    .. math::
        \lVert \mu_1 - \mu_2 \rVert^2 + \operatorname{tr}\bigl(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2}\bigr)

    Args:
        real, generated: shape ``(N, features)``, at least two each. If ``N`` does not exceed the number of features,
            the covariances are singular and the distance is biased upwards.

    Raises:
        ValueError: fewer than two features in a set, or features that are not finite.
    """
    if len(real) < 2 or len(generated) < 2:
        raise ValueError(f"frechet_distance: expected two images or more, got {len(real)} and {len(generated)}")
    metric = require("torchmetrics.image.fid", "train", "the Fréchet distance").FrechetInceptionDistance
    return float(_computed(metric(_Extracted(real.shape[1]), sync_on_compute=False), real, generated))


def kernel_distance(real: Tensor, generated: Tensor) -> float:
    r"""Kernel inception distance: the squared maximum mean discrepancy of two sets of features.

    The kernel is :math:`(x^\top y / d + 1)^3` for ``d`` features. The result is the mean over 100 random subsets of
    1000; two sets of equal size, at most 1000, are compared once as a whole. The estimate is unbiased and may be
    negative.

    Args:
        real, generated: shape ``(N, features)``, at least two each.

    Raises:
        ValueError: fewer than two features in a set, or features that are not finite.
    """
    size = min(1000, len(real), len(generated))
    if size < 2:
        raise ValueError(f"kernel_distance: expected two images or more, got {len(real)} and {len(generated)}")
    subsets = 1 if len(real) == len(generated) == size else 100
    metric = require("torchmetrics.image.kid", "train", "the kernel distance").KernelInceptionDistance
    with warnings.catch_warnings(), seeded(0):  # of the subsets
        warnings.filterwarnings("ignore", ".*will save all extracted features.*")
        distance = metric(_Extracted(real.shape[1]), subsets=subsets, subset_size=size, sync_on_compute=False)
        return float(_computed(distance, real, generated)[0])


def _computed(distance: Any, real: Tensor, generated: Tensor) -> Any:
    for name, features in (("real", real), ("generated", generated)):
        lost = int((~features.isfinite().all(1)).sum())
        if lost:  # eigenvalues of a matrix of NaN end the process
            raise ValueError(f"{name}: {lost} of {len(features)} images have features that are not finite")
    distance.update(real.double(), real=True)
    distance.update(generated.double(), real=False)
    return distance.compute()
