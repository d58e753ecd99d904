"""A normalising flow of the library zuko: a neural spline flow, or an affine one for many latents."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ..extras import require
from .gaussian import Gaussian
from .sampler import ConditionalSampler
from .split import held_out

__all__ = ["Flow"]

#: Number of transforms, width of their networks, and bins of their splines or, in an affine flow, passes to invert one.
SPLINES = (2, 64, 8)
AFFINE = (3, 128, 4)
#: Splines of more latents than this take minutes to fit, and are no better.
SPLINED = 8
LEARNING_RATE, BATCH, EPOCHS, PATIENCE = 3e-3, 256, 40, 3


class Flow(ConditionalSampler):
    r"""A flow of whitened latents, conditioned on the one-hot class.

    Up to 8 latents it is a neural spline flow (Durkan et al. 2019), above that a masked autoregressive flow
    (Papamakarios et al. 2017) of affine transforms.

    It begins as the identity, and with it the density as the fitted :class:`Gaussian`; trained by Adam on the
    log-likelihood until that of a tenth of the latents, held out, has not grown for three epochs, and left at its best.

    Example:
        >>> sampler, angle = Flow(2), 6.28 * torch.rand(2000)
        >>> ring = 3 * torch.stack([angle.cos(), angle.sin()], 1) + 0.1 * torch.randn(2000, 2)
        >>> sampler.fit(ring)
        >>> bool(sampler.log_prob(ring).mean() > sampler.gaussian.log_prob(ring).mean() + 0.5)
        True
    """

    fewest: ClassVar[int] = 100
    needs: ClassVar[str | None] = "zuko"

    weights: Tensor
    architecture: Tensor

    def __init__(self, latent: int, classes: int = 0) -> None:
        super().__init__(latent, classes)
        self.gaussian = Gaussian(latent)
        #: All weights of the flow, in the order of its parameters; empty until fitted.
        self.register_buffer("weights", torch.zeros(0))
        self.register_buffer("architecture", torch.tensor(SPLINES if latent <= SPLINED else AFFINE))

    def fit(self, latents: Tensor, labels: Tensor | None = None) -> None:  # noqa: D102
        known, where = self.count_classes(latents, labels), self.weights.device
        fitted, spared = held_out(known)
        self.gaussian.fit(latents[fitted])
        with torch.inference_mode(False), torch.enable_grad():  # a derivative keeps ordinary tensors only
            white, context = _filled(self.gaussian.whiten(latents.detach())[0].cpu()).float(), self._context(known)
            flow = self._empty().requires_grad_(True)
            _train(flow, (white[fitted], _part(context, fitted)), (white[spared], _part(context, spared)))
            weights = parameters_to_vector(flow.parameters()).detach()
        self.weights = weights.to(where)

    @torch.no_grad()
    def draw(  # noqa: D102
        self,
        count: int,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        context = self._context(self.known(count, labels, generator))
        noise = (temperature * torch.randn(count, self.latent, generator=generator)).to(self.weights)
        if not len(self.weights):
            return self.gaussian.colour(noise)
        flow = self._flow()(None if context is None else context.to(noise))
        return self.gaussian.colour(flow.transform.inv(noise))

    @torch.no_grad()
    def log_density(self, latents: Tensor, labels: Tensor) -> Tensor:  # noqa: D102
        white, log_determinant = self.gaussian.whiten(latents)
        if not len(self.weights):
            return self.gaussian.log_prob(latents)
        context, white = self._context(labels), white.to(self.weights)
        density: Tensor = self._flow()(None if context is None else context.to(white)).log_prob(white)
        return density.double() - log_determinant

    def _context(self, labels: Tensor) -> Tensor | None:
        return nn.functional.one_hot(labels, self.classes).float() if self.classes else None

    def _flow(self) -> Any:
        flow = self._empty().to(self.weights)
        vector_to_parameters(self.weights, flow.parameters())
        return flow

    def _empty(self) -> nn.Module:
        """Return a flow that is the identity, without gradients."""
        zuko = require("zuko", "samplers", "the sampler flow")
        transforms, width, last = self.architecture.tolist()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # of the CPU alone
            kind, own = (zuko.flows.NSF, "bins") if self.latent <= SPLINED else (zuko.flows.MAF, "passes")
            flow: nn.Module = kind(
                self.latent, self.classes, transforms=transforms, hidden_features=[width, width], **{own: last}
            )
        for transform in flow.transform.transforms:  # type: ignore[union-attr]
            numbers = list(transform.parameters())
            # Of the last layer; of one latent without classes there is no network, all are the transform's own.
            for each in numbers[-2:] if self.latent > 1 or self.classes else numbers:
                nn.init.zeros_(each)
        return flow.requires_grad_(False)


def _filled(white: Tensor) -> Tensor:
    """Add normal noise to whitened latents in the directions in which they vary less than the least assumed.

    There a flow could raise the density without end, which says nothing of the latents.
    """
    values, vectors = torch.linalg.eigh(white.T.cov().reshape(white.shape[1], white.shape[1]))
    lacking = torch.where(values < 0.5, 1 - values, 0.0).clamp_min(0).sqrt()
    noise = torch.randn(white.shape, generator=torch.Generator().manual_seed(0), dtype=white.dtype)
    return white + noise @ (vectors * lacking) @ vectors.T if lacking.any() else white.clone()


def _part(context: Tensor | None, index: Tensor) -> Tensor | None:
    return None if context is None else context[index]


def _train(flow: Any, fitted: tuple[Tensor, Tensor | None], spared: tuple[Tensor, Tensor | None]) -> None:
    """Maximise the likelihood; leave the weights of the epoch that was best on the spared latents."""
    latents, context = fitted
    generator, optimizer = torch.Generator().manual_seed(0), torch.optim.Adam(flow.parameters(), LEARNING_RATE)
    kept, best, since = parameters_to_vector(flow.parameters()).detach().clone(), _likelihood(flow, spared), 0
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(latents), generator=generator).split(BATCH):
            optimizer.zero_grad()
            (-flow(_part(context, rows)).log_prob(latents[rows]).mean()).backward()
            nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
            optimizer.step()
        score = _likelihood(flow, spared)
        since = 0 if score > best else since + 1
        if score > best:
            kept, best = parameters_to_vector(flow.parameters()).detach().clone(), score
        if since == PATIENCE or not math.isfinite(score):
            break
    with torch.no_grad():
        vector_to_parameters(kept, flow.parameters())


@torch.no_grad()
def _likelihood(flow: Any, latents: tuple[Tensor, Tensor | None]) -> float:
    return float(flow(latents[1]).log_prob(latents[0]).mean())
