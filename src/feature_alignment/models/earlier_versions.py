"""Options and weights saved by earlier versions of the package, turned into those of this version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .model import Model

__all__ = ["present_options", "upgraded"]

#: Before 0.2.0, FA, AE and Local kept mean and variance of their latents, of which samples were drawn.
STATISTICS = "latent_statistics."
#: Parameters that came later and are used only by options that came with them.
LATER = ("log_max_steps",)
#: Filters of residual refiners, which had none at first in 0.2.0.
SMOOTHING = re.compile(r"refiner\..*\bsmoothing")


def present_options(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the saved options without those that this version has no more; only training read them.

    Args:
        kind: name of the model's class.
        options: from ``config.json``.
    """
    present = dict(options)
    if kind == "VFAGAN":  # until 0.2.0 the refiner, and both kinds of fakes, could be trained on draws from the prior
        present.pop("refine_prior", None)
        if present.get("fakes") == "both":
            present["fakes"] = "prior"
    return present


def upgraded(weights: Mapping[str, Tensor], model: Model) -> dict[str, Tensor]:
    """Return the weights under their present names; give the model the sampler that they contain, if any.

    Args:
        weights: from ``model.safetensors``, possibly of an earlier version.
        model: constructed with the saved options.

    Raises:
        ValueError: a conditional VAE whose encoder was not given the class, which this version has not.
    """
    if hasattr(model, "given_class") and model.classes and not any(name.startswith("given_class.") for name in weights):
        raise ValueError("its encoder was not given the class, as in conditional VAEs until 0.2.0; train it again")
    found = {name: each for name, each in weights.items() if not name.startswith(STATISTICS)}
    if len(found) < len(weights):
        model.samplers.add(["gaussian"])
        model.samplers.used = "gaussian"
        found["samplers.gaussian.mean"] = weights[f"{STATISTICS}running_mean"]
        found["samplers.gaussian.root"] = torch.diag(weights[f"{STATISTICS}running_var"].sqrt())
    state = model.state_dict()
    found |= {name: state[name] for name in LATER if name in state and name not in found}
    for name in state:
        if SMOOTHING.fullmatch(name) and name not in found:
            found[name] = torch.zeros_like(state[name])
            found[name][..., 1, 1] = 1  # the identity: the model refines as it did when it was trained
    return found
