"""Batches by number: every image once an epoch, the same for any number of processes, on the CPU and a GPU."""

from __future__ import annotations

import hashlib
from itertools import chain

import pytest
import torch

from feature_alignment.data import Batches, DataError, Images


def numbered(count, labels=True):
    """Images that say which they are: image i has the value i everywhere and the label i % 7."""
    pixels = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()
    return Images("numbers", "train", pixels, torch.arange(count) % 7 if labels else None, ("x",) * 7)


def numbers(batches, updates):
    return [batches.batch(update)[0][:, 0, 0, 0].tolist() for update in updates]


def test_an_epoch_has_every_image_once_but_for_the_incomplete_batch():
    batches = Batches(numbered(23), 5, seed=0)
    assert len(batches) == 4
    epochs = [list(chain(*numbers(batches, range(4 * epoch, 4 * epoch + 4)))) for epoch in range(50)]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 50
    assert set(chain(*epochs)) == set(range(23))


def test_pixels_and_labels_belong_together():
    pixels, labels = Batches(numbered(23), 5, seed=1).batch(9)
    assert pixels.shape == (5, 3, 2, 2)
    assert pixels.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert (pixels.flatten(1).long() % 7 == labels[:, None]).all()
    assert Batches(numbered(23, labels=False), 5, seed=1).batch(9)[1] is None


def test_the_order_is_the_documented_function_of_seed_and_epoch():
    for seed, epoch in [(0, 0), (0, 3), (12, 1)]:
        digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
        expected = torch.randperm(23, generator=generator)[5:10].tolist()
        assert numbers(Batches(numbered(23), 5, seed), [4 * epoch + 1]) == [expected]


def test_a_batch_depends_on_its_number_alone():
    whole = numbers(Batches(numbered(23), 5, seed=3), range(20))
    torch.manual_seed(99)
    later = Batches(numbered(23), 5, seed=3)
    order = [13, 2, 19, 2, 0, 7]
    assert numbers(later, order) == [whole[update] for update in order]
    assert numbers(Batches(numbered(23), 5, seed=4), range(20)) != whole


def test_the_batches_of_several_processes_are_those_of_one_with_larger_batches():
    alone = Batches(numbered(50), 12, seed=2)
    ranks = [Batches(numbered(50), 4, seed=2, rank=rank, world_size=3) for rank in range(3)]
    assert len(ranks[0]) == len(alone) == 4
    for update in range(10):
        parts = [numbers(each, [update])[0] for each in ranks]
        assert list(chain(*zip(*parts, strict=True))) == numbers(alone, [update])[0]


def test_what_cannot_be_is_refused():
    for batch_size, world_size, message in [
        (24, 1, "batch_size: expected 1 to 23, the training images of numbers, got 24"),
        (0, 1, "batch_size: expected 1 to 23"),
        (12, 2, "batch_size: expected 1 to 11 in each of 2 processes, the training images of numbers, got 12"),
    ]:
        with pytest.raises(DataError, match=message):
            Batches(numbered(23), batch_size, seed=0, world_size=world_size)
    with pytest.raises(ValueError, match="rank: expected 0 to 1, for world_size 2, got 2"):
        Batches(numbered(23), 2, seed=0, rank=2, world_size=2)
    with pytest.raises(ValueError, match="update: expected at least 0, got -1"):
        Batches(numbered(23), 2, seed=0).batch(-1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("free", [10**9, 100], ids=["moved whole", "transferred by batch"])
def test_batches_on_a_gpu_are_the_same(monkeypatch, free):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    batches = Batches(numbered(23), 5, seed=3, device="cuda")
    assert batches.images.pixels.is_cuda == (free > 1000)
    for update in range(6):
        on_gpu, on_cpu = batches.batch(update), Batches(numbered(23), 5, seed=3).batch(update)
        assert all(each.is_cuda for each in on_gpu)
        assert all(torch.equal(one.cpu(), two) for one, two in zip(on_gpu, on_cpu, strict=True))
