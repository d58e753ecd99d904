"""Options of feature alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.starts import STARTS
from ..core.step_sizes import STEP_RULES
from .options import EncoderOptions, above_zero, at_least, one_of

__all__ = ["LAYERS", "FAOptions"]

Squash = Literal["last", "every", "none"]
#: Name of the start that is computed from the target, layer by layer.
LAYERS = "layers"


@dataclass(frozen=True)
class FAOptions(EncoderOptions):
    r"""Options of :class:`feature_alignment.models.FA`.

    Args:
        steps: :math:`T`; 0 with a start of ``layers`` only.
        step_size: :math:`\tau`: a number, one number per step, or ``auto``, which chooses it at every step so
            that the flow cannot diverge, see :func:`feature_alignment.align`.
        learn_step_size: train the step sizes, one per step, kept positive.
        max_step: :math:`\rho`, initial value of the learned bounds, one per step, on the norm of an image's step;
            none for no bound.
        max_start: :math:`\rho_0`, bound on the root mean square of a start of ``layers``, in logits, such as 25, where
            pixels are black or white to 1e-11; none for no bound. Without one a training at a high rate may end where
            every pixel is black or white, and no gradient leads back. Within the bound nothing changes.
        further_steps: :math:`K`, train also for 1 to K steps beyond T, so that more steps at inference bring a feature
            nearer to its image, see :mod:`feature_alignment.models.further_steps`; 0 for T steps only.
        decode_steps: number of steps in decoding, by default T; more bring the features of a model trained for
            ``further_steps`` nearer to the images, and take as much longer. Training takes T steps.
        start: :math:`r^0`: ``zeros``, ``uniform`` on (0, 1) or ``normal`` noise, fresh for every image, or
            ``learned``, a parameter; ``layers``, an approximate inverse of the encoder, stage by stage, see
            :class:`feature_alignment.LayeredStart`; in Python also a tensor of the image's shape, saved as ``given``.
        squash: where the sigmoid that keeps pixels in (0, 1) acts: ``last`` step only (the paper's code),
            ``every`` step (the iterate lives in logit space; needed to train with more than one step), or
            ``none`` (the paper).
        recompute: keep only the iterates for the backward pass and recompute the activations of each step: memory
            then hardly grows with the number of steps, and an update takes about half as long again.
        clamp_inputs: images are clamped to [c, 1 - c] before training on them; 0 for none.
        clamp_weights: bound on every weight of the encoder that is trained, applied before each update (equation
            7); none for no bound.
    """

    steps: int = 1
    step_size: float | Sequence[float] | str = 1.0
    learn_step_size: bool = False
    max_step: float | None = None
    max_start: float | None = None
    further_steps: int = 0
    decode_steps: int | None = None
    start: str = "zeros"
    squash: Squash = "last"
    recompute: bool = False
    clamp_inputs: float = 0.01
    clamp_weights: float | None = math.sqrt(2)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("squash", self.squash, Squash)
        if self.start not in (*STARTS, LAYERS):
            known = ", ".join(name for name in (*STARTS, LAYERS) if name != "given")
            raise ValueError(f"start: expected one of {known}, or in Python a tensor, got {self.start!r}")
        if isinstance(self.step_size, str) and self.step_size not in STEP_RULES:
            raise ValueError(f"step_size: expected numbers or one of {', '.join(STEP_RULES)}, got {self.step_size!r}")
        if not 0 <= self.clamp_inputs < 0.5:
            raise ValueError(f"clamp_inputs: expected at least 0 and below 0.5, got {self.clamp_inputs}")
        if self.start == LAYERS and self.squash != "every":
            raise ValueError(f"squash: a start of layers is in logit space, expected every, got {self.squash!r}")
        at_least(0 if self.start == LAYERS else 1, steps=self.steps)
        at_least(0, further_steps=self.further_steps)
        if self.decode_steps is not None:
            at_least(0 if self.start == LAYERS else 1, decode_steps=self.decode_steps)
            if self.decode_steps and not self.steps:
                raise ValueError(f"decode_steps: a model of 0 steps has no step size for {self.decode_steps} of them")
        if self.further_steps and (self.squash == "last" or not self.steps):
            raise ValueError(
                f"further_steps: {self.further_steps} steps need one before them and a squash of every or none, got "
                f"steps {self.steps} and squash {self.squash!r}"
            )
        above_zero(max_step=self.max_step, max_start=self.max_start, clamp_weights=self.clamp_weights)
        if self.max_start is not None and self.start != LAYERS:
            raise ValueError(f"max_start: bounds a start of layers, got a start of {self.start}; null for no bound")
        if self.step_size == "auto" and self.learn_step_size:
            raise ValueError("learn_step_size: a step size of auto is chosen, not learned; give a number to start from")
        sizes = self.step_sizes()
        if len(sizes) != self.steps or not all(0 < size < math.inf for size in sizes):
            raise ValueError(
                f"step_size: expected a positive number, or one for each of {self.steps} steps, got {self.step_size}"
            )

    def step_sizes(self) -> list[float]:
        """Return the step size of each step; 1 where a rule chooses it."""
        if isinstance(self.step_size, str):
            return [1.0] * self.steps
        return [self.step_size] * self.steps if isinstance(self.step_size, int | float) else list(self.step_size)
