"""Tied weights: one tensor under two names, or a part of another, is saved and loaded."""

from __future__ import annotations

import torch
from torch import nn

from feature_alignment.models import VFA


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.register_buffer("part", self.first.bias.detach()[8:24])

    def forward(self, images):
        return self.second(self.first(images.flatten(1)).tanh())


def test_tied_weights_are_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    model = VFA((1, 8, 8), latent=3, width=64, encoder=Tied()).eval()
    assert model.encoder.first.weight.data_ptr() == model.encoder.second.weight.data_ptr()
    model.save_pretrained(tmp_path)
    torch.manual_seed(1)
    loaded = VFA.from_pretrained(tmp_path, encoder=Tied())
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(loaded.encode(images), model.encode(images))
    assert loaded.encoder.first.weight.data_ptr() == loaded.encoder.second.weight.data_ptr()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
