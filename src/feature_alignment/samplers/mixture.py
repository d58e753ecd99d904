"""Mixtures of Gaussians with full covariances, one mixture for each class."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..extras import require
from .gaussian import FLOOR
from .sampler import ConditionalSampler
from .split import held_out

__all__ = ["Mixture"]

#: Numbers of components tried, of a single mixture and of one for each class, in ascending order.
COUNTS = (1, 2, 5, 10, 20)
COUNTS_OF_A_CLASS = (1, 2, 4)
#: Pseudo-counts of the common covariance that are tried, as multiples of the latent's size.
STRENGTHS = (0.01, 0.1, 0.3, 1.0, 3.0)
#: Fewest latents for each component of a mixture.
LATENTS_OF_A_COMPONENT = 10
#: Added to the variances of standardised latents.
REGULARIZER = 1e-6
#: Added to them within each step of expectation maximisation, and taken away again.
REGULARIZED = 1e-4


class Components(NamedTuple):
    """Components fitted to K clusters of latents: their sizes ``(K,)``, means ``(K, d)``, covariances ``(K, d, d)``."""

    sizes: Tensor
    means: Tensor
    covariances: Tensor


class Densities(NamedTuple):
    """K Gaussians of a class: weights ``(K,)``, means ``(K, d)``, Cholesky factors of covariances ``(K, d, d)``."""

    weights: Tensor
    means: Tensor
    roots: Tensor

    def log_density(self, latents: Tensor) -> Tensor:
        """Return the log-density of latents, shape ``(N, d)``: log-sum-exp over the components."""
        terms = []
        for weight, mean, root in zip(*self, strict=True):
            if weight > 0:
                white = torch.linalg.solve_triangular(root, (latents - mean).T, upper=False)
                exponent = -0.5 * (white.square().sum(0) + latents.shape[1] * math.log(2 * math.pi))
                terms.append(weight.log() + exponent - root.diagonal().log().sum())
        return torch.stack(terms).logsumexp(0)


class Candidate(NamedTuple):
    """The densities of all classes, and the mean log-likelihood of held-out latents under them."""

    likelihood: float
    classes: list[Densities]


class Mixture(ConditionalSampler):
    r"""For each class c, :math:`p(z|c) = \sum_k w_{ck} \, \mathcal N(z; m_{ck}, C_{ck})`; N(0, I) until fitted.

    Fitted by scikit-learn's expectation maximisation to standardised latents. Each covariance is then shrunk towards
    the common one, the mean S of the classes' covariances (regularised discriminant analysis; Friedman 1989):

    .. math::
        C_{ck} \leftarrow \frac{n_{ck} C_{ck} + \nu S}{n_{ck} + \nu}

    where :math:`n_{ck}` is the number of latents of the component. A class of few latents so has almost the common
    covariance; one without any, that and the common mean. The number of components, the same for all classes large
    enough, and :math:`\nu` are those of the highest likelihood on a tenth of the latents, held out. In no
    direction is a deviation less than a thousandth of the largest, as in :class:`Gaussian`.

    Drawing needs PyTorch only.

    Example:
        >>> sampler, labels = Mixture(2, classes=2), torch.arange(200) % 2
        >>> sampler.fit(torch.randn(200, 2) + 10 * labels[:, None], labels)
        >>> sampler.draw(100, torch.ones(100, dtype=torch.long)).mean().round()
        tensor(10.)
    """

    fewest: ClassVar[int] = 20
    needs: ClassVar[str | None] = "sklearn"

    weights: Tensor
    means: Tensor
    roots: Tensor

    def __init__(self, latent: int, classes: int = 0) -> None:
        super().__init__(latent, classes)
        self.register_buffer("weights", torch.ones(self.groups, 1))
        self.register_buffer("means", torch.zeros(self.groups, 1, latent))
        #: Cholesky factors of the covariances.
        self.register_buffer("roots", torch.eye(latent).repeat(self.groups, 1, 1, 1))

    @torch.no_grad()
    def fit(self, latents: Tensor, labels: Tensor | None = None) -> None:  # noqa: D102
        known, double = self.count_classes(latents, labels), latents.double().cpu()
        shift, scale = double.mean(0), double.std(0)
        least = FLOOR * torch.linalg.matrix_norm(double.T.cov().reshape(self.latent, self.latent), 2).sqrt()
        least = least.clamp_min(torch.finfo(torch.float32).tiny)
        scale = scale.clamp_min(least)
        fitted, spared = held_out(known)
        standard = (double - shift) / scale
        groups = [standard[fitted][known[fitted] == label] for label in range(self.groups)]
        common, best = _common_covariance(groups), Candidate(-math.inf, [])
        for count in COUNTS_OF_A_CLASS if self.classes else COUNTS:
            components = [_components(group, count) for group in groups]
            candidates = [_shrunk(components, strength * self.latent, common, least / scale) for strength in STRENGTHS]
            scored = (Candidate(_likelihood(each, standard[spared], known[spared]), each) for each in candidates)
            found = max(scored, key=lambda each: each.likelihood)
            if not found.likelihood > best.likelihood:
                break
            best = found
        self._set(best.classes, shift, scale)

    def _set(self, classes: list[Densities], shift: Tensor, scale: Tensor) -> None:
        """Set the buffers from densities of standardised latents; classes of fewer components get ones of weight 0."""
        count = max(len(each.weights) for each in classes)
        where, kind = self.weights.device, torch.float32
        self.weights = torch.zeros(self.groups, count, device=where, dtype=kind)
        self.means = torch.zeros(self.groups, count, self.latent, device=where, dtype=kind)
        self.roots = torch.eye(self.latent, device=where, dtype=kind).repeat(self.groups, count, 1, 1)
        for label, (weights, means, roots) in enumerate(classes):
            part = slice(len(weights))
            self.weights[label, part] = weights.to(self.weights)
            self.means[label, part] = (shift + scale * means).to(self.means)
            self.roots[label, part] = (scale[:, None] * roots).to(self.roots)

    def draw(  # noqa: D102
        self,
        count: int,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        known = self.known(count, labels, generator)
        which = torch.multinomial(self.weights.cpu()[known], 1, generator=generator)[:, 0] if count else known
        noise = (temperature * torch.randn(count, self.latent, generator=generator)).to(self.means)
        latents = torch.empty_like(noise)
        for label, component in torch.stack([known, which], 1).unique(dim=0).tolist():  # not a matrix for every latent
            rows = ((known == label) & (which == component)).to(noise.device)
            latents[rows] = self.means[label, component] + noise[rows] @ self.roots[label, component].T
        return latents

    def log_density(self, latents: Tensor, labels: Tensor) -> Tensor:  # noqa: D102
        double = latents.to(self.means.device).double()
        found = torch.empty_like(double[:, 0])
        for label in labels.unique().tolist():
            rows = (labels == label).to(found.device)
            one = Densities(self.weights[label].double(), self.means[label].double(), self.roots[label].double())
            found[rows] = one.log_density(double[rows])
        return found


def _common_covariance(groups: list[Tensor]) -> Tensor:
    """Return the mean covariance of the groups, weighted by their sizes, regularised."""
    scatter = sum(((each - each.mean(0)).T @ (each - each.mean(0)) for each in groups if len(each)), torch.zeros(()))
    size = groups[0].shape[1]
    return scatter / sum(map(len, groups)) + REGULARIZER * torch.eye(size, dtype=groups[0].dtype)


def _shrunk(components: list[Components], prior: float, common: Tensor, least: Tensor) -> list[Densities]:
    """Return the densities of all classes with covariances shrunk towards the common one by ``prior`` pseudo-counts.

    ``least`` is the least standard deviation in the units of each latent.
    """
    found = []
    for sizes, means, covariances in components:
        n = sizes[:, None, None]
        shrunk = (n * covariances + prior * common) / (n + prior)
        weights = sizes / sizes.sum() if sizes.sum() else torch.ones_like(sizes)
        found.append(Densities(weights, means, torch.linalg.cholesky(_at_least(shrunk, least))))
    return found


def _at_least(covariances: Tensor, least: Tensor) -> Tensor:
    """Return covariances with no deviation below the least, in any direction; the same where there is none."""
    units = least[:, None] * least
    values, vectors = torch.linalg.eigh(covariances / units)
    raised = units * ((vectors * values.clamp_min(1).unsqueeze(-2)) @ vectors.mT)
    return torch.where((values < 1).any(-1)[:, None, None], raised, covariances)


def _likelihood(classes: list[Densities], latents: Tensor, labels: Tensor) -> float:
    """Return the mean log-likelihood of latents given their classes."""
    total = sum(float(each.log_density(latents[labels == label]).sum()) for label, each in enumerate(classes))
    return total / len(latents)


def _components(group: Tensor, count: int) -> Components:
    """Return at most ``count`` components of a group's latents: closed form if one, EM if more."""
    count = min(count, len(group) // LATENTS_OF_A_COMPONENT)
    return _one(group) if count < 2 else _several(group, count)


def _one(group: Tensor) -> Components:
    size = group.shape[1]
    mean = group.mean(0) if len(group) else group.new_zeros(size)
    centred = group - mean
    sizes = group.new_tensor([float(len(group))])
    return Components(sizes, mean[None], (centred.T @ centred / max(1, len(group)))[None])


def _several(group: Tensor, count: int) -> Components:
    sklearn = require("sklearn.mixture", "samplers", "the sampler mixture")
    # In float32, and not to convergence: at 64 latents that is seconds instead of minutes, for as good a likelihood.
    mixture: Any = sklearn.GaussianMixture(
        count, reg_covar=REGULARIZED, tol=1e-2, max_iter=15, init_params="k-means++", random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that 15 iterations are not convergence: the choice is by likelihood
        try:
            mixture.fit(group.float().numpy())
        except ValueError:  # clusters of fewer latents than their covariance needs
            return _one(group)
    weights, means, covariances = (
        torch.from_numpy(each).double() for each in (mixture.weights_, mixture.means_, mixture.covariances_)
    )
    added = REGULARIZED * torch.eye(group.shape[1], dtype=torch.double)
    return Components(weights * len(group), means, covariances - added)
