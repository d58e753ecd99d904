"""Files of models on the Hugging Face Hub, downloaded into the Hub library's own cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..extras import require
from ..progress import bars_on_a_terminal_alone

__all__ = ["FILES", "download", "is_repository"]

#: The files of a saved model, and of the run that it comes from where that was pushed.
FILES = ("config.json", "model.safetensors", "config.yaml", "metrics.json")


def is_repository(name: str) -> bool:
    """Whether a name, which is no directory, can be that of a repository: ``owner/name``, also after ``hf:``.

    If there is a directory ``owner`` here, the name is taken for a path in it.

    Example:
        >>> is_repository("owner/name"), is_repository("hf:owner/name"), is_repository("name"), is_repository("a/b/c")
        (True, True, False, False)
    """
    if name.startswith("hf:"):
        return True
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None and not Path(name).parent.exists()


def download(name: str, files: Sequence[str] = FILES, **options: Any) -> Path:
    """Return the directory of a repository's snapshot in the cache, downloaded where it is not there.

    With ``HF_HUB_OFFLINE=1`` in the environment the cache alone is used.

    Args:
        name: ``owner/name``, also after ``hf:``.
        files: those that are wanted, if they exist.
        options: of :func:`huggingface_hub.snapshot_download`, such as ``revision`` and ``cache_dir``.

    Raises:
        FileNotFoundError: it cannot be fetched; the reason is in the message.
        MissingExtra: the Hub's library is not installed.
    """
    hub = require("huggingface_hub", "hub", f"{name}: is no directory; models of the Hugging Face Hub")
    try:
        with bars_on_a_terminal_alone("huggingface_hub"):
            return Path(hub.snapshot_download(name.removeprefix("hf:"), allow_patterns=list(files), **options))
    except (hub.errors.HFValidationError, hub.errors.HfHubHTTPError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileNotFoundError(
            f"{name}: neither a directory nor a model that can be fetched from the Hugging Face Hub ({reason})"
        ) from None
