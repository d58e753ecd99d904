"""Plain feature alignment (§3.1): an encoder that is its own decoder, with no prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core import speed
from ..core.alignment import align
from ..core.cache import Cache
from ..core.checks import Network, Structure, refuse_batch_statistics
from ..core.draws import seeded
from ..core.layered_start import LayeredStart, cut
from ..core.linearization import affine_map
from ..core.pullback import Chain
from ..core.starts import draw_start, starts_with_noise
from ..core.structures import rows
from .fa_options import LAYERS, FAOptions
from .further_steps import further_error
from .inference import inference
from .losses import squared_error
from .model import Model
from .networks import Encoder, check_width, orthogonal_
from .snapshot import Snapshot
from .updates import Loss, Updates

__all__ = ["FA"]

#: To find more parameters unchanged takes longer than to evaluate the stages of a layered start for a batch of one.
COMPARED = 4_000_000


class FA(Model):
    r"""Feature alignment, Algorithm 1.

    The reconstruction of an image is the feature of its latent: the input that
    :func:`feature_alignment.align` reaches from a start that is independent of the image. Training minimises,
    per image,

    .. math::
        \mathcal L = \lVert x - \hat r \rVert^2

    The loss does not prescribe a distribution of the latents; samples are decoded from a
    distribution fitted to the latents of training images.

    Args:
        image_shape: ``(C, H, W)``, square.
        latent: size of the latent vector.
        encoder: a module of your own from ``(N, C, H, W)`` to ``(N, width)``, instead of the one described
            by ``channels``, ``width`` and ``activation``. It must treat the samples of a batch independently.
        stages: for a start of ``layers``, the modules whose composition is the encoder, first to last; by default
            a :class:`torch.nn.Sequential` is cut before every linear layer.
        options: see :class:`feature_alignment.models.fa_options.FAOptions`.

    Raises:
        ValueError: an option out of range, named.
    """

    Options: ClassVar[type[Any]] = FAOptions
    options: FAOptions
    has_prior = False
    decodes_class = False
    compiled: ClassVar[tuple[str, ...]] = ("evaluate", "follow")

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int = 32,
        *,
        encoder: nn.Module | None = None,
        stages: Sequence[nn.Module] | None = None,
        **options: Any,
    ) -> None:
        given = options.get("start")
        if isinstance(given, Tensor):
            options["start"] = "given"
        super().__init__(image_shape, latent=latent, **options)
        if encoder is not None:
            check_width(encoder, image_shape, self.options.width)
        asked = self.options
        self.encoder: nn.Module = encoder or Encoder(
            image_shape, asked.channels, asked.width, asked.activation, asked.activate_width
        )
        #: Maps the encoder's output to the latent; in a variational model, to the posterior's mean.
        self.mean = nn.Linear(asked.width, latent)
        for module in (self.mean, self.encoder if encoder is None else None):
            if module is not None:
                module.apply(orthogonal_)
        # The logarithm keeps a learned step size positive.
        self.log_step_sizes = nn.Parameter(torch.tensor(asked.step_sizes()).log(), requires_grad=asked.learn_step_size)
        start = given.to(self.mean.weight) if isinstance(given, Tensor) else torch.zeros(*image_shape)
        if start.shape != torch.Size(image_shape):
            raise ValueError(f"start: expected shape {tuple(image_shape)}, got {tuple(start.shape)}")
        self.start = nn.Parameter(start.clone(), requires_grad=asked.start == "learned")
        self._affine, self._is_affine = Cache[tuple[Tensor, Tensor]](), _is_affine(asked)
        self._linearized = Cache[Callable[[Structure], Tensor]]()
        bounds = torch.full((asked.steps,), asked.max_step or 1.0)
        #: Logarithms of the learned bounds on the steps' lengths.
        self.log_max_steps = nn.Parameter(bounds.log(), requires_grad=asked.max_step is not None)
        self.layered_start = self._layered_start(stages) if asked.start == LAYERS else None
        self.to(memory_format=torch.channels_last)  # doubles the convolutions' rate on a CPU

    # --- the protocol -----------------------------------------------------------------------------------

    @inference
    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:  # noqa: D102
        self.check_images(images)
        latent: Tensor = self.mean(self.encoder(images))
        return latent

    @inference
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:  # noqa: D102
        self.check_latent(latent)
        one_hot = self.one_hot(labels, latent.shape[0])
        one_hot = None if one_hot is None else stress * one_hot
        # What is kept under autocast would be used outside of it.
        if not self._is_affine or not speed.enabled() or torch.is_autocast_enabled(self.device.type):
            return self.feature(latent, one_hot, steps=self.options.decode_steps)
        matrix, offset = self._affine(self._followed(), self._affine_map)
        feature = torch.addmm(offset, rows(self.target(latent, one_hot)), matrix).view(-1, *self.image_shape)
        return self.squashed(feature)

    def noise(self, generator: torch.Generator | None) -> AbstractContextManager[None]:
        """Return the context in which a start of noise is drawn by ``generator``."""
        if generator is None or not starts_with_noise(self.options.start):
            return nullcontext()
        return seeded(int(torch.randint(2**62, (), generator=generator)), self.device)

    def feature(
        self, latent: Tensor, one_hot: Tensor | None = None, *, check: bool = False, steps: int | None = None
    ) -> Tensor:
        """Return the feature of each latent, given its class; differentiable. See :meth:`Snapshot.feature`."""
        return self.snapshot(latent.shape[0]).feature(latent, one_hot, check=check, steps=steps)

    # --- the network ------------------------------------------------------------------------------------

    def snapshot(self, count: int = 1) -> Snapshot:
        """Return the network at its current weights, to encode and align ``count`` images."""
        return Snapshot.of(self, count)

    def heads(self) -> list[nn.Linear]:
        """Return the parallel linear layers applied to the encoder's output."""
        return [self.mean]

    def all_heads(self, hidden: Tensor) -> Tensor:
        """Apply all heads to the encoder's output and concatenate their outputs, shape ``(N, K)``."""
        return torch.cat([head(hidden) for head in self.heads()], 1)

    def aligned_parts(self) -> list[Network]:
        """Return the functions that map the heads' outputs to the aligned output; here none, the two are equal."""
        return []

    def target(self, latent: Tensor, one_hot: Tensor | None = None) -> Structure:
        r"""Return :math:`z_x`, the output that the network should have at the feature."""
        return latent

    def starts(self, count: int) -> Tensor | Callable[[Structure], Tensor]:
        """Return :math:`r^0`, shape ``(1, C, H, W)`` or ``(count, C, H, W)``, or the function of targets it is."""
        if self.layered_start is not None:
            kept = self._keeps_start()
            return self._linearized(self._followed(), self.layered_start.linearized) if kept else self.layered_start
        return draw_start(self.options.start, self.start, count)

    def evaluate(self, layers: Chain, images: Tensor) -> Tensor:
        """Return ``layers(images)``; a method of its own so that ``torch.compile`` can replace it."""
        outputs: Tensor = layers(images)
        return outputs

    def follow(
        self,
        network: Chain,
        target: Structure,
        starts: Tensor | Callable[[Structure], Tensor],
        check: bool,
        steps: int,
        done: int = 0,
    ) -> Tensor:
        """Return the iterate of equation 2, before the squashing, after ``steps`` steps with this model's options.

        Args:
            network: from images to the aligned output.
            target: of each image.
            starts: see :meth:`starts`, or the iterates after ``done`` steps.
            check: as for :func:`feature_alignment.align`.
            steps: number of steps.
            done: number of steps taken before; those beyond T have the size and bound of the last one.
        """
        return align(
            Chain([torch.sigmoid, network]) if self.options.squash == "every" else network,
            target,
            starts,
            steps=steps,
            step_size=self._step_sizes(steps, done),
            max_step=None if self.options.max_step is None else _lasting(self.log_max_steps.exp(), steps, done),
            recompute=self.options.recompute,
            check=check,
        )

    def _keeps_start(self) -> bool:
        """Whether the start's stages, evaluated for a batch of one, are kept until the weights change."""
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or not speed.enabled():
            return False
        few = sum(each.numel() for each in self.parameters()) <= COMPARED
        return few and not torch.is_autocast_enabled(self.device.type)

    def _followed(self) -> list[Tensor]:
        """Return all that a feature depends on."""
        return [*self.aligned_parameters(), *self.flow_parameters(), *self.encoder.buffers()]

    def squashed(self, iterate: Tensor) -> Tensor:
        """Return the image that an iterate stands for: its sigmoid, unless the option ``squash`` is ``none``."""
        return iterate if self.options.squash == "none" else iterate.sigmoid()

    def _affine_map(self) -> tuple[Tensor, Tensor]:
        """Return matrix and offset of the affine map from targets to features, for one step from a shared start."""
        network, sizes = self.snapshot().network, self._step_sizes(1)
        size: Any = sizes if isinstance(sizes, str) else sizes[0]
        squashed = Chain([torch.sigmoid, network]) if self.options.squash == "every" else network
        return affine_map(squashed, self.start.unsqueeze(0), size)

    def _step_sizes(self, steps: int, done: int = 0) -> Any:
        """Return the sizes of the steps after the first ``done``, shape ``(steps,)``, or the name of their rule."""
        rule = self.options.step_size
        return rule if isinstance(rule, str) else _lasting(self.log_step_sizes.exp(), steps, done)

    def _layered_start(self, stages: Sequence[nn.Module] | None) -> LayeredStart:
        """Return the start that inverts the encoder approximately, stage by stage from the last to the first."""
        if stages is None and not isinstance(self.encoder, nn.Sequential):
            raise ValueError(
                f"start: layers needs stages=[...], the modules whose composition is the encoder, since "
                f"{type(self.encoder).__name__} is not an nn.Sequential; or take a start of zeros, without max_start"
            )
        stages = cut(self.encoder) if stages is None else stages  # type: ignore[arg-type]
        sample = self.start.detach().unsqueeze(0)
        start = LayeredStart([*stages, self._last_stage], sample, bound=self.options.max_start)
        with torch.no_grad():
            trial = torch.rand(sample.shape, generator=torch.Generator().manual_seed(0)).to(sample)
            whole = (Chain(stages)(trial.clone()), self.encoder(trial.clone()))  # they may work in place
            # On the device meta there are no values to compare.
            if not sample.is_meta and not torch.allclose(*whole, rtol=1e-4, atol=1e-5):
                raise ValueError(
                    "stages: their composition is not the encoder; is there a connection that skips a cut, or is one "
                    "of them another instance, with weights of its own, as by an import path?"
                )
        return start

    def _last_stage(self, hidden: Tensor) -> Structure:
        return Chain([self.all_heads, *self.aligned_parts()])(hidden)

    # --- training ---------------------------------------------------------------------------------------

    def aligned_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the aligned network: those of the encoder and of the heads."""
        return [*self.encoder.parameters(), *(each for head in self.heads() for each in head.parameters())]

    def flow_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the flow that are not the network's: of its steps and starts."""
        start = [] if self.layered_start is None else self.layered_start.parameters()
        return [self.log_step_sizes, self.log_max_steps, self.start, *start]

    def optimizers(self) -> dict[str, Optimizer]:  # noqa: D102
        return {"encoder": self.adam([*self.aligned_parameters(), *self.flow_parameters()])}

    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        r"""Take one update of Algorithm 1, on the mean of :math:`\lVert x - \hat r \rVert^2` over the batch.

        With ``further_steps``, see :mod:`feature_alignment.models.further_steps`.
        """
        images = self.prepare(images, updates)

        def loss() -> Loss:
            network = self.snapshot(len(images))
            target = self.target(network.outputs(images))
            total, error, _ = self.reconstruction(network, images, target, updates.done)
            return Loss(total, {"reconstruction": error.detach()})

        updates.take("encoder", loss, self.options.clip_gradient)

    def reconstruction(
        self, network: Snapshot, images: Tensor, target: Structure, updates_done: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return the loss of the reconstruction, the mean of :math:`\lVert x - \hat r \rVert^2`, and the features.

        The two are equal unless the option ``further_steps`` adds the error after these to the loss.
        """
        iterate = network.iterate(target, check=updates_done == 0)
        features = self.squashed(iterate)
        error = squared_error(images, features).mean()
        if not self.options.further_steps:
            return error, error, features
        return 0.5 * (error + further_error(network, images, target, iterate, updates_done)), error, features

    def prepare(self, images: Tensor, updates: Updates) -> Tensor:
        """Clamp the weights, refuse batch statistics before the first update, and return the clamped images."""
        self.clamp_weights()
        if updates.done == updates.begun:
            refuse_batch_statistics(self.encoder)
        margin = self.options.clamp_inputs
        return images.clamp(margin, 1 - margin) if margin else images

    @torch.no_grad()
    def clamp_weights(self) -> None:
        r"""Clamp the encoder's parameters to :math:`[-\sqrt 2, \sqrt 2]`, or to the option's bound (equation 7)."""
        bound = self.options.clamp_weights
        if bound is not None:
            for parameter in self.aligned_parameters():
                if parameter.requires_grad:  # what is frozen stays as it was given
                    parameter.clamp_(-bound, bound)


def _lasting(values: Tensor, steps: int, done: int = 0) -> Tensor:
    """Return the ``steps`` values after the first ``done``, with the last one repeated if there are fewer."""
    if steps and not len(values):
        raise ValueError(f"steps: a model of 0 steps has no step size for {steps} of them")
    return values[torch.arange(done, done + steps, device=values.device).clamp(max=max(len(values) - 1, 0))]


def _is_affine(options: FAOptions) -> bool:
    """Whether decoding is an affine map, as after one step from a start shared by all images."""
    known = options.max_step is None and (not isinstance(options.step_size, str) or options.step_size == "auto")
    steps = options.steps if options.decode_steps is None else options.decode_steps
    if not known or steps != 1 or options.start == LAYERS:
        return False
    return not starts_with_noise(options.start)
