"""The contract of ``align`` and ``invert`` over the zoo of ``tests/architectures``: any network."""

from __future__ import annotations

import pytest
import torch
from architectures import ARCHITECTURES
from architectures.contract import gradient_difference, inverted, true_residual

#: Inverted to 1e-2 within 1,000 evaluations: all but these, deep and narrow or with many kinks.
NOT_REACHED = {
    "timm_ghostnet",
    "mobilenet_v2",
    "mnasnet",
    "efficientnet",
    "patch_tst",
    "mixture_of_experts",
}

#: Where PyTorch's backward of a batch norm in eval mode is wrong on a CPU (2.14): a batch of one, and after it
#: ``flatten(2).transpose(1, 2)``. The pull-back inherits it as long as the batch norm is not replaced.
WRONG_IN_PYTORCH = {"timm_levit", "timm_xcit"}

ZOO = [
    pytest.param(architecture, id=name, marks=[] if architecture.quick else pytest.mark.slow)
    for name, architecture in ARCHITECTURES.items()
]


@pytest.fixture(autouse=True)
def _library(request):
    architecture = request.node.callspec.params["architecture"]
    pytest.importorskip(architecture.library)
    if architecture.name in WRONG_IN_PYTORCH:
        request.applymarker(pytest.mark.xfail(reason="batch norm's backward in PyTorch"))


@pytest.mark.parametrize("architecture", ZOO)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("steps", [1, 2])
def test_gradients_through_align_are_those_of_algorithm_1(architecture, steps, shared):
    assert gradient_difference(architecture, steps, shared) < architecture.tolerance


@pytest.mark.parametrize("architecture", ZOO)
def test_invert_reaches_the_networks_own_outputs_and_says_what_it_reached(architecture):
    network, target, found = inverted(architecture)
    torch.testing.assert_close(found.residual, true_residual(network, target, found), rtol=1e-6, atol=1e-9)
    assert torch.equal(found.converged, found.residual <= 1e-2)
    assert int(found.evaluations.max()) <= 1000
    assert bool(found.converged.all()) or architecture.name in NOT_REACHED
