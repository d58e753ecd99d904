"""Mixtures of Gaussians with full covariances, one mixture for each class."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..extras import require
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


class Components(NamedTuple):
    """Components fitted to K clusters of latents: their sizes ``(K,)``, means ``(K, d)``, covariances ``(K, d, d)``."""

    sizes: Tensor
    means: Tensor
    covariances: Tensor


class Mixture(ConditionalSampler):
    r"""For each class c, :math:`p(z|c) = \sum_k w_{ck} \, \mathcal N(z; m_{ck}, C_{ck})`; N(0, I) until fitted.

    Fitted by scikit-learn's expectation maximisation to standardised latents. Each covariance is then shrunk towards
    the common one, the mean S of the classes' covariances (regularised discriminant analysis; Friedman 1989):

    .. math::
        C_{ck} \leftarrow \frac{n_{ck} C_{ck} + \nu S}{n_{ck} + \nu}

    where :math:`n_{ck}` is the number of latents of the component. A class of few latents so has almost the common
    covariance; one without any, that and the common mean. The number of components, the same for all classes large
    enough, and :math:`\nu` are those of the highest likelihood on a tenth of the latents, held out.

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
        scale = scale.clamp_min(max(REGULARIZER * float(scale.max()), torch.finfo(torch.float32).tiny))
        fitted, spared = held_out(len(double))
        standard = (double - shift) / scale
        groups = [standard[fitted][known[fitted] == label] for label in range(self.groups)]
        common, chosen, best = _common_covariance(groups), None, -math.inf
        for count in COUNTS_OF_A_CLASS if self.classes else COUNTS:
            components = [_components(group, count) for group in groups]
            found = [self._scored(components, s, common, standard[spared], known[spared]) for s in STRENGTHS]
            score, strength = max(found)
            if score <= best:
                break
            best, chosen = score, (components, strength)
        if chosen is None:
            raise ValueError("latents: expected finite numbers")
        self._set(*chosen, common)
        self.means.copy_(shift + scale * self.means)
        self.roots.copy_(scale[:, None] * self.roots)

    def _scored(
        self, components: list[Components], strength: float, common: Tensor, latents: Tensor, labels: Tensor
    ) -> tuple[float, float]:
        """Return the mean log-likelihood of held-out latents with the covariances so shrunk, and the strength."""
        self._set(components, strength, common)
        return float(self.log_density(latents, labels).mean()), strength

    def _set(self, components: list[Components], strength: float, common: Tensor) -> None:
        """Set the buffers; classes of fewer components than others are padded with ones of weight 0."""
        count, prior = max(len(each.sizes) for each in components), strength * self.latent
        where, kind = self.weights.device, torch.float32
        self.weights = torch.zeros(self.groups, count, device=where, dtype=kind)
        self.means = torch.zeros(self.groups, count, self.latent, device=where, dtype=kind)
        self.roots = torch.eye(self.latent, device=where, dtype=kind).repeat(self.groups, count, 1, 1)
        for label, (sizes, means, covariances) in enumerate(components):
            n = sizes[:, None, None]
            shrunk = (n * covariances + prior * common) / (n + prior)
            part = slice(len(sizes))
            self.weights[label, part] = (sizes / sizes.sum() if sizes.sum() else torch.ones_like(sizes)).to(kind)
            self.means[label, part] = means.to(kind)
            self.roots[label, part] = torch.linalg.cholesky(shrunk).to(kind)

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
            found[rows] = self._log_density(double[rows], label)
        return found

    def _log_density(self, latents: Tensor, label: int) -> Tensor:
        """Return the log-density of latents of one class: log-sum-exp over its components."""
        terms = []
        for weight, mean, root in zip(self.weights[label], self.means[label], self.roots[label], strict=True):
            if weight > 0:
                root = root.double()
                white = torch.linalg.solve_triangular(root, (latents - mean.double()).T, upper=False)
                log_determinant = root.diagonal().log().sum()
                exponent = -0.5 * (white.square().sum(0) + self.latent * math.log(2 * math.pi))
                terms.append(weight.double().log() + exponent - log_determinant)
        return torch.stack(terms).logsumexp(0)


def _common_covariance(groups: list[Tensor]) -> Tensor:
    """Return the mean covariance of the groups, weighted by their sizes, regularised."""
    scatter = sum(((each - each.mean(0)).T @ (each - each.mean(0)) for each in groups if len(each)), torch.zeros(()))
    size = groups[0].shape[1]
    return scatter / sum(map(len, groups)) + REGULARIZER * torch.eye(size, dtype=groups[0].dtype)


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
        count, reg_covar=1e-4, tol=1e-2, max_iter=15, init_params="k-means++", random_state=0
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
    return Components(weights * len(group), means, covariances)
