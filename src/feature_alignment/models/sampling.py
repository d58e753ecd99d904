"""The samplers of a model: which there are, which is used, and how they are fitted when the model is trained."""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..extras import MissingExtra
from ..samplers import SAMPLERS, Normal, Sampler
from ..samplers.sampler import ConditionalSampler, known_classes
from ..samplers.split import spare_classes

__all__ = ["BEST", "Samplers"]

#: Stands for the sampler of the highest held-out likelihood.
BEST = "best"
#: Fitted after every training; any other only if it is asked for, or the best of all is.
QUICK = ("gaussian", "mixture")
#: Share of the latents on which the samplers are compared, by a stride: one in so many.
STRIDE = 10


class Samplers(nn.ModuleDict):
    """Samplers by name; N(0, I), which needs no fit, is always there.

    Args:
        latent: size of the latent vector.
        classes: number of classes of a conditional model, 0 for an unconditional one.
        asked: name of the sampler that is used if none is named, or ``best``; none for the prior if there is one, and
            for the best of the quick ones otherwise.
        has_prior: whether the latents' distribution is N(0, I).

    Example:
        >>> samplers = Samplers(2, asked="gaussian")
        >>> samplers.fit(torch.randn(100, 2) + 5)
        >>> samplers.choose().draw(50).mean().round()
        tensor(5.)
    """

    def __init__(self, latent: int, classes: int = 0, asked: str | None = None, has_prior: bool = True) -> None:
        super().__init__({"normal": Normal(latent, classes)})
        self.latent, self.classes, self.has_prior = latent, classes, has_prior
        #: Name of the sampler that is used if none is named, or ``best``.
        self.used = asked or ("normal" if has_prior else BEST)
        #: Names of those that :meth:`fit` fits.
        self.fitted = [name for name in SAMPLERS if name in QUICK or asked in (name, BEST)]

    @property
    def likelihoods(self) -> dict[str, float]:
        """Mean log-density of held-out latents under each sampler for which it is known, in nats."""
        found = {name: float(sampler.likelihood) for name, sampler in self.items()}  # type: ignore[arg-type]
        return {name: value for name, value in found.items() if value > -math.inf}

    @likelihoods.setter
    def likelihoods(self, values: Mapping[str, float]) -> None:
        for name, sampler in self.items():
            value = torch.tensor(values.get(name, -math.inf), dtype=torch.float64)
            sampler.likelihood.copy_(value)  # type: ignore[operator]  # beyond float32 it is infinite

    def choose(self, name: str | None = None) -> Sampler:
        """Return a sampler by its name, or ``best``; by default the one that is used.

        Before the samplers are fitted, the one that is used is N(0, I). In place of one that could not be fitted it is
        the prior if there is one, and the best otherwise.

        Raises:
            ValueError: a name unknown, or of a sampler that was not fitted.
        """
        found = self.used if name is None else name
        if name is None and found not in self and not self.has_prior:
            found = BEST
        if found == BEST:
            known = self.likelihoods
            found = max(known, key=lambda each: known[each], default="normal")
        if found not in self and name is None:
            found = "normal"
        if found not in self:
            unknown = f"expected one of {', '.join(SAMPLERS)}, {BEST}"
            fitted = f"this model was saved with {', '.join(self)}; train with --model.sampler {found} to have it"
            raise ValueError(f"sampler: {fitted if found in SAMPLERS else unknown}, got {found!r}")
        sampler = self[found]
        assert isinstance(sampler, Sampler)
        return sampler

    def name_of(self, sampler: Sampler) -> str:
        """Return the name of one of the samplers."""
        return next(name for name, each in self.items() if each is sampler)

    @property
    def tell_classes(self) -> list[str]:
        """Names of the samplers that know the latents of every class, the likeliest of them first."""
        known = self.likelihoods
        names = [name for name, each in self.items() if self.classes and isinstance(each, ConditionalSampler)]
        return sorted(names, key=lambda name: -known.get(name, -math.inf))

    def most_likely_class(self, latents: Tensor) -> Tensor:
        r"""Return :math:`\arg\max_c p(c) \, p(z|c)` of each latent, int64, shape ``(N,)``, by the best sampler.

        Raises:
            ValueError: there is none.
        """
        if not self.tell_classes:
            raise ValueError(
                "labels: the class does not change what this model decodes, and no sampler of the latents of each "
                "class is fitted from which it could be inferred; give the labels"
            )
        sampler = self[self.tell_classes[0]]
        assert isinstance(sampler, ConditionalSampler)
        return sampler.joint(latents).argmax(1).to(latents.device)

    def add(self, names: Iterable[str]) -> None:
        """Make room for samplers whose fitted tensors are loaded next; unknown names are passed over."""
        for name in names:
            if name in SAMPLERS and name not in self:
                self[name] = SAMPLERS[name](self.latent, self.classes)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        names = {key.removeprefix(prefix).partition(".")[0] for key in state_dict if key.startswith(prefix)}
        self.add(sorted(names))
        self._keep(names)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def fit(self, latents: Tensor, labels: Tensor | None = None) -> None:
        """Fit samplers to latents of training images and compare them on a tenth of these, held out from the fit.

        Fitted are ``gaussian`` and ``mixture`` and the one that was asked for; all if that is ``best``. One that needs
        more latents is left out, and with a warning one that needs a library which is missing.

        Args:
            latents: shape ``(N, latent)``; of a variational model, draws from the posteriors.
            labels: the class of each, int64, shape ``(N,)``; required if there are classes.

        Raises:
            ValueError: latents of another size, labels missing or out of range; the samplers stay as they are.
        """
        latents = latents.detach().cpu()
        if latents.ndim != 2 or latents.shape[1] != self.latent:
            raise ValueError(f"latents: expected shape (N, {self.latent}), got {tuple(latents.shape)}")
        labels = self._checked(labels, len(latents))
        self._keep(())
        self.likelihoods = {}
        if len(latents) < 2 or not latents.isfinite().all():
            reason = "there is one latent only" if len(latents) < 2 else "there are latents that are not finite"
            warnings.warn(f"no sampler is fitted: {reason}", stacklevel=2)
            return
        spared = torch.arange(len(latents)) % STRIDE == STRIDE - 1 if len(latents) >= 2 * STRIDE else None
        if spared is not None and labels is not None:
            spared = spare_classes(spared, labels)
        parts = (latents, latents) if spared is None else (latents[~spared], latents[spared])
        known = (labels, labels) if labels is None or spared is None else (labels[~spared], labels[spared])
        found = {"normal": float(self["normal"].log_prob(parts[1]).mean())}  # type: ignore[operator]
        for name in self.fitted:
            sampler = SAMPLERS[name](self.latent, self.classes)
            if not sampler.learns:
                continue
            if len(parts[0]) < sampler.fewest:
                if name == self.used:
                    reason = f"it needs {sampler.fewest} latents, and there are {len(parts[0])}"
                    warnings.warn(f"the sampler {name} is left out: {reason}", stacklevel=2)
                continue
            try:
                sampler.fit(parts[0], known[0])
                found[name] = float(sampler.log_prob(parts[1], known[1]).mean())
            except (MissingExtra, ValueError) as reason:
                warnings.warn(f"the sampler {name} is left out: {reason}", stacklevel=2)
            else:
                self[name] = sampler
        self.likelihoods = found

    def _keep(self, names: Container[str]) -> None:
        """Remove the samplers of other names, but N(0, I)."""
        for name in [name for name in self if name != "normal" and name not in names]:
            del self[name]

    def _checked(self, labels: Tensor | None, count: int) -> Tensor | None:
        """Return the labels of the latents that samplers are fitted to, none where there are no classes."""
        if not self.classes:
            return None
        if labels is None:
            raise ValueError(f"labels: expected the class of each latent, 0 to {self.classes - 1}, got none")
        return known_classes(labels, count, self.classes)
