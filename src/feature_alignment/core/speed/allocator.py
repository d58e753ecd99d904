"""How the process gets memory for large CPU tensors: that is up to a third of a training step there."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["reuse_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def reuse_memory() -> None:
    """Have large CPU tensors in memory that earlier ones have left, until the process ends.

    By default the C library fetches the memory of every tensor above some megabytes from the system, page by page, and
    gives it back. Here it is told to keep what is freed: the process then stays as large as it has been at its peak.
    What ``MALLOC_MMAP_MAX_`` or ``MALLOC_TRIM_THRESHOLD_`` say in the environment stands. Does nothing but on Linux
    with glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for variable, option, value in (
        ("MALLOC_MMAP_MAX_", _M_MMAP_MAX, 0),
        ("MALLOC_TRIM_THRESHOLD_", _M_TRIM_THRESHOLD, -1),  # never
    ):
        if variable not in os.environ:
            mallopt(option, value)
