"""Parts of a model as files: traced, written, read back, and compared with the model."""

from __future__ import annotations

import copy
import io
import itertools
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._dynamo.exc import UserError
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from ..extras import require
from ..files import write_atomically
from ..models.model import Model
from .parts import Part, parts_of
from .tracing import traced

__all__ = ["FORMATS", "ExportError", "Exported", "Format", "export"]

#: A part, read back from its file.
Loaded: TypeAlias = Callable[..., Tensor]
#: Batches on which the file is compared with the model.
CHECKED = (1, 5)


class ExportError(ValueError):
    """A part that cannot be exported, or whose file does not compute what the model does."""


@dataclass(frozen=True)
class Exported:
    """What became of a part.

    Attributes:
        part: its name.
        path: its file, or none if there is none.
        difference: largest difference of an output from the model's own, over batches of 1 and 5.
        reason: why there is no file.
    """

    part: str
    path: Path | None = None
    difference: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        write: from a part and its program to the content of a file.
        read: from this content to a function of the part's inputs, run as another program would.
    """

    write: Callable[[Part, ExportedProgram], bytes]
    read: Callable[[bytes], Loaded]


def export(
    model: Model,
    directory: str | Path,
    *,
    format: str = "onnx",  # noqa: A002
    tolerance: float = 1e-4,
) -> Iterator[Exported]:
    """Write encoder, decoder and refiner of a model, each into a file of its own, checked against the model.

    Every file takes batches of any size. For inputs and outputs see :func:`feature_alignment.export.parts_of`. The
    decoder takes ``decode_steps``, by default the trained number of steps. Before a file is written its content is
    run, ``pt2`` by PyTorch and ``onnx`` by onnxruntime, on batches of 1 and of 5 samples, and compared with the model.

    Args:
        model: on the CPU; the files compute in float32, whatever its dtype.
        directory: where the files are written; it is created.
        format: ``pt2``, for :func:`torch.export.load`, which needs nothing of this package, or ``onnx``.
        tolerance: largest difference allowed between the outputs of file and model, relative to the largest output
            if that is above 1.

    Yields:
        What became of each part, as it is finished.

    Raises:
        ExportError: a difference above the tolerance, an operation that the format does not have, or a part that
            computes only batches of one size.
        ValueError: an unknown format, a tolerance that is not positive, or a model on another device.
        MissingExtra: ``onnx``, and its libraries are not installed.

    Example:
        >>> from feature_alignment.models import AE
        >>> model = AE((1, 8, 8), latent=4, channels=(4,), width=16)
        >>> [(each.part, each.path.name) for each in export(model, folder, format="pt2")]
        [('encoder', 'encoder.pt2'), ('decoder', 'decoder.pt2')]
        >>> decode = torch.export.load(folder / "decoder.pt2").module()
        >>> decode(torch.zeros(7, 4)).shape
        torch.Size([7, 1, 8, 8])
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected a number greater than 0, got {tolerance}")
    if model.device.type != "cpu":
        raise ValueError(f"model: expected on the CPU, got {model.device}; model.cpu() moves it")
    if model.dtype != torch.float32:
        model = copy.deepcopy(model).float()
    parts, missing = parts_of(model)
    for name, reason in missing.items():
        yield Exported(name, reason=reason)
    batch = _batch(model)
    for part in parts:
        content, difference = _checked(part, batch, FORMATS[format], format, tolerance)
        path = Path(directory) / f"{part.name}.{format}"
        write_atomically(path, content)
        yield Exported(part.name, path, difference)


def _batch(model: Model) -> int:
    """Return a batch size for tracing, which takes equal sizes for one: it is none of the model's other sizes."""
    sizes = {size for each in (*model.parameters(), *model.buffers()) for size in each.shape}
    sizes.update(model.image_shape, (model.latent, model.classes))
    return next(count for count in itertools.count(3) if count not in sizes)


def _checked(part: Part, batch: int, form: Format, name: str, tolerance: float) -> tuple[bytes, float]:
    """Return the content of a part's file, and how far its outputs are from the part's own."""
    try:
        program = traced(part.function, part.example(batch))
    except (UserError, GuardOnDataDependentSymNode) as refusal:
        reason = " ".join(str(refusal).split())[:200]
        raise ExportError(f"{part.name}: cannot be exported for batches of any size: {reason}") from None
    content = form.write(part, program)
    loaded, difference = form.read(content), 0.0
    for count in CHECKED:
        inputs = part.example(count)
        with torch.no_grad():
            expected = part.function(*inputs)
            found = loaded(*inputs)
        error = float((found - expected).abs().max())
        if found.shape != expected.shape or not error <= tolerance * max(1.0, float(expected.abs().max())):
            raise ExportError(
                f"{part.name}: as {name}, its outputs for a batch of {count} differ from the model's by up to "
                f"{error:.2g}, above the tolerance of {tolerance:.2g}; no file was written"
            )
        difference = max(difference, error)
    return content, difference


def _write_pt2(part: Part, program: ExportedProgram) -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():  # of weights in channels_last on other devices than a CPU
        warnings.filterwarnings("ignore", "No complete tensor found")
        torch.export.save(program, content)
    return content.getvalue()


def _read_pt2(content: bytes) -> Loaded:
    module: Any = torch.export.load(io.BytesIO(content)).module()
    return module  # type: ignore[no-any-return]


def _write_onnx(part: Part, program: ExportedProgram) -> bytes:
    require("onnxscript", "export", "the format onnx")
    content = io.BytesIO()
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it tells what it does not optimise
    try:
        found: Any = torch.onnx.export(
            program, dynamo=True, input_names=part.inputs, output_names=(part.output,), verbose=False
        )
    except torch.onnx.errors.OnnxExporterError as error:
        missing = re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", str(error))
        reason = f"ONNX has no {missing[1]}" if missing else " ".join(str(error).split())[:200]
        raise ExportError(f"{part.name}: cannot be exported to onnx: {reason}; the format pt2 has it") from None
    found.save(content)
    return content.getvalue()


def _read_onnx(content: bytes) -> Loaded:
    session = require("onnxruntime", "export", "the format onnx").InferenceSession(
        content, providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        given = {name: each.numpy() for name, each in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return run


#: File formats by name, which is also the ending of the files.
FORMATS = {"pt2": Format(_write_pt2, _read_pt2), "onnx": Format(_write_onnx, _read_onnx)}
