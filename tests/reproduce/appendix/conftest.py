"""What the tests of the study share."""

from __future__ import annotations

import pytest
import torch
from seeds import generator


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Matrices this small gain nothing from threads, which wait for each other where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def images():
    return torch.rand(300, 1, 4, 4, generator=generator())


@pytest.fixture(scope="module")
def factors():
    """Data of eight equally strong directions in sixteen and a little noise: a short training finds them."""
    draws = generator()
    directions = torch.linalg.qr(torch.randn(16, 16, generator=draws))[0][:8]
    data = torch.randn(300, 8, generator=draws) @ directions + 0.1 * torch.randn(300, 16, generator=draws)
    return data.view(-1, 1, 4, 4)
