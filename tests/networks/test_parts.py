"""Parts of a loaded network: the scores of classes among several outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from feature_alignment.networks import LoadedNetwork, NetworkError
from feature_alignment.networks.parts import class_scores


class Several(nn.Module):
    """Puts out a map, and scores under as many names as it is given."""

    def __init__(self, *names):
        super().__init__()
        self.names, self.layer = names, nn.Linear(16, 5)

    def forward(self, x):
        return {"map": x, **{name: self.layer(x.flatten(1)) for name in self.names}}


def test_the_only_flat_output_beside_others_has_the_scores():
    images = torch.rand(2, 1, 4, 4)
    for names, words in (((), "has no scores of classes"), (("a", "b"), "several outputs that may be scores")):
        with pytest.raises(NetworkError, match=words):
            class_scores(LoadedNetwork("mine", Several(*names), (1, 4, 4)))
    network = Several("logits")
    assert torch.equal(class_scores(LoadedNetwork("mine", network, (1, 4, 4)))(images), network(images)["logits"])
