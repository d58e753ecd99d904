"""Tell glibc to keep freed memory: page-faulting large tensors in anew costs up to a third of a CPU step."""

from __future__ import annotations

import ctypes
import os
import sys

from . import enabled

__all__ = ["reuse_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def reuse_memory() -> None:
    """Place large CPU tensors in memory freed by earlier ones, until the process ends.

    By default glibc maps fresh memory for every tensor above a few megabytes, at the cost of a page fault per page, and
    unmaps it when the tensor is freed. With this setting freed memory is kept, so the process remains at its peak size.
    ``MALLOC_MMAP_MAX_`` and ``MALLOC_TRIM_THRESHOLD_`` in the environment take precedence. No effect except on Linux
    with glibc, or if :func:`feature_alignment.core.speed.enabled` is false.
    """
    if sys.platform != "linux" or not enabled():
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
