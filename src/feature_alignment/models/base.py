"""What every model shares: the protocol ``encode``, ``decode``, ``reconstruct``, ``sample``, saving and loading."""

from __future__ import annotations

import functools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, cast, get_args

import pytorch_lightning as pl
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Adam

__all__ = ["Batch", "Model", "Schedule", "inference", "one_of"]

#: Images, shape ``(N, C, H, W)``, and labels, int64 of shape ``(N,)``, or none.
Batch = tuple[Tensor, Tensor | None]
Schedule = Literal["constant", "cosine"]

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound="Model")


def one_of(name: str, value: object, options: Any) -> None:
    """Raise a ValueError unless ``value`` is among those of the ``Literal`` type ``options``."""
    if value not in get_args(options):
        raise ValueError(f"{name}: expected one of {', '.join(get_args(options))}, got {value!r}")


def inference(method: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Run a method of a model in eval mode, without gradients, on the model's device; restore the mode afterwards."""

    def here(self: M, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, Tensor) else value

    @functools.wraps(method)
    def wrapped(self: M, *args: P.args, **kwargs: P.kwargs) -> R:
        training = self.training
        if training:
            self.eval()
        try:
            with torch.no_grad():
                on_device: Any = method
                return cast(
                    R,
                    on_device(
                        self,
                        *(here(self, each) for each in args),
                        **{name: here(self, each) for name, each in kwargs.items()},
                    ),
                )
        finally:
            if training:
                self.train()

    return cast(Callable[Concatenate[M, P], R], wrapped)


class Model(pl.LightningModule, ABC):
    """A model of images that reconstructs and samples.

    A subclass defines :meth:`encode`, :meth:`decode`, ``configure_optimizers`` (of :meth:`adam`) and
    ``training_step`` (which takes every :meth:`step` itself). The arguments of its ``__init__``, but for
    modules and tensors, travel in checkpoints and in ``config.json``. Images are floating point in [0, 1],
    shape ``(N, C, H, W)``; latents have shape ``(N, latent)``; labels are int64, shape ``(N,)``.

    Args:
        image_shape: ``(C, H, W)``.
        latent: size of the latent vector.
        classes: number of classes of a conditional model, 0 for an unconditional one.
        learning_rate: of Adam; the paper prints 1e-5, its code has 1e-4.
        betas: of Adam.
        schedule: of the learning rate: ``constant``, or ``cosine`` from its value to 0 over the
            training's steps, or over its time limit if that comes first.
    """

    #: Optimiser steps taken per training step.
    optimizers_per_step = 1
    #: Methods and modules that a training step evaluates, and that ``torch.compile`` may speed up.
    compiled: tuple[str, ...] = ()
    #: What reports call the images that :meth:`decode` returns.
    stage = "feature"

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int,
        classes: int = 0,
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        schedule: Schedule = "constant",
    ) -> None:
        super().__init__()
        # Of the subclasses too, with what this class got.
        self.save_hyperparameters(ignore=["discriminator", "encoder", "layers", "start"], logger=False)
        self.automatic_optimization = False
        if len(image_shape) != 3 or any(size < 1 for size in image_shape):
            raise ValueError(f"image_shape: expected channels, height and width, got {tuple(image_shape)}")
        if latent < 1:
            raise ValueError(f"latent: expected at least 1, got {latent}")
        if classes < 0 or classes == 1:
            raise ValueError(f"classes: expected 0 (no labels) or at least 2, got {classes}")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate: expected a positive number, got {learning_rate}")
        one_of("schedule", schedule, Schedule)
        self.image_shape = tuple(image_shape)
        self.latent = latent
        self.classes = classes
        #: Share of the training's time limit used up, set while training: schedules end with the time or the steps.
        self.time_used = 0.0
        #: The network that sharpens what the model decodes, where it has one.
        self.refiner: Any = None
        #: Mean and variance of the training images' latents, where no loss gives these a distribution to sample from.
        self.latent_statistics: nn.BatchNorm1d | None = None

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Return the latent of each image, shape ``(N, latent)``; the posterior's mean in a variational model."""

    @abstractmethod
    def decode(self, latent: Tensor, labels: Tensor | None = None, stress: float = 1.0) -> Tensor:
        """Return the image of each latent.

        Args:
            latent: shape ``(N, latent)``.
            labels: the class of each image, int64 of shape ``(N,)``, or a mixture of classes, floating point
                of shape ``(N, classes)``; needed exactly by a conditional model.
            stress: the value of the one-hot vector's one; above 1 it emphasises the class (§3.3).
        """

    @inference
    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Encode and decode. A conditional model without ``labels`` infers them, see :meth:`infer_labels`."""
        latent = self.encode(images)
        if self.classes and labels is None:
            labels = self.infer_labels(images)
        return self.decode(latent, labels)

    @inference
    def sample(
        self,
        count: int,
        labels: Tensor | None = None,
        stress: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Decode ``count`` latents drawn from the prior.

        Args:
            count: number of images.
            labels: the class of each image, shape ``(count,)``; drawn uniformly if a conditional model
                gets none.
            stress: as for :meth:`decode`.
            generator: source of randomness, on the CPU; torch's default if none.
        """
        latent = self.prior(count, generator)
        if self.classes and labels is None:
            labels = torch.randint(self.classes, (count,), generator=generator)
        return self.decode(latent, labels, stress)

    def prior(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents, shape ``(count, latent)``: from N(0, I), the prior of every model with one.

        A model whose loss leaves its latents free (plain feature alignment, an autoencoder) draws from the normal
        distribution with the mean and variance, element by element, that they had late in training.
        """
        draws = torch.randn(count, self.latent, generator=generator).to(self.device)
        if self.latent_statistics is None:
            return draws
        mean, variance = self.latent_statistics.running_mean, self.latent_statistics.running_var
        assert mean is not None
        assert variance is not None
        return mean + variance.sqrt() * draws

    @inference
    def refine(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Sharpen decoded images with the refiner.

        Raises:
            ValueError: the model has no refiner, or is conditional and gets no ``labels``.
        """
        if self.refiner is None:
            raise ValueError(f"refine: {type(self).__name__} has no refiner; its images are final as decoded")
        return cast(Tensor, self.refiner(images, self.one_hot(labels, len(images))))

    @inference
    def infer_labels(self, images: Tensor) -> Tensor:
        """Return the class under which each image is reconstructed best, shape ``(N,)``."""
        latent = self.encode(images)
        errors = []
        for label in range(self.classes):
            decoded = self.decode(latent, torch.full((len(images),), label, device=images.device))
            errors.append((images - decoded).square().flatten(1).sum(1))
        return torch.stack(errors).argmin(0)

    @inference
    def interpolate(self, latent: Tensor, labels: Tensor | None = None, size: int = 11) -> Tensor:
        """Decode a square of latents (and classes) that vary linearly between four corners; refined, if it can be.

        Args:
            latent: of the corners top left, top right, bottom left and bottom right, shape ``(4, latent)``.
            labels: their classes, shape ``(4,)``; needed exactly by a conditional model.
            size: images along each side.

        Returns:
            Shape ``(size, size, C, H, W)``.
        """
        if len(latent) != 4 or size < 2:
            raise ValueError(f"interpolate: expected 4 corners and a size of at least 2, got {len(latent)} and {size}")
        along = torch.linspace(0, 1, size, device=latent.device, dtype=latent.dtype)
        down, across = torch.meshgrid(along, along, indexing="ij")
        weights = torch.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], -1)
        weights = weights.view(-1, 4)
        corners = self.one_hot(labels, 4)
        mixtures = None if corners is None else weights @ corners
        images = self.decode(weights @ latent, mixtures)
        if self.refiner is not None:
            images = self.refine(images, mixtures)
        return images.view(size, size, *images.shape[1:])

    def check_images(self, images: Tensor) -> None:
        """Raise a ValueError unless ``images`` is a batch of this model's images."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"images: expected shape (N, {', '.join(map(str, self.image_shape))}), got {tuple(images.shape)}"
            )

    def check_latent(self, latent: Tensor) -> None:
        """Raise a ValueError unless ``latent`` is a batch of this model's latents."""
        if latent.ndim != 2 or latent.shape[1] != self.latent:
            raise ValueError(f"latent: expected shape (N, {self.latent}), got {tuple(latent.shape)}")

    def one_hot(self, labels: Tensor | None, count: int) -> Tensor | None:
        """Check ``labels`` (see :meth:`decode`) and return them as one-hot vectors, ``(N, classes)``, or none.

        Raises:
            ValueError: labels missing for a conditional model, given to an unconditional one, of another
                number than the images, or out of range.
        """
        if not self.classes:
            if labels is not None:
                raise ValueError(f"labels: this {type(self).__name__} was built without classes and takes none")
            return None
        if labels is None:
            raise ValueError(f"labels: this {type(self).__name__} was built for {self.classes} classes and needs them")
        labels = labels.to(self.device)
        if labels.is_floating_point():
            if labels.shape != (count, self.classes):
                raise ValueError(
                    f"labels: expected mixtures of shape ({count}, {self.classes}), got {tuple(labels.shape)}"
                )
            return labels.to(self.dtype)
        if labels.shape != (count,):
            raise ValueError(f"labels: expected shape ({count},), got {tuple(labels.shape)}")
        if not self.training and count and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            raise ValueError(
                f"labels: expected 0 to {self.classes - 1}, got {int(labels.min())} to {int(labels.max())}"
            )
        return nn.functional.one_hot(labels, self.classes).to(self.dtype)

    # --- training ---------------------------------------------------------------------------------------

    def adam(self, parameters: Iterable[nn.Parameter], factor: float = 1.0) -> Adam:
        """Return Adam for those of ``parameters`` that are trained, at ``factor`` times the learning rate."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        betas = tuple(self.hparams["betas"])
        return Adam(trained, lr=factor * self.hparams["learning_rate"], betas=betas, fused=True)

    @property
    def steps_done(self) -> int:
        """Training steps (batches) taken so far; Lightning's ``global_step`` counts every optimiser's."""
        return self.global_step // self.optimizers_per_step

    def scheduled_optimizers(self) -> list[Any]:
        """Return the optimisers, each at the learning rate that the schedule has for this step."""
        found = self.optimizers()
        optimizers = found if isinstance(found, list) else [found]
        if self.hparams["schedule"] == "cosine":
            done = max(self.global_step / max(1, int(self.trainer.estimated_stepping_batches)), self.time_used)
            factor = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group.setdefault("initial_lr", group["lr"])
                group["lr"] = group["initial_lr"] * factor
        return optimizers

    def step(self, optimizer: Any, loss: Tensor, clip: float | None = None) -> None:
        """Let ``optimizer`` take one step down ``loss``; ``clip`` bounds the norm of the gradient."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        if clip is not None:
            # Lightning's own refuses fused optimisers at any reduced precision, though only scaled gradients matter.
            nn.utils.clip_grad_norm_([each for group in optimizer.param_groups for each in group["params"]], clip)
        optimizer.step()

    @torch.no_grad()
    def track_latents(self, latent: Tensor) -> None:
        """Take a batch of latents into the statistics that :meth:`prior` draws from."""
        assert self.latent_statistics is not None
        # An average of the first hundred batches, then a moving one: nothing is left of the initial 0 and 1.
        self.latent_statistics.momentum = max(0.01, 1 / (1 + self.steps_done))
        self.latent_statistics(latent)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn uint8 images into floating point in [0, 1], on the device."""
        images, labels = batch
        return (images.to(self.dtype) / 255 if images.dtype == torch.uint8 else images), labels

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``model.safetensors`` (the weights) and ``config.json`` (the class and its arguments)."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        arguments = {name: value for name, value in self.hparams.items() if not isinstance(value, nn.Module | Tensor)}
        config = {"model": type(self).__name__, "arguments": arguments}
        weights = {name: tensor.detach().contiguous().cpu() for name, tensor in self.state_dict().items()}
        scratch = directory / "model.safetensors.part"
        scratch.write_bytes(save(weights, metadata={"format": "pt"}))
        scratch.replace(directory / "model.safetensors")  # whole or not at all
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls: type[M], name: str | Path, **arguments: Any) -> M:
        """Load what :meth:`save_pretrained` wrote, in eval mode, on the CPU.

        Args:
            name: a directory, or the name of a repository on the Hugging Face Hub (``owner/name``).
            arguments: override what ``config.json`` says; a custom ``encoder`` module has to be given.

        Raises:
            FileNotFoundError: there is no such model.
            ValueError: the files hold another model than the class asked for, or do not fit.
        """
        directory = Path(name)
        if not directory.is_dir():
            directory = _download(str(name))
        for file in ("config.json", "model.safetensors"):
            if not (directory / file).is_file():
                raise FileNotFoundError(f"{directory}: not a saved model, there is no {file}")
        try:
            config = json.loads((directory / "config.json").read_text())
            kind, saved = config["model"], config["arguments"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{directory / 'config.json'}: not the configuration of a model: {error}") from None
        known = {model.__name__: model for model in _subclasses(cls)}
        if kind not in known:
            raise ValueError(f"{directory}: holds the model {kind!r}, expected {' or '.join(sorted(known))}")
        model = known[kind](**(saved | arguments))
        try:
            model.load_state_dict(load_file(directory / "model.safetensors"))
        except Exception as error:
            reason = str(error).replace("\n", " ")
            raise ValueError(f"{directory / 'model.safetensors'}: does not fit config.json: {reason}") from None
        return cast(M, model.eval())


def _subclasses(cls: type[Model]) -> list[type[Model]]:
    found = [] if getattr(cls, "__abstractmethods__", None) else [cls]
    return found + [each for child in cls.__subclasses__() for each in _subclasses(child)]


def _download(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", "model.safetensors"]))
    except (HFValidationError, HfHubHTTPError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileNotFoundError(
            f"{name}: neither a directory nor a model that can be fetched from the Hugging Face Hub ({reason})"
        ) from None
