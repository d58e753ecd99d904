"""Structures of outputs, taken apart and put together."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import torch

from feature_alignment.core.structures import describe, from_rows, named_leaves, rows, tensors


def test_rows_and_back():
    structure = {"a": torch.randn(4, 2, 3), "b": (None, torch.randn(4).double())}
    flat = rows(structure)
    assert flat.shape == (4, 7)
    again = from_rows(flat, {"a": structure["a"][:1], "b": (None, structure["b"][1][:1])})
    assert torch.equal(again["a"], structure["a"])
    assert torch.equal(again["b"][1], structure["b"][1])
    assert again["b"][0] is None
    assert again["a"].dtype == torch.float32


def test_names_and_words():
    structure = {"a": torch.zeros(2), "b": [None, torch.ones(2)]}
    assert [name for name, _ in named_leaves("target", structure)] == ["target['a']", "target['b'][1]"]
    assert [float(each[0]) for each in tensors(structure)] == [0.0, 1.0]
    assert describe(structure) == "{'a': Tensor, 'b': [None, Tensor]}"


def test_containers_of_other_types_are_named():
    assert describe(OrderedDict(out=torch.zeros(1))) == "OrderedDict({'out': Tensor})"
    assert describe(namedtuple("Pair", "a b")(torch.zeros(1), None)) == "Pair(Tensor, None)"
    assert describe({"out": [torch.zeros(1)]}) == "{'out': [Tensor]}"
