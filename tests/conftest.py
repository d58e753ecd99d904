"""What the tests share: a cache of their own and a small trained model."""

from __future__ import annotations

import os
import signal

import pytest
import torch

# Threads that wait for each other on a busy machine cost more than they give.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache directory of the session's own, so that no test depends on what a user has there."""
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FALIGN_CACHE", str(directory))
        yield directory


@pytest.fixture
def heard():
    """Have signals be received and do nothing, also where they are ignored, as under nohup, or would end the tests."""
    before = {}

    def hear(number):
        before.setdefault(number, signal.getsignal(number))
        signal.signal(number, lambda *_: None)
        return signal.getsignal(number)

    yield hear
    for number, handler in before.items():
        signal.signal(number, handler)
