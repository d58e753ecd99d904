"""The augmentations against copies shifted and cut in loops, and their gradients."""

from __future__ import annotations

import pytest
import torch

from feature_alignment.models.augmentation import AUGMENTATIONS, augment


def shifted(image, down, across):
    result = torch.zeros_like(image)
    height, width = image.shape[1:]
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + across < width:
                result[:, row, column] = image[:, row + down, column + across]
    return result


def test_translation_shifts_each_image_by_itself_and_fills_with_zeros():
    torch.manual_seed(0)
    images = torch.rand(40, 2, 8, 8)
    found = []
    for image, moved in zip(images, augment(images, ["translation"]), strict=True):
        places = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
        found += [place for place in places if torch.equal(moved, shifted(image, *place))]
    assert len(found) == 40  # each is one of the nine shifts by up to an eighth of the side
    assert len(set(found)) == 9


def test_cutout_removes_a_rectangle_of_half_the_side_and_nothing_else():
    torch.manual_seed(0)
    images = torch.rand(50, 3, 8, 8) + 0.1
    kept = augment(images, ["cutout"])
    sizes = set()
    for image, cut in zip(images, kept, strict=True):
        removed = (cut == 0).all(0)
        assert torch.equal(cut[:, ~removed], image[:, ~removed])
        rows, columns = removed.any(1).nonzero().flatten(), removed.any(0).nonzero().flatten()
        assert removed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert removed.sum() == len(rows) * len(columns)
        sizes.add((len(rows), len(columns)))
    assert max(sizes) == (4, 4)
    assert len(sizes) > 3  # cut off at the edges


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_are_differentiable_and_drawn_from_the_global_generator(name):
    images = torch.rand(3, 2, 6, 6, dtype=torch.float64, requires_grad=True)

    def seeded(images):
        torch.manual_seed(3)
        return augment(images, [name])

    torch.autograd.gradcheck(seeded, images)
    torch.testing.assert_close(seeded(images), seeded(images), rtol=0, atol=0)
    assert not torch.equal(seeded(images), augment(images, [name]))
    assert augment(images, []) is images
