"""The batches of a training, each a pure function of the seed and the batch's number."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import torch
from torch import Tensor

from .errors import DataError
from .images import Images

__all__ = ["Batches"]


class Batches:
    """Shuffled batches of a data set, by number: to resume a training, no other state has to be stored.

    The order of the images is a new permutation every epoch, drawn by a :class:`torch.Generator` whose seed is the
    first eight bytes, big-endian, of the SHA-256 of the text ``"SEED EPOCH"``. An incomplete last batch is dropped.
    In every update, ``W`` processes with batches of ``b`` together get the batch of one process with ``W * b``:
    process ``r`` has its images ``r``, ``r + W``, ``r + 2 W``, ...

    Args:
        images: the training split; if its labels are none, so are those of the batches.
        batch_size: images per batch and process.
        seed: of the order.
        device: of the batches. A set smaller than a quarter of a CUDA device's free memory is moved there as a
            whole; a larger one is transferred batch by batch from pinned memory.
        rank: index of this process, from 0.
        world_size: number of processes.

    Raises:
        DataError: fewer images than a batch of all processes.
        ValueError: a rank outside of 0 to ``world_size - 1``.

    Example:
        >>> images = Images("squares", "train", torch.zeros(10, 1, 4, 4, dtype=torch.uint8), None, ())
        >>> batches = Batches(images, 4, seed=0)
        >>> len(batches)
        2
        >>> pixels, labels = batches.batch(7)
        >>> pixels.shape, pixels.dtype, labels
        (torch.Size([4, 1, 4, 4]), torch.uint8, None)
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: expected 0 to {world_size - 1}, for world_size {world_size}, got {rank}")
        if batch_size < 1 or batch_size * world_size > len(images):
            processes = f" in each of {world_size} processes" if world_size > 1 else ""
            raise DataError(
                f"batch_size: expected 1 to {len(images) // world_size}{processes}, the training images of "
                f"{images.name}, got {batch_size}"
            )
        self.device = torch.device(device)
        self.images = _moved(images, self.device)
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        self._epoch: int | None = None
        self._order = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self.images) // (self.batch_size * self.world_size)

    def batch(self, update: int) -> tuple[Tensor, Tensor | None]:
        """Return this process's part of batch number ``update``, counted from 0 over all epochs.

        Returns:
            On the device: pixels, uint8, shape ``(batch_size, C, H, W)``, and labels, int64, shape ``(batch_size,)``.

        Raises:
            ValueError: a negative number.
        """
        if update < 0:
            raise ValueError(f"update: expected at least 0, got {update}")
        epoch, number = divmod(update, len(self))
        whole = self.batch_size * self.world_size
        chosen = self._order_of(epoch)[number * whole : (number + 1) * whole][self.rank :: self.world_size]
        labels = self.images.labels
        return self._on_device(self.images.pixels[chosen]), None if labels is None else self._on_device(labels[chosen])

    def _order_of(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            digest = hashlib.sha256(f"{self.seed} {epoch}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
            order = torch.randperm(len(self.images), generator=generator)
            self._epoch, self._order = epoch, order.to(self.images.pixels.device)
        return self._order

    def _on_device(self, values: Tensor) -> Tensor:
        if values.device.type == "cpu" and self.device.type == "cuda":
            return values.pin_memory().to(self.device, non_blocking=True)
        return values.to(self.device)


def _moved(images: Images, device: torch.device) -> Images:
    """Return the images on a CUDA device if they are less than a quarter of its free memory."""
    if device.type != "cuda" or images.pixels.nbytes >= torch.cuda.mem_get_info(device)[0] / 4:
        return images
    labels = None if images.labels is None else images.labels.to(device)
    return replace(images, pixels=images.pixels.to(device), labels=labels)
