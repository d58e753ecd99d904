"""Memory of freed tensors is used again: counted by the pages that the system had to hand out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, resource
from feature_alignment.core.speed.allocator import reuse_memory
if os.environ.pop("ASK", None):
    reuse_memory()
import torch
for turn in range(8):
    if turn == 4:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(25_000_000)
    torch.ones(30_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library is told on Linux only")
@pytest.mark.slow
def test_memory_is_fetched_once_unless_the_environment_says_otherwise():
    left_alone = faults()
    assert left_alone > 4 * 50_000  # 220 MB in pages of 4 KB, four times
    assert faults(ASK="1") < left_alone / 3  # a small tensor between the two may cost one more fetch of either
    assert faults(ASK="1", MALLOC_MMAP_MAX_="65536", MALLOC_MMAP_THRESHOLD_="131072") > left_alone / 2
