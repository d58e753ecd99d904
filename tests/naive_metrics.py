"""What the tests of measures share: a definition in plain Python, a small model."""

from __future__ import annotations

import torch

from feature_alignment.models import VFAGAN


def squared_discrepancy(one, two):
    """The unbiased estimate of the squared maximum mean discrepancy with (x y / d + 1)^3, one pair after the other."""

    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    count = len(one)
    inside = [kernel(s[i], s[j]) for s in (one, two) for i in range(count) for j in range(count) if i != j]
    across = [kernel(x, y) for x in one for y in two]
    return sum(inside) / (count * (count - 1)) - 2 * sum(across) / count**2


def small_model(kind=VFAGAN, **more):
    torch.manual_seed(0)
    more = {"channels": (4, 8), "width": 16, "step_size": 99.0, "classes": 10} | more
    return kind((1, 28, 28), 4, **more).eval()
