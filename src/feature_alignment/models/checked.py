"""What a model is given: images, latents and labels, each refused by its name if it is not what it has to be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Checked"]


class Checked:
    """Mixin that checks the arguments of a model."""

    options: Any
    image_shape: tuple[int, ...]
    training: bool
    # Properties of a model.
    latent: Any
    classes: Any
    device: Any
    dtype: Any

    def check_images(self, images: Tensor) -> None:
        """Raise a ValueError unless ``images`` is a batch of this model's images, in the dtype of its weights."""
        if tuple(images.shape[1:]) != self.image_shape:
            raise ValueError(
                f"images: expected shape (N, {', '.join(map(str, self.image_shape))}), got {tuple(images.shape)}"
            )
        self._check_dtype("images", images)

    def check_latent(self, latent: Tensor) -> None:
        """Raise a ValueError unless ``latent`` is a batch of this model's latents, in the dtype of its weights."""
        if latent.ndim != 2 or latent.shape[1] != self.latent:
            raise ValueError(f"latent: expected shape (N, {self.latent}), got {tuple(latent.shape)}")
        self._check_dtype("latent", latent)

    def check_classes(self) -> None:
        """Raise a ValueError unless the model has classes."""
        if not self.classes:
            raise ValueError(f"labels: this {type(self).__name__} was built without classes and has none to infer")

    def check_labels(self, labels: Tensor, count: int) -> None:
        """Raise unless ``labels`` are classes of ``count`` images.

        In training, those on a GPU are not read: that would synchronise with it in every update.

        Raises:
            TypeError: labels that are no tensor, or no integers.
            ValueError: labels of another shape, or out of range.
        """
        if not isinstance(labels, Tensor):
            raise TypeError(f"labels: expected a tensor, got {type(labels).__name__}")
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise TypeError(f"labels: expected integers, got {labels.dtype}")
        if labels.shape != (count,):
            raise ValueError(f"labels: expected shape ({count},), got {tuple(labels.shape)}")
        classes = self.options.classes
        if labels.numel() and (labels.device.type == "cpu" or not self.training):
            lowest, highest = int(labels.min()), int(labels.max())
            if not 0 <= lowest <= highest < classes:
                raise ValueError(f"labels: expected 0 to {classes - 1}, got {lowest} to {highest}")

    def one_hot(self, labels: Tensor | None, count: int) -> Tensor | None:
        """Check labels, see :meth:`Model.decode`, and return one-hot vectors, ``(count, classes)``, or none.

        Raises:
            ValueError: labels missing for a conditional model, given to an unconditional one, of the wrong shape, or,
                see :meth:`check_labels`, out of range.
            TypeError: labels that are no tensor, or no numbers.
        """
        if not self.classes:
            if labels is not None:
                raise ValueError(f"labels: this {type(self).__name__} was built without classes and takes none")
            return None
        if labels is None:
            raise ValueError(f"labels: this {type(self).__name__} was built for {self.classes} classes and needs them")
        if isinstance(labels, Tensor) and labels.is_floating_point():
            if labels.shape != (count, self.classes):
                raise ValueError(
                    f"labels: expected mixtures of shape ({count}, {self.classes}), got {tuple(labels.shape)}"
                )
            return labels.to(self.device, self.dtype)
        self.check_labels(labels, count)
        return nn.functional.one_hot(labels.to(self.device).long(), self.classes).to(self.dtype)

    def _check_dtype(self, name: str, given: Tensor) -> None:
        # Autocast converts what it is given; what it returned may be in half precision.
        if given.dtype != self.dtype and not torch.is_autocast_enabled(self.device.type):
            hint = "; as_floats() converts bytes" if given.dtype == torch.uint8 else ""
            raise ValueError(f"{name}: expected {self.dtype} as the weights of the model, got {given.dtype}{hint}")
