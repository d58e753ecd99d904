"""Errors and warnings as one line for the user."""

from __future__ import annotations

import errno
import sys
from typing import Any

from ..extras import MissingExtra

__all__ = ["EXTRAS", "UsageError", "explain", "one_line", "show_warning"]

#: The extra that installs each optional module, by the module's import name.
EXTRAS = {
    "PIL": "train",
    "datasets": "hub",
    "docstring_parser": "train",
    "filelock": "train",
    "gradio": "explore",
    "huggingface_hub": "hub",
    "jinja2": "train",
    "jsonargparse": "train",
    "lightning_fabric": "train",
    "matplotlib": "train",
    "mlxtend": "train",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "pytorch_lightning": "train",
    "shtab": "train",
    "tensorboard": "train",
    "timm": "networks",
    "torch_fidelity": "fid",
    "torchmetrics": "train",
    "torchvision": "networks",
    "tqdm": "train",
    "transformers": "networks",
    "yaml": "train",
}


#: How a training is taken up again.
GOES_ON = "a training goes on from its checkpoint: falign train with --resume, falign reproduce as before"


class UsageError(Exception):
    """A request that cannot be met; the message is one line for the user."""


def explain(error: Exception) -> str | None:
    """Return the line to print for an error; none for a bug, whose traceback should be shown."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or 'a file'}: the disk is full; make room, {GOES_ON}"
    if isinstance(error, (UsageError, MissingExtra, OSError, *_of_other_rooms())):
        return one_line(error)
    if _is_out_of_memory(error):
        return (
            f"out of memory: {one_line(error)[:200] or type(error).__name__}; a smaller batch or network, or a larger "
            f"device, would fit; {GOES_ON}"
        )
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if missing in EXTRAS:
        return f"this needs {missing}: pip install 'feature-alignment[{EXTRAS[missing]}]'"
    return None


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, PyTorch's allocator of the CPU, or a GPU has no memory left."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _of_other_rooms() -> list[type[Exception]]:
    # Looked up in sys.modules to avoid heavy imports: a module that was never imported cannot have raised.
    named = {
        "feature_alignment.data": "DataError",
        "feature_alignment.networks": "NetworkError",
        "feature_alignment.export": "ExportError",
        "feature_alignment.training": "TrainingError",
    }
    return [getattr(sys.modules[module], name) for module, name in named.items() if module in sys.modules]


def one_line(message: object) -> str:
    """Return a message on one line, with each run of white space replaced by one space."""
    return " ".join(str(message).split())


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning in one line; replaces :func:`warnings.showwarning`."""
    print(f"falign: warning: {one_line(message)}", file=sys.stderr)
