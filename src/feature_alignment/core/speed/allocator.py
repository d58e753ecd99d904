"""Tell glibc to keep freed memory: page-faulting large tensors in anew costs up to a third of a CPU step."""

from __future__ import annotations

import ctypes
import os
import sys

from . import enabled

__all__ = ["reuse_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def reuse_memory() -> None:
    """Place large CPU tensors in memory that freed ones have left, until the process ends.

    By default glibc maps the memory of every tensor above some megabytes anew, which faults it in page by page, and
    unmaps it again. Here it is told to keep what is freed: the process then stays as large as it was at its peak.
    ``MALLOC_MMAP_MAX_`` and ``MALLOC_TRIM_THRESHOLD_`` in the environment take precedence. Does nothing but on Linux
    with glibc, and nothing with :func:`feature_alignment.core.speed.enabled` off.
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
