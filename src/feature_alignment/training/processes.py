"""Several processes that train on every batch together: how they are started, and what they agree on."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .options import TrainingError, TrainingOptions

__all__ = [
    "Agreement",
    "averaged",
    "disconnect",
    "is_first_process",
    "launched",
    "refuse_unsynchronised",
    "synchronised",
    "together",
]

#: Time between two agreements, in seconds; each costs a synchronisation.
AGREED_EVERY = 1.0

#: Why a training's weights cannot be sharded.
NO_SHARDS = (
    "strategy: fsdp shards the weights and drops the gathered ones after the first derivative, but an update of "
    "feature alignment differentiates the encoder a second time; take ddp, where --model.recompute true or "
    "--precision bf16-true save memory, or the model Local, which needs memory for one layer at a time"
)


def launched(options: TrainingOptions) -> Fabric:
    """Return Fabric after starting its processes, or joining those that torchrun or SLURM started.

    Raises:
        TrainingError: what was asked for cannot be had here, by name.
    """
    if options.strategy == "fsdp":
        raise TrainingError(NO_SHARDS)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    devices, nodes = _started(options) or (options.devices, 1)
    several = _gpus(options) > 1 if devices == "auto" else _are_several(devices)
    try:
        fabric = Fabric(
            accelerator=options.accelerator,
            devices=devices,
            num_nodes=nodes,
            precision="32-true" if options.precision == "tf32" else options.precision,  # type: ignore[arg-type]
            # Static: which parameters a loss uses is found in the first update, and is the same in all others.
            strategy=DDPStrategy(static_graph=True) if several or nodes > 1 else "auto",
        )
        fabric.launch()
    except (MisconfigurationException, ImportError, TypeError, ValueError, RuntimeError) as error:
        given = f"accelerator={options.accelerator}, devices={options.devices}, precision={options.precision}"
        raise TrainingError(f"training with {given}: {str(error).strip().splitlines()[0]}") from None
    if several or nodes > 1:
        atexit.register(disconnect)
    return fabric


def _are_several(devices: int | str) -> bool:
    """Whether a number of devices, or a list of theirs, ``"1,"`` or ``"0,1"``, has more than one."""
    listed = str(devices).split(",")
    return len([each for each in listed if each]) > 1 if len(listed) > 1 else listed != ["1"]


def _gpus(options: TrainingOptions) -> int:
    return 0 if options.accelerator == "cpu" else torch.cuda.device_count()


def _started(options: TrainingOptions) -> tuple[int, int] | None:
    """Return the processes a machine and the machines that torchrun or SLURM have started, if one of them has."""
    if TorchElasticEnvironment.detect():
        by, each = "torchrun", int(os.environ["LOCAL_WORLD_SIZE"])
        machines, way = int(os.environ["WORLD_SIZE"]) // each, "--nproc-per-node"
    elif SLURMEnvironment.detect():
        by, machines = "SLURM", int(os.environ.get("SLURM_NNODES", "1"))
        each, rest = divmod(int(os.environ["SLURM_NTASKS"]), machines)
        way = "--ntasks-per-node"
        if rest:
            raise TrainingError(
                f"devices: SLURM started {os.environ['SLURM_NTASKS']} processes on {machines} machines, not as many on "
                f"each; set {way}"
            )
    else:
        return None
    if options.devices != "auto" and str(options.devices) != str(each):
        raise TrainingError(
            f"devices: {by} started {each} processes on every machine, got {options.devices}; set {by}'s {way}, and "
            "leave devices at auto"
        )
    return each, machines


def is_first_process() -> bool:
    """Whether this is the first of the processes of a training, also before :func:`launched`."""
    if TorchElasticEnvironment.detect():
        return os.environ["RANK"] == "0"
    if SLURMEnvironment.detect():
        return os.environ["SLURM_PROCID"] == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """Say in one line that another process has ended where this one waited for it in vain.

    Raises:
        TrainingError: instead of the error of the library that connects the processes.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
        if fabric.world_size == 1 or not lost:
            raise
        number = f"process {fabric.global_rank + 1} of {fabric.world_size}"
        raise TrainingError(f"{number}: another process has ended; its message says why") from None


def disconnect() -> None:
    """End the connection of several processes, and its threads; no training of theirs may follow.

    A thread of gloo that frees the tensors of the last exchange while the interpreter ends aborts the process, and
    torchrun then kills the others. The threads end with the last reference to the connection, and modules that hold
    one are parts of cycles.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()
        gc.collect()


def refuse_unsynchronised(model: nn.Module, device: torch.device, processes: int) -> None:
    """Refuse batch normalisation in several processes on a device for which PyTorch cannot synchronise it.

    Raises:
        TrainingError: names the layers, and what to train instead.
    """
    found = [] if processes == 1 or device.type == "cuda" else _normalising(model)
    if found:
        names = ", ".join(f"{name}.{key}".removeprefix(".") for name, _, key, _ in found[:3])
        raise TrainingError(
            f"devices: batch normalisation ({names}) would take the statistics of each process's own images; PyTorch "
            f"synchronises it on GPUs only, and {processes} processes train on the {device.type}: take one process, or "
            "no batch normalisation (GAN: --model.normalize false, VFAGAN: --model.refiner residual)"
        )


@contextmanager
def synchronised(model: nn.Module, processes: int) -> Iterator[None]:
    """Let several processes normalise by the statistics of the whole batch; on exit the layers are the old ones.

    Those share their parameters and statistics with the synchronised ones, if the model stays on its device.
    """
    found = [] if processes == 1 else _normalising(model)
    for _, parent, key, layer in found:
        setattr(parent, key, nn.SyncBatchNorm.convert_sync_batchnorm(layer))
    try:
        yield
    finally:
        for _, parent, key, layer in found:
            setattr(parent, key, layer)


def _normalising(model: nn.Module) -> list[tuple[str, nn.Module, str, nn.Module]]:
    """Return every batch normalisation with the name of its parent, the parent, and its key there."""
    return [
        (name, parent, key, layer)
        for name, parent in model.named_modules()
        for key, layer in parent.named_children()
        if isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm)
    ]


class Agreement:
    """What all processes do after an update, about once a second.

    Each has signals and a clock of its own, and one that stopped by itself would leave the others waiting.

    Args:
        fabric: of the training.
        done: number of updates done already.
    """

    def __init__(self, fabric: Fabric, done: int) -> None:
        self.fabric, self.next = fabric, done + 1
        self.last, self.at = done, time.perf_counter()

    def after(self, done: int, *wishes: int) -> list[int]:
        """Return the largest value of each wish over all processes; zeros between two agreements."""
        if self.fabric.world_size == 1:
            return [*wishes]
        if done < self.next:
            return [0] * len(wishes)
        now = time.perf_counter()
        pause = max(1, int(AGREED_EVERY * (done - self.last) / (now - self.at)))
        given = torch.tensor([*wishes, -pause], device=self.fabric.device)
        reduced: Tensor = self.fabric.all_reduce(given, reduce_op="max")  # type: ignore[assignment]
        *agreed, pause = map(int, reduced.tolist())
        self.next, self.last, self.at = done - pause, done, now
        return agreed


def averaged(fabric: Fabric, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the means of losses over all processes, whose parts of a batch are equally large."""
    if fabric.world_size == 1 or not losses:
        return losses
    stacked: Tensor = fabric.all_reduce(torch.stack(list(losses.values())), reduce_op="mean")  # type: ignore[assignment]
    return dict(zip(losses, stacked, strict=True))
