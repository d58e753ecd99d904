"""Peak memory and throughput of one training step over depth: backpropagation's ways and layer-local training.

All methods train the same layers, with arcsinh, on the same batch with fused Adam:

- `backpropagation`: a squared error of the network's output against random targets, the least that any supervised
  training of these layers needs; an autoencoder with a mirrored decoder has twice the layers;
- `accumulation`: the same gradients, summed over micro-batches;
- `checkpoint`, `checkpoint_layers`: activations kept only between about sqrt(depth) segments, or between layers;
- `checkpoint_fused`: `checkpoint`, and every parameter is updated during the backward pass, its gradient then freed;
- `fa`: one alignment step through the whole network (Algorithm 1, T = 1);
- `local`: Algorithm 2, each layer's batch in micro-batches; `local_whole`: the whole batch at once.

`<method>_mb` is the peak of the bytes of all tensors that a step makes and that are alive together: activations,
gradients and temporaries. `<method>_gradients_mb` of these were gradients held for the optimiser at that moment.
Parameters, the optimiser's state and the batch itself are alive all the time and counted apart. What an operation
allocates and frees inside itself is no tensor: `allocated_mb` has the allocator's own peak, which sees that too.

Two families of constant width, `convolutional`, where activations outweigh weights, and `linear`, where weights
outweigh activations, and the encoder of Table 4. All methods take turns in one process; medians are compared.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from feature_alignment import align
from feature_alignment.core.local import Arcsinh, LocalNetwork
from feature_alignment.core.speed.allocator import reuse_memory
from feature_alignment.models.networks import Encoder, orthogonal_

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DEPTHS = (4, 8, 16, 32, 64)
METHODS = (
    "backpropagation",
    "accumulation",
    "checkpoint",
    "checkpoint_layers",
    "checkpoint_fused",
    "fa",
    "local",
    "local_whole",
)
#: Micro-batches at which accumulation and `local` are compared at equal throughput.
MICRO_BATCHES = (1, 4, 8, 16, 32)
#: Image, channels and width of the encoder of Table 4.
TABLE_4 = ((3, 64, 64), (32, 64, 128, 256), 4096)
#: Depth at which the allocator is asked too.
CHECKED_DEPTH = 16
MB = 1e6

Step = Callable[[], object]


# --- measuring ------------------------------------------------------------------------------------------


class LiveTensors(TorchDispatchMode):
    """Follows the storage of every tensor that is made inside it, from the operation that makes it to its release.

    A storage counts once, whole, however many tensors look at it; what existed before does not count.
    """

    def __init__(self, parameters: Iterable[nn.Parameter] = ()) -> None:
        super().__init__()
        self.parameters = list(parameters)
        self.live = self.peak = self.gradients_at_peak = 0
        self.known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tensors_of((args, kwargs)):
            self.follow(tensor, made_here=False)
        output = function(*args, **(kwargs or {}))
        for tensor in tensors_of(output):
            self.follow(tensor, made_here=True)
        if self.live >= self.peak:  # of equal peaks the last: gradients take their place a moment after they are made
            self.peak = self.live
            self.gradients_at_peak = sum(p.grad.nbytes for p in self.parameters if p.grad is not None)
        return output

    def follow(self, tensor: Tensor, made_here: bool) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes() if made_here else 0
        if key in self.known:
            return

        def release(_: Any) -> None:
            self.live -= size
            del self.known[key]

        self.known[key] = weakref.ref(storage, release)
        self.live += size


def tensors_of(structure: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(structure) if isinstance(leaf, Tensor)]


def live_peak(step: Step, parameters: Iterable[nn.Parameter] = ()) -> dict[str, float]:
    """Return the peak of what a step's tensors take, in megabytes, and the part that is held gradients."""
    with LiveTensors(parameters) as tracker:
        step()
    return {"mb": tracker.peak / MB, "gradients_mb": tracker.gradients_at_peak / MB}


def allocated_peak(step: Step) -> float:
    """Return the peak of what the allocator gives out during a step, in megabytes."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MB
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    live = peak = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda each: each.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak / MB


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def images_per_s(steps: dict[str, Step], batch: int, repeats: int) -> dict[str, float]:
    """Return the throughput of each step, by its median time; they take turns and have been warmed up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            synchronize()
            begun = time.perf_counter()
            step()
            synchronize()
            taken[name].append(time.perf_counter() - begun)
    return {name: batch / statistics.median(all_) for name, all_ in taken.items()}


# --- the methods ----------------------------------------------------------------------------------------


class Trainee:
    """A network with one optimiser per learning layer, and a step of every method."""

    def __init__(self, layers: Sequence[nn.Module], input_shape: Sequence[int], batch: int) -> None:
        torch.manual_seed(0)
        self.network = LocalNetwork(layers, input_shape).apply(orthogonal_).to(DEVICE)
        self.parameters = list(self.network.parameters())
        self.x = torch.rand(batch, *input_shape, device=DEVICE)
        self.target = torch.rand(batch, *self.network.shapes[-1], device=DEVICE)
        self.start = torch.zeros(1, *input_shape, device=DEVICE)
        rate = 1e-5
        self.optimizers = [
            torch.optim.Adam(layer.parameters(), lr=rate, fused=True) for layer in self.network.learning_layers()
        ]
        # Segments start at a layer that learns: an activation apart from it would be one more tensor to keep.
        self.blocks: list[list[nn.Module]] = []
        for layer in self.network:
            if isinstance(layer, nn.Linear | nn.Conv2d) or not self.blocks:
                self.blocks.append([])
            self.blocks[-1].append(layer)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().sum() / len(self.target)

    def update(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def backpropagation(self) -> None:
        self.loss(self.network(self.x), self.target).backward()
        self.update()

    def accumulation(self, micro_batch: int) -> None:
        for x, target in zip(self.x.split(micro_batch), self.target.split(micro_batch), strict=True):
            self.loss(self.network(x), target).backward()
        self.update()

    def checkpointed_loss(self, segments: int) -> Tensor:
        size = math.ceil(len(self.blocks) / segments)
        x = self.x
        for first in range(0, len(self.blocks), size):
            segment = nn.Sequential(*(layer for block in self.blocks[first : first + size] for layer in block))
            x = checkpoint(segment, x, use_reentrant=False)
        return self.loss(x, self.target)

    def checkpoint(self, segments: int | None = None) -> None:
        self.checkpointed_loss(segments or round(math.sqrt(len(self.blocks)))).backward()
        self.update()

    def checkpoint_layers(self) -> None:
        self.checkpoint(len(self.blocks))

    def checkpoint_fused(self) -> None:
        hooks = []
        for optimizer in self.optimizers:
            left = {id(p) for p in optimizer.param_groups[0]["params"]}

            def step(parameter: Tensor, left: set[int] = left, optimizer: torch.optim.Optimizer = optimizer) -> None:
                left.remove(id(parameter))
                if not left:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)

            hooks += [p.register_post_accumulate_grad_hook(step) for p in optimizer.param_groups[0]["params"]]
        self.checkpointed_loss(round(math.sqrt(len(self.blocks)))).backward()
        for hook in hooks:
            hook.remove()

    def fa(self) -> None:
        feature = align(self.network, self.network(self.x), self.start, check=False)
        self.loss(feature, self.x).backward()
        self.update()

    def local(self, micro_batch: int | None) -> None:
        self.network.local_step(self.x, self.optimizers, micro_batch=micro_batch)

    def local_whole(self) -> None:
        self.local(None)

    def step(self, method: str, micro_batch: int) -> Step:
        step = getattr(self, method)
        return functools.partial(step, micro_batch) if method in ("accumulation", "local") else step

    def frontier_steps(self) -> dict[str, Step]:
        sizes = [size for size in MICRO_BATCHES if size < len(self.x)]
        return {f"{method}_{n}": self.step(method, n) for method in ("accumulation", "local") for n in sizes} | {
            "local_whole": self.local_whole
        }

    def constants(self) -> dict[str, float]:
        """Return the megabytes of parameters and of the optimisers' state."""
        state = tensors_of([dict(optimizer.state) for optimizer in self.optimizers])
        return {
            "parameters_mb": round(sum(p.nbytes for p in self.parameters) / MB, 3),
            "optimizer_mb": round(sum(s.nbytes for s in state) / MB, 3),
        }


def measure(trainee: Trainee, steps: dict[str, Step], repeats: int) -> dict[str, dict[str, float]]:
    """Return memory and throughput of every step, by its name."""
    trainee.backpropagation()  # makes the optimisers' state; the steps that are followed warm up the rest
    results = {name: live_peak(step, trainee.parameters) for name, step in steps.items()}
    for name, rate in images_per_s(steps, len(trainee.x), repeats).items():
        results[name]["images_per_s"] = rate
    return {name: {key: round(value, 3) for key, value in result.items()} for name, result in results.items()}


def frontier(measured: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Compare `local` where it is fastest with accumulation where that is as fast, within 5 %, and smallest."""
    ours = max((each for each in measured if each.startswith("local_")), key=lambda e: measured[e]["images_per_s"])
    rivals = [each for each in measured if each.startswith("accumulation_")]
    as_fast = [each for each in rivals if measured[each]["images_per_s"] >= 0.95 * measured[ours]["images_per_s"]]
    if as_fast:
        rival = min(as_fast, key=lambda e: measured[e]["mb"])
    else:
        rival = max(rivals, key=lambda e: measured[e]["images_per_s"])
    return {
        "local": ours,
        "accumulation": rival,
        "accumulation_is_as_fast": bool(as_fast),
        "local_mb": measured[ours]["mb"],
        "accumulation_mb": measured[rival]["mb"],
        "local_images_per_s": measured[ours]["images_per_s"],
        "accumulation_images_per_s": measured[rival]["images_per_s"],
        "local_over_accumulation": round(measured[ours]["mb"] / measured[rival]["mb"], 3),
    }


# --- constant width -------------------------------------------------------------------------------------


def convolutional(depth: int, width: int) -> tuple[list[nn.Module], tuple[int, ...]]:
    layers = [layer for _ in range(depth) for layer in (nn.Conv2d(width, width, 3, 1, 1), Arcsinh())]
    return layers, (width, 32, 32)


def linear(depth: int, width: int) -> tuple[list[nn.Module], tuple[int, ...]]:
    return [layer for _ in range(depth) for layer in (nn.Linear(width, width), Arcsinh())], (width,)


def over_depth(family: Any, width: int, batch: int, micro_batch: int, repeats: int) -> dict[str, Any]:
    result: dict[str, Any] = {"width": width, "depths": list(DEPTHS)}
    allocated = {}
    for depth in DEPTHS:
        trainee = Trainee(*family(depth, width), batch)
        steps = {method: trainee.step(method, micro_batch) for method in METHODS}
        for method, measured in measure(trainee, steps, repeats).items():
            for key, value in measured.items():
                result.setdefault(f"{method}_{key}", []).append(value)
        for key, value in trainee.constants().items():
            result.setdefault(key, []).append(value)
        if depth == CHECKED_DEPTH:
            allocated = {method: round(allocated_peak(step), 3) for method, step in steps.items()}
            methods = measure(trainee, trainee.frontier_steps(), repeats)
    result["allocated_mb"] = {"depth": CHECKED_DEPTH, **allocated}
    result["equal_throughput"] = {"depth": CHECKED_DEPTH, **frontier(methods), "methods": methods}
    middle = DEPTHS.index(CHECKED_DEPTH)
    for name in ("local", "local_whole"):
        memory = result[f"{name}_mb"]
        result[f"{name}_deepest_over_shallowest"] = round(memory[-1] / memory[0], 3)
        result[f"{name}_over_backpropagation_at_{CHECKED_DEPTH}"] = round(
            memory[middle] / result["backpropagation_mb"][middle], 3
        )
    return result


# --- Table 4 --------------------------------------------------------------------------------------------


def table_4(shape: Sequence[int], channels: Sequence[int], width: int, batch: int, repeats: int) -> dict[str, Any]:
    trainee = Trainee([*Encoder(shape, channels, width, "arcsinh")], shape, batch)
    steps = {name: getattr(trainee, name) for name in METHODS if name not in ("accumulation", "local")}
    methods = measure(trainee, steps | trainee.frontier_steps(), repeats)
    comparison = frontier(methods)
    local, whole = methods[comparison["local"]], methods["backpropagation"]
    checked = {"backpropagation": trainee.backpropagation, **trainee.frontier_steps()}
    feature_maps = [4 * batch * math.prod(each) / MB for each in trainee.network.shapes[1:]]
    gradients = [sum(p.nbytes for p in layer.parameters()) / MB for layer in trainee.network.learning_layers()]
    in_place = in_place_peak(shape, channels, width, batch)
    return {
        **trainee.constants(),
        "methods": methods,
        "allocated_mb": {
            name: round(allocated_peak(checked[name]), 3)
            for name in ("backpropagation", comparison["local"], "local_whole")
        },
        "local_over_backpropagation": round(local["mb"] / whole["mb"], 3),
        "local_whole_over_backpropagation": round(methods["local_whole"]["mb"] / whole["mb"], 3),
        "local_speed_over_backpropagation": round(local["images_per_s"] / whole["images_per_s"], 3),
        "backpropagation_in_place_mb": round(in_place, 3),
        "local_over_backpropagation_in_place": round(local["mb"] / in_place, 3),
        "equal_throughput": comparison,
        "largest_feature_map_mb": round(max(feature_maps), 3),
        "largest_gradient_mb": round(max(gradients), 3),
    }


def in_place_peak(shape: Sequence[int], channels: Sequence[int], width: int, batch: int) -> float:
    """Return the peak of backpropagation with activations that keep nothing but their output, in megabytes."""
    trainee = Trainee([*Encoder(shape, channels, width, "leaky_relu")], shape, batch)
    trainee.backpropagation()
    return live_peak(trainee.backpropagation)["mb"]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro-batch", type=int, default=8, help="of `accumulation` and `local` over depth")
    parser.add_argument("--channels", type=int, default=8, help="of every convolutional layer, at 32 x 32")
    parser.add_argument("--width", type=int, default=384, help="of every linear layer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(arguments)
    reuse_memory()
    batch, micro_batch, repeats = options.batch, options.micro_batch, options.repeats
    result = {
        "benchmark": "memory",
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else f"cpu ({torch.get_num_threads()} threads)",
        "torch": torch.__version__,
        "batch": batch,
        "micro_batch": micro_batch,
        "repeats": repeats,
        "convolutional": over_depth(convolutional, options.channels, batch, micro_batch, repeats),
        "linear": over_depth(linear, options.width, batch, micro_batch, repeats),
        "table_4": table_4(*TABLE_4, batch, repeats),
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    main()
