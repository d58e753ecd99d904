"""One optimiser step of feature alignment, against plain Algorithm 1 and against an autoencoder.

`ours` is the update of the model `FA`; `plain` is Algorithm 1 as its text reads: one start per sample,
`torch.autograd.grad(create_graph=True)`, layers of `torch.nn`, their default memory format, Adam's default loop;
`autoencoder` is the update of the model `AE`: the same encoder, a mirrored decoder, the memory format and
the fused Adam of ours. With more than one step, every step is squashed, on both sides. Then the complete step of
`VFAGAN` against a literal loop that encodes anew for every term and takes every gradient that `backward` takes.

All sides take turns in one process; medians are compared. On the CPU memory of freed tensors is used again, as the
command `falign` has it, for all sides alike. The best settings are the fastest of those tried.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from feature_alignment.core.speed.allocator import reuse_memory
from feature_alignment.models import AE, FA, VFAGAN, Model, Updates
from feature_alignment.training.compilation import compiled

TABLES: dict[str, dict[str, Any]] = {
    "2": {"image_shape": (1, 28, 28), "channels": (32, 64), "width": 4096},
    "3": {"image_shape": (3, 32, 32), "channels": (32, 64, 128), "width": 2048},
    "4": {"image_shape": (3, 64, 64), "channels": (32, 64, 128, 256), "width": 4096},
}
CLASSES = 10
#: Under some seeds a unit stands at LeakyReLU's kink where the flow starts, and rounding decides which slope it has.
SEED = 1
#: No case is repeated beyond this many seconds, if it has been repeated twice; twice as long for what the goals name.
SECONDS = 5.0
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: Of precision, beyond float32.
SETTINGS = ("tf32", "bfloat16") if DEVICE == "cuda" else ("bfloat16",)

Step = Callable[[], object]


# --- settings -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Run in `float32`, `tf32` (a GPU's) or `bfloat16` (by autocast)."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if name == "float32" else "high")
    torch.backends.cudnn.allow_tf32 = name != "float32"
    try:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=name == "bfloat16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def under(name: str, step: Step) -> Step:
    def wrapped() -> None:
        with precision(name):
            step()

    return wrapped


# --- our side, and the autoencoder ----------------------------------------------------------------------


def update_of(model: Model, images: Tensor, labels: Tensor | None, compiles: bool = False) -> Step:
    """Return a model's own update on a batch, past the checks of the first one; compiled as a training compiles it."""
    if compiles:
        compiled(model, "reduce-overhead" if DEVICE == "cuda" else "default").__enter__()  # until the process ends
    updates = Updates(model, total=1_000_000, done=1)

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        updates.step(images, labels)

    return step


# --- the textbook's side --------------------------------------------------------------------------------


def plain_layers(image_shape: Sequence[int], channels: Sequence[int], width: int) -> list[nn.Module]:
    """Return the layers of Tables 2 to 4 up to but without the last one."""
    colours, side = image_shape[0], image_shape[1]
    layers: list[nn.Module] = []
    for filters in channels:
        layers += [nn.Conv2d(colours, filters, 3, 1, 1), nn.LeakyReLU()]
        layers += [nn.Conv2d(filters, filters, 3, 2, 1), nn.LeakyReLU()]
        colours, side = filters, side // 2
    return [*layers, nn.Flatten(), nn.Linear(colours * side**2, width)]


def copy_weights(parameters: Sequence[Tensor], of: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for mine, other in zip(parameters, of, strict=True):
            mine.copy_(other)


def plain_loss(encoder: nn.Module, images: Tensor, steps: int) -> Tensor:
    """Algorithm 1, with the sigmoid of the published code; half the distance makes its gradient equation 1."""
    target = encoder(images)
    iterate = torch.zeros_like(images, requires_grad=True)
    for _ in range(steps):
        seen = iterate if steps == 1 else iterate.sigmoid()
        distance = 0.5 * (encoder(seen) - target).square().sum()
        (gradient,) = torch.autograd.grad(distance, iterate, create_graph=True)
        iterate = iterate - gradient
    return (images - iterate.sigmoid()).square().sum((1, 2, 3)).mean()


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class Literal:
    """One step of the variational model with refiner and discriminator, term by term, nothing shared."""

    def __init__(self, model: Any) -> None:
        """Take the weights and the options of ``model``, a `VFAGAN`."""
        options = model.options
        table = {"image_shape": model.image_shape, "channels": options.channels, "width": options.width}
        colours, self.side, _ = model.image_shape
        size, filters = self.side**2, options.refiner_filters
        self.trunk = nn.Sequential(*plain_layers(**table))
        self.heads = nn.ModuleList(nn.Linear(table["width"], size) for size in (model.latent, model.latent, CLASSES))
        self.label_channel = nn.Linear(CLASSES, size)
        self.refiner = nn.Sequential(
            nn.Conv2d(colours + 1, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.LeakyReLU(),
            nn.Conv2d(filters, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.LeakyReLU(),
            nn.Conv2d(filters, colours, 3, padding=1), nn.Sigmoid(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(*plain_layers(**table), nn.Linear(table["width"], 1))
        heads = [model.mean, model.log_variance, model.scores]
        pairs = [
            ([self.trunk, self.heads], [model.encoder, *heads]),
            ([self.label_channel, self.refiner], [model.refiner]),
            ([self.discriminator], [model.discriminator]),
        ]
        self.parameters: list[list[nn.Parameter]] = []
        for mine, theirs in pairs:
            parameters = [p for module in mine for p in module.to(DEVICE).parameters()]
            copy_weights(parameters, [p for module in theirs for p in module.parameters()])
            self.parameters.append(parameters)
        self.perceptual_weight = options.perceptual_weight
        rate, betas = options.learning_rate, options.betas
        self.optimizers = [torch.optim.Adam(group, lr=rate, betas=betas) for group in self.parameters]

    def encode(self, images: Tensor) -> list[Tensor]:
        """Return mean, log-variance and class scores."""
        hidden = self.trunk(images)
        return [head(hidden) for head in self.heads]

    def feature(self, latent: Tensor, one_hot: Tensor) -> Tensor:
        start = torch.zeros(len(latent), *self.shape, device=DEVICE, requires_grad=True)
        mean, log_variance, scores = self.encode(start)
        at_start = mean + (0.5 * log_variance).exp()
        distance = 0.5 * ((at_start - latent).square().sum() + (scores - one_hot).square().sum())
        (gradient,) = torch.autograd.grad(distance, start, create_graph=True)
        return (start - gradient).sigmoid()

    def refine(self, images: Tensor, one_hot: Tensor) -> Tensor:
        channel = self.label_channel(one_hot).view(-1, 1, self.side, self.side)
        return self.refiner(torch.cat([images, channel], 1))

    def step(self, images: Tensor, labels: Tensor) -> None:
        one_hot = nn.functional.one_hot(labels, CLASSES).to(images.dtype)
        self.shape = images.shape[1:]
        feature = self.encoder_step(images.clamp(0.01, 0.99), one_hot)
        self.refiner_step(images, feature.detach(), one_hot)
        self.discriminator_step(images, one_hot)

    def encoder_step(self, images: Tensor, one_hot: Tensor) -> Tensor:
        with torch.no_grad():
            for parameter in self.parameters[0]:
                parameter.clamp_(-(2**0.5), 2**0.5)
        mean, log_variance, _ = self.encode(images)
        feature = self.feature(mean + torch.randn_like(mean) * (0.5 * log_variance).exp(), one_hot)
        mean, log_variance, _ = self.encode(images)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
        beta = torch.rand_like(divergence)
        loss = (images - feature).square().sum((1, 2, 3)) + beta * divergence
        descend(self.optimizers[0], loss.mean())
        return feature

    def refiner_step(self, images: Tensor, feature: Tensor, one_hot: Tensor) -> None:
        refined = self.refine(feature, one_hot)
        adversarial = (1 - self.discriminator(refined)).square().mean()
        mean, log_variance, _ = self.encode(images.clamp(0.01, 0.99))
        seen_mean, seen_log_variance, _ = self.encode(refined)
        deviations = (0.5 * log_variance).exp() - (0.5 * seen_log_variance).exp()
        distance = (mean - seen_mean).square().sum(1) + deviations.square().sum(1)
        descend(self.optimizers[1], adversarial + self.perceptual_weight * distance.mean())

    def discriminator_step(self, images: Tensor, one_hot: Tensor) -> None:
        prior = torch.randn(len(images), self.heads[0].out_features, device=DEVICE)
        fake = self.refine(self.feature(prior, one_hot), one_hot).detach()
        real_loss = (1 - self.discriminator(images)).square().mean()
        descend(self.optimizers[2], real_loss + (-1 - self.discriminator(fake)).square().mean())


# --- measuring ------------------------------------------------------------------------------------------


def synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds_of(step: Step) -> float:
    synchronize()
    begun = time.perf_counter()
    step()
    synchronize()
    return time.perf_counter() - begun


def take_turns(steps: dict[str, Step], repeats: int, seconds: float) -> dict[str, list[float]]:
    """Return the milliseconds of every repeat, the steps in turn; they have been warmed up."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    begun = time.perf_counter()
    for repeat in range(repeats):
        if repeat >= 2 and time.perf_counter() - begun > seconds:
            break
        for name, step in steps.items():
            taken[name].append(1000 * seconds_of(step))
    return taken


def summary(taken: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "median_ms": round(statistics.median(all_), 2),
            "min_ms": round(min(all_), 2),
            "max_ms": round(max(all_), 2),
        }
        for name, all_ in taken.items()
    }


def by_minimum(taken: dict[str, list[float]], rival: str) -> float:
    """Return how many times as fast our fastest repeat is as the rival's: what a disturbed machine changes least."""
    return round(min(taken[rival]) / min(taken["ours"]), 3)


class Operations(TorchDispatchMode):
    """Counts the floating-point operations of products and convolutions.

    PyTorch's own `FlopCounterMode` also keeps track of modules, by hooks that refuse a gradient taken on the way.
    """

    total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=output)
        return output


def operations(step: Step) -> int:
    with Operations() as counter:
        step()
    return counter.total


#: Of PyTorch's operations, by how their names begin.
KINDS = {
    "convolution": "convolutions",
    "mm": "products",
    "addmm": "products",
    "leaky_relu": "activations",
    "native_batch_norm": "batch normalisation",
    "cudnn_batch_norm": "batch normalisation",
    "_fused_adam": "optimiser",
}


class Stopwatch(TorchDispatchMode):
    """Adds up the seconds that every kind of operation takes; on a GPU each is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = dict.fromkeys([*KINDS.values(), "other operations"], 0.0)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        begun = time.perf_counter()
        output = function(*args, **(kwargs or {}))
        synchronize()
        name = function.overloadpacket.__name__
        kind = next((kind for start, kind in KINDS.items() if name.startswith(start)), "other operations")
        self.seconds[kind] += time.perf_counter() - begun
        return output


def where(step: Step, repeats: int = 3) -> dict[str, float]:
    """Return which part of a step's time goes where."""
    with Stopwatch() as stopwatch:
        whole = sum(seconds_of(step) for _ in range(repeats))
    parts = {**stopwatch.seconds, "between operations": whole - sum(stopwatch.seconds.values())}
    return {name: round(seconds / whole, 3) for name, seconds in parts.items()}


def peak_rates(size: int, repeats: int) -> dict[str, float]:
    """Return the rate of a product of large matrices, operations a second, the best of the repeats."""
    rates = {}
    for name, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
        left, right = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
        with precision("float32"):
            rates[name] = 2 * size**3 / min(seconds_of(lambda x=left, y=right: x @ y) for _ in range(repeats + 1))
    return rates


def relative_difference(parameters: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return the norm of the difference of the gradients over that of the second's."""
    pairs = [(mine.grad.double(), other.grad.double()) for mine, other in zip(parameters, others, strict=True)]
    difference = sum(float((mine - other).square().sum()) for mine, other in pairs)
    return (difference / sum(float(other.square().sum()) for _, other in pairs)) ** 0.5


def warm_up(steps: dict[str, Step]) -> dict[str, str]:
    """Return what does not run, and why: a compiler's failure is a result too."""
    failed = {}
    for name, step in steps.items():
        try:
            for _ in range(3 if "compiled" in name else 1):
                step()
        except Exception as error:
            if "compiled" not in name:
                raise
            failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
    return failed


def fastest(median: dict[str, float], side: str) -> str:
    return min((name for name in median if name.startswith(side)), key=median.__getitem__)


def settings_of(name: str) -> str:
    return f"{name.removeprefix('ours').strip() or 'float32'}, channels_last, fused Adam"


def measure_table(
    table: dict[str, Any],
    steps: Sequence[int],
    batch: int,
    latent: int,
    repeats: int,
    peak: dict[str, float],
    compiles: bool,
) -> dict[str, dict[str, Any]]:
    torch.manual_seed(SEED)
    images = 0.01 + 0.98 * torch.rand(batch, *table["image_shape"], device=DEVICE)
    autoencoder = AE(latent=latent, **table).to(DEVICE)
    cases = {}
    for count in steps:
        # With an encoder given, none is initialised anew, which takes seconds.
        ours = FA(
            encoder=copy.deepcopy(autoencoder.encoder),
            latent=latent,
            steps=count,
            squash="last" if count == 1 else "every",
            **table,
        )
        cases[str(count)] = measure(table, ours.to(DEVICE), autoencoder, images, repeats, peak, compiles)
    return cases


def measure(
    table: dict[str, Any],
    ours: Any,
    autoencoder: Any,
    images: Tensor,
    repeats: int,
    peak: dict[str, float],
    compiles: bool,
) -> dict[str, Any]:
    steps, latent = ours.options.steps, ours.latent
    weights = [p.detach().clone() for p in ours.aligned_parameters()]
    copies: dict[str, Any] = {}
    turns: dict[str, Step] = {}

    def add_model(name: str, model: Any, setting: str, compiles: bool = False) -> None:
        copies[name] = copy.deepcopy(model)
        turns[name] = under(setting, update_of(copies[name], images, None, compiles))

    def add_plain(name: str, setting: str, **options: Any) -> None:
        encoder = nn.Sequential(*plain_layers(**table), nn.Linear(table["width"], latent)).to(DEVICE)
        copy_weights(list(encoder.parameters()), weights)
        if options:
            encoder.to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-4, betas=(0.5, 0.999), **options)
        copies[name] = encoder
        turns[name] = under(setting, lambda: descend(optimizer, plain_loss(encoder, images, steps)))

    add_plain("plain", "float32")
    add_model("ours", ours, "float32")
    add_model("autoencoder", autoencoder, "float32")
    for setting in SETTINGS:
        add_model(f"ours {setting}", ours, setting)
        add_model(f"autoencoder {setting}", autoencoder, setting)
    for setting in ("float32", *SETTINGS) if compiles else ():
        add_model(f"ours {setting}, compiled", ours, setting, compiles=True)
        add_model(f"autoencoder {setting}, compiled", autoencoder, setting, compiles=True)
    for setting in ("float32", "bfloat16") if steps == 1 else ():  # with our settings; more steps take too long
        add_plain(f"plain {setting}", setting, fused=True)

    count = {name: operations(turns[name]) for name in ("plain", "ours", "autoencoder")}
    reference = list(copies["plain"].parameters())
    known = {"float32": "ours", "bfloat16": "ours bfloat16"}
    if steps == 1:
        known["plain_bfloat16"] = "plain bfloat16"
    error = {}
    for name, side in known.items():
        if side not in count:
            turns[side]()
        model = copies[side]
        parameters = model.aligned_parameters() if isinstance(model, FA) else list(model.parameters())
        error[name] = relative_difference(parameters, reference)
    warm = {*count, *known.values()}
    failed = warm_up({name: step for name, step in turns.items() if name not in warm})
    running = {name: step for name, step in turns.items() if name not in failed}
    taken = take_turns(running, repeats, 2 * SECONDS if steps == 1 else SECONDS)
    median = {name: statistics.median(each) for name, each in taken.items()}
    best, best_autoencoder = (fastest(median, side) for side in ("ours", "autoencoder"))
    best_plain = {"best_speedup_over_best_plain": round(median[fastest(median, "plain")] / median[best], 3)}
    best_peak = peak["bfloat16" if "bfloat16" in best else "float32"]
    return {
        "repeats": len(taken["ours"]),
        "speedup_over_plain": round(median["plain"] / median["ours"], 3),
        "speedup_over_plain_by_minimum": by_minimum(taken, "plain"),
        "ratio_to_autoencoder": round(median["ours"] / median["autoencoder"], 3),
        "fraction_of_peak": round(count["ours"] / median["ours"] * 1e3 / peak["float32"], 3),
        "best_settings": settings_of(best),
        "best_speedup_over_plain": round(median["plain"] / median[best], 3),
        **(best_plain if steps == 1 else {}),
        "best_ratio_to_autoencoder": round(median[best] / median[best_autoencoder], 3),
        "best_fraction_of_peak": round(count["ours"] / median[best] * 1e3 / best_peak, 3),
        "gradient_error": {name: float(f"{value:.2e}") for name, value in error.items()},
        "gigaflop": {name: round(value / 1e9, 2) for name, value in count.items()},
        **({"where": where(turns["ours"])} if steps == 1 else {}),
        "milliseconds": summary(taken),
        **({"failed": failed} if failed else {}),
    }


def measure_vfa_gan(table: dict[str, Any], batch: int, latent: int, repeats: int, compiles: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    images = 0.01 + 0.98 * torch.rand(batch, *table["image_shape"], device=DEVICE)
    labels = torch.randint(CLASSES, (batch,), device=DEVICE)
    initial = VFAGAN(latent=latent, classes=CLASSES, **table).to(DEVICE)
    literal = Literal(initial)
    turns: dict[str, Step] = {"literal": under("float32", lambda: literal.step(images, labels))}

    def add_model(name: str, setting: str, compiles: bool = False) -> None:
        turns[name] = under(setting, update_of(copy.deepcopy(initial), images, labels, compiles))

    add_model("ours", "float32")
    for setting in SETTINGS:
        add_model(f"ours {setting}", setting)
    for setting in ("float32", *SETTINGS) if compiles else ():
        add_model(f"ours {setting}, compiled", setting, compiles=True)
    count = operations(turns["ours"])
    failed = warm_up(turns)
    taken = take_turns({name: step for name, step in turns.items() if name not in failed}, repeats, 2 * SECONDS)
    median = {name: statistics.median(each) for name, each in taken.items()}
    best = fastest(median, "ours")
    return {
        "repeats": len(taken["literal"]),
        "literal_ms": round(median["literal"], 1),
        "ours_ms": round(median["ours"], 1),
        "speedup": round(median["literal"] / median["ours"], 3),
        "speedup_by_minimum": by_minimum(taken, "literal"),
        "best_settings": settings_of(best),
        "best_ms": round(median[best], 1),
        "best_speedup": round(median["literal"] / median[best], 3),
        "gigaflop": round(count / 1e9, 2),
        "where": where(turns["ours"]),
        "milliseconds": summary(taken),
        **({"failed": failed} if failed else {}),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--latent", type=int, default=128, help="128 as in the configurations")
    parser.add_argument("--repeats", type=int, default=9, help="at most; fewer, but two, where a step takes seconds")
    parser.add_argument("--tables", nargs="*", choices=sorted(TABLES), default=sorted(TABLES))
    parser.add_argument("--steps", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--compile", action="store_true", default=DEVICE == "cuda", help="also try torch.compile")
    parser.add_argument("--quick", action="store_true", help="Table 2 and one step only, one repeat, batch 8")
    parser.add_argument("--peak-size", type=int, default=8192 if DEVICE == "cuda" else 3072, help="of its matrices")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(arguments)
    if options.quick:
        options.tables, options.steps, options.repeats, options.batch = ["2"], [1], 1, min(options.batch, 8)
        options.peak_size = 512

    reuse_memory()
    begun = time.perf_counter()
    peak = peak_rates(options.peak_size, options.repeats)
    tables = {
        table: measure_table(
            TABLES[table], options.steps, options.batch, options.latent, options.repeats, peak, options.compile
        )
        for table in options.tables
    }
    result = {
        "benchmark": "training_step",
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else f"cpu ({torch.get_num_threads()} threads)",
        "torch": torch.__version__,
        "batch": options.batch,
        "latent": options.latent,
        "peak_gigaflops": {name: round(rate / 1e9, 1) for name, rate in peak.items()},
        "tables": tables,
        "vfa_gan": measure_vfa_gan(TABLES["2"], options.batch, options.latent, options.repeats, options.compile),
        "seconds": round(time.perf_counter() - begun, 1),
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    main()
