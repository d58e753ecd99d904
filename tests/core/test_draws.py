"""Random numbers of a batch that several processes share are those of one process, sample by sample."""

from __future__ import annotations

import pytest
import torch
from seeds import generator

from feature_alignment.core.draws import Part, draw, part, part_of_batch, standard_normal
from feature_alignment.core.starts import draw_start
from feature_alignment.models.augmentation import augment
from feature_alignment.models.losses import gradient_penalty


def in_parts(drawn, processes, size):
    """Return ``drawn(numbers of the samples)`` by each of several processes, put together in the batch's order."""
    whole = torch.arange(processes * size)
    parts = []
    for process in range(processes):
        with part_of_batch(Part(process, processes, size, generator(3))):
            parts.append(drawn(whole[process::processes]))
    return torch.stack(parts, 1).flatten(0, 1)


ONE = torch.ones(1, dtype=torch.float64)
DRAWS = {
    "normal": lambda rows: standard_normal(len(rows), 2, ONE),
    "start": lambda rows: draw_start("uniform", torch.empty(3, 2), len(rows)),
    "one after the other": lambda rows: standard_normal(len(rows), 2, ONE) - standard_normal(len(rows), 2, ONE),
    "augmentation": lambda rows: augment(rows[:, None, None, None] + torch.ones(1, 1, 8, 8), ["translation", "cutout"]),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("processes", [2, 3])
def test_a_sample_has_the_same_numbers_in_any_process(name, processes):
    torch.manual_seed(3)
    alone = DRAWS[name](torch.arange(processes * 4))
    assert torch.equal(in_parts(DRAWS[name], processes, 4), alone)


def test_batches_in_a_row_keep_their_order():
    """Twice as many fakes as images, of reconstructions and of draws: each batch is shared like the images."""
    torch.manual_seed(3)
    first, second = draw(lambda count: torch.rand(count, 2), 12).split(6)
    for process in range(3):
        with part_of_batch(Part(process, 3, 2, generator(3))):
            ours = draw(lambda count: torch.rand(count, 2), 4)
        assert torch.equal(ours, torch.cat([first[process::3], second[process::3]]))


def test_the_penalty_of_the_parts_is_that_of_the_batch_in_the_mean():
    real, fake = torch.rand(2, 6, 1, 4, 4, generator=generator(), dtype=torch.float64)

    def critic(images):
        return images.square().flatten(1).sum(1)

    torch.manual_seed(3)
    alone = gradient_penalty(critic, real, fake)
    parts = []
    for process in range(2):
        with part_of_batch(Part(process, 2, 3, generator(3))):
            parts.append(gradient_penalty(critic, real[process::2], fake[process::2]))
    assert torch.stack(parts).mean().item() == pytest.approx(alone.item(), rel=1e-12)


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with part_of_batch(Part(1, 2, 4, generator())):
        standard_normal(4, 2, ONE)
        assert torch.equal(torch.rand(3), expected)
    assert part().processes == 1


def test_the_first_samples_are_shared_out_completely():
    for processes in (1, 2, 5):
        for count in range(12):
            parts = [Part(process, processes).among_first(count) for process in range(processes)]
            assert parts == [len(range(count)[process::processes]) for process in range(processes)]


def test_numbers_that_belong_to_no_sample_are_refused():
    with (
        part_of_batch(Part(0, 2, 4, generator())),
        pytest.raises(ValueError, match="count: expected a multiple of the 4"),
    ):
        standard_normal(6, 2, ONE)
