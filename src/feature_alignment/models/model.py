"""The base class of the models: the protocol ``encode``, ``decode``, ``reconstruct``, ``sample``, ``refine``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ..samplers import Sampler
from .checked import Checked
from .inference import inference
from .options import ModelOptions, build, with_options
from .sampling import Samplers
from .saving import Saved

if TYPE_CHECKING:
    from .updates import Updates

__all__ = ["Model"]


class Model(Saved, Checked, nn.Module, ABC):
    """A model of images that reconstructs and samples.

    A subclass defines :meth:`encode`, :meth:`decode`, :meth:`optimizers` and :meth:`training_step`, which states the
    losses and the order of their updates; its options are the dataclass ``Options``. Images are floating point
    in [0, 1], shape ``(N, C, H, W)``; latents have shape ``(N, latent)``; labels are int64, shape ``(N,)``.

    Args:
        image_shape: ``(C, H, W)``.
        options: see :class:`feature_alignment.models.options.ModelOptions`.

    Raises:
        TypeError: an option that this model does not have.
        ValueError: an option out of range, named.
    """

    Options: ClassVar[type[Any]] = ModelOptions
    #: Names of the methods and modules evaluated in a training step that ``torch.compile`` may compile.
    compiled: ClassVar[tuple[str, ...]] = ()
    #: Name, in reports and ``metrics.json``, of the images that :meth:`decode` returns.
    stage: ClassVar[str] = "feature"
    #: Whether training gives the latents the distribution N(0, I).
    has_prior: ClassVar[bool] = True
    #: Whether what :meth:`decode` returns depends on the class. Where it does not, a class has its latents alone.
    decodes_class: ClassVar[bool] = True
    #: Whether the latent of an image depends on the class it is given, in a conditional model.
    encodes_class: bool = False
    #: Whether :meth:`encode` is a network, rather than a search.
    has_encoder: ClassVar[bool] = True
    #: Whether ``clip_gradient`` bounds the gradients of a training.
    clips_gradients: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        with_options(cls, cls.Options)

    def __init__(self, image_shape: Sequence[int], **options: Any) -> None:
        super().__init__()
        if len(image_shape) != 3 or any(size < 1 for size in image_shape):
            raise ValueError(f"image_shape: expected channels, height and width, got {tuple(image_shape)}")
        self.options: ModelOptions = build(self.Options, type(self).__name__, options)
        self.image_shape = tuple(image_shape)
        self._class_names: tuple[str, ...] = ()
        #: The ``white`` of the :class:`feature_alignment.data.Images` that it was trained on.
        self.white: dict[str, float] = {}
        #: The network that sharpens decoded images, if the model has one.
        self.refiner: Any = None
        #: The distributions from which the latents of samples may be drawn.
        self.samplers = Samplers(self.latent, self.classes, self.options.sampler, self.has_prior)

    @property
    def latent(self) -> int:
        """Size of the latent vector."""
        return self.options.latent

    @property
    def classes(self) -> int:
        """Number of classes, 0 for an unconditional model."""
        return self.options.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of a conditional model; the numbers ``"0"``, ``"1"``, ... until it is trained."""
        return self._class_names or tuple(map(str, range(self.classes)))

    @class_names.setter
    def class_names(self, names: tuple[str, ...]) -> None:
        self._class_names = names

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return next(self.parameters()).dtype

    # --- the protocol -----------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the latent of each image, shape ``(N, latent)``; the posterior's mean in a variational model.

        Args:
            images: in [0, 1], shape ``(N, C, H, W)``.
            labels: their classes as for :meth:`decode`; they matter to a conditional model whose latents depend on them
                (:attr:`encodes_class`), which infers them if none are given.
        """

    @abstractmethod
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:
        """Return the image of each latent, shape ``(N, C, H, W)``.

        Args:
            latent: shape ``(N, latent)``.
            labels: the class of each image, int64 of shape ``(N,)``, or a mixture of classes, floating point
                of shape ``(N, classes)``; required by a conditional model, refused by an unconditional one.
            stress: value of the non-zero entry of the one-hot vector; above 1 it emphasises the class (§3.3).

        Raises:
            ValueError: latents of another shape, or labels that are missing, superfluous or out of range.
        """

    @inference
    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Encode and decode. A conditional model infers the labels if none are given, see :meth:`infer_labels`."""
        if self.classes and labels is None:
            labels = self.assumed_labels(images)
        return self.decode(self.encode(images, labels), labels)

    @inference
    def sample(
        self,
        count: int,
        labels: Tensor | None = None,
        stress: float = 1.0,
        generator: torch.Generator | None = None,
        sampler: str | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Decode ``count`` latents drawn from a sampler; shape ``(count, C, H, W)``.

        Args:
            count: number of images.
            labels: the class of each image, shape ``(count,)``; by default a conditional model draws them
                uniformly.
            stress: as for :meth:`decode`.
            generator: source of randomness, on the CPU, of a start of noise too; by default PyTorch's global one.
            sampler: name of the sampler, by default the option ``sampler``.
            temperature: factor on the noise of the latents; below 1 samples are more typical and differ less.
        """
        if self.classes and labels is None:
            labels = torch.randint(self.classes, (count,), generator=generator)
        latent = self.prior(count, generator, labels, sampler, temperature)
        with self.noise(generator):
            return self.decode(latent, labels, stress)

    def noise(self, generator: torch.Generator | None) -> AbstractContextManager[None]:
        """Return the context in which a decoder that draws random numbers, as most do not, draws by ``generator``."""
        return nullcontext()

    def prior(
        self,
        count: int,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
        sampler: str | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw latents, shape ``(count, latent)``, from the sampler of that name, by default the option ``sampler``.

        Raises:
            ValueError: an unknown sampler, or one that was not fitted; a temperature below 0 or infinite.
        """
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature: expected a number of at least 0, got {temperature}")
        if labels is not None and not isinstance(labels, Tensor):
            raise TypeError(f"labels: expected a tensor, got {type(labels).__name__}")
        return self.sampler(sampler).draw(count, labels, generator, temperature).to(self.device, self.dtype)

    def sampler(self, name: str | None = None) -> Sampler:
        """Return a sampler of latents by its name, or ``best``; by default the option ``sampler``."""
        return self.samplers.choose(name)

    def fit_samplers(self, images: Tensor, labels: Tensor | None = None, chunk: int = 250) -> None:
        """Fit the samplers to the latents of training images, as ``falign train`` does at the end.

        Args:
            images: floating point in [0, 1], or uint8 up to 255; shape ``(N, C, H, W)``, at least two.
            labels: their classes, int64 of shape ``(N,)``; required by a conditional model.
            chunk: number of images encoded at a time.
        """
        given = labels if self.classes else None
        if given is not None:
            self.check_labels(given, len(images))
        parts = images.split(chunk)
        classes = [None] * len(parts) if given is None else given.split(chunk)
        known = zip(map(self.as_floats, parts), classes, strict=True)
        latents = torch.cat([self.sampled_latents(part, labels) for part, labels in known])
        self.samplers.fit(latents, given)

    @inference
    def sampled_latents(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the latent of each image to which samplers are fitted; of a variational model a posterior's draw."""
        return self.encode(images, labels)

    def as_floats(self, images: Tensor) -> Tensor:
        """Return images in [0, 1]: uint8 ones are divided by 255 in the model's dtype, others returned unchanged."""
        return images.to(self.dtype) / 255 if images.dtype == torch.uint8 else images

    @inference
    def refine(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Sharpen decoded images, shape ``(N, C, H, W)``, with the refiner.

        Raises:
            ValueError: the model has no refiner, or is conditional and ``labels`` are missing; images of another shape.
        """
        if self.refiner is None:
            raise ValueError(f"refine: {type(self).__name__} has no refiner; its images are final as decoded")
        self.check_images(images)
        return cast(Tensor, self.refiner(images, self.one_hot(labels, images.shape[0])))

    @inference
    def infer_labels(self, images: Tensor) -> Tensor:
        """Return the class given which each image is reconstructed best, int64, shape ``(N,)``.

        Where the class does not change what is decoded, it is the one under which the image's latent is most likely by
        the samplers.

        Raises:
            ValueError: the model has no classes, or no sampler of their latents, where these alone tell them apart.
        """
        self.check_classes()
        latent = None if self.encodes_class else self.encode(images)
        if not self.decodes_class:
            return self.samplers.most_likely_class(cast(Tensor, latent))
        errors = []
        for label in range(self.classes):
            labels = torch.full((len(images),), label, device=images.device)
            decoded = self.decode(self.encode(images, labels) if latent is None else latent, labels)
            errors.append((images - decoded).square().flatten(1).sum(1))
        return torch.stack(errors).argmin(0)

    def assumed_labels(self, images: Tensor) -> Tensor:
        """Return the labels with which an image is reconstructed if none are given: those inferred, see there.

        0 where they cannot be, and do not change what is decoded.
        """
        if self.decodes_class or self.samplers.tell_classes:
            return self.infer_labels(images)
        self.check_classes()
        return torch.zeros(len(images), dtype=torch.long, device=self.device)

    @inference
    def interpolate(self, latent: Tensor, labels: Tensor | None = None, size: int = 11) -> Tensor:
        """Decode a square grid of latents, bilinear between four corners; refined if there is a refiner.

        Classes are mixed as :meth:`between` does.

        Args:
            latent: of the corners top left, top right, bottom left and bottom right, shape ``(4, latent)``.
            labels: their classes, shape ``(4,)``; required by a conditional model, refused by an unconditional one.
            size: images along each side, at least 2.

        Returns:
            Shape ``(size, size, C, H, W)``.

        Raises:
            ValueError: not four corners, a size below 2, or unsuitable labels.
        """
        if len(latent) != 4 or size < 2:
            raise ValueError(f"interpolate: expected 4 corners and a size of at least 2, got {len(latent)} and {size}")
        along = torch.linspace(0, 1, size, device=latent.device, dtype=latent.dtype)
        down, across = torch.meshgrid(along, along, indexing="ij")
        weights = torch.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], -1)
        weights = weights.view(-1, 4)
        classes = self.between(weights, labels)
        images = self.decode(weights @ latent, classes)
        if self.refiner is not None:
            images = self.refine(images, classes)
        return images.view(size, size, *images.shape[1:])

    def between(self, weights: Tensor, labels: Tensor | None) -> Tensor | None:
        """Return the classes on the way between some: mixtures of one-hot vectors, scaled to the length of one.

        A shorter vector would be a class of less emphasis, for which there were no images in training.

        Args:
            weights: of the classes in each mixture, shape ``(N, K)``.
            labels: the classes, shape ``(K,)``; required by a conditional model, refused by an unconditional one.

        Returns:
            Shape ``(N, classes)``; none for an unconditional model.
        """
        corners = self.one_hot(labels, weights.shape[1])
        return None if corners is None else nn.functional.normalize(weights @ corners)

    # --- training ---------------------------------------------------------------------------------------

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """Return the optimisers, made by :meth:`adam`, by name; a name says what is trained, such as ``encoder``."""

    @abstractmethod
    def training_step(self, images: Tensor, labels: Tensor | None, updates: Updates) -> None:
        """State the losses of a batch and the order of their updates, each by ``updates.take``.

        Args:
            images: in [0, 1], shape ``(N, C, H, W)``.
            labels: their classes, int64 of shape ``(N,)``, or none.
            updates: minimises the losses, see :class:`feature_alignment.models.updates.Updates`.
        """

    def adam(self, parameters: Iterable[nn.Parameter], factor: float = 1.0) -> Adam:
        """Return Adam for those ``parameters`` that require a gradient, at ``factor`` times the learning rate.

        Raises:
            ValueError: none of them does.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if not trained:
            raise ValueError(
                f"{type(self).__name__}: all parameters of one of its optimisers are frozen; leave one free"
            )
        first, second = self.options.betas
        return Adam(trained, lr=factor * self.options.learning_rate, betas=(first, second), fused=True)
