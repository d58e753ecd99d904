"""What the page asks of a model, against the model asked directly."""

from __future__ import annotations

import torch

from feature_alignment.explorer.exploring import Explored


def test_sliders_that_were_not_moved_leave_the_images_own_latent(conditional):
    explored, image = Explored(conditional), torch.rand(1, 1, 8, 8)
    point, label = explored.read(image)
    assert torch.allclose(explored.moved(point, point.sliders), conditional.encode(image))
    assert label == int(conditional.infer_labels(image))
    farther = [point.sliders[0] + 2, *point.sliders[1:]]
    gaussian = conditional.samplers["gaussian"]
    step = explored.moved(point, farther) - conditional.encode(image)
    # Two standard deviations along the first principal direction: of norm 2 s, and an eigenvector of the root.
    values = torch.linalg.eigvalsh(gaussian.root)
    assert torch.allclose(step.norm(), 2 * values.max(), rtol=1e-4)
    assert torch.allclose(step @ gaussian.root, values.max() * step, atol=1e-4)


def test_far_latents_do_not_leave_the_sliders_range(conditional):
    point, _ = Explored(conditional).read(torch.full((1, 1, 8, 8), 1e4))
    assert max(map(abs, point.sliders)) <= 4
    assert point.latent == tuple(conditional.encode(torch.full((1, 1, 8, 8), 1e4))[0].tolist())


def test_pictures_are_the_models_feature_and_refined_image(conditional, plain):
    latent, label = torch.randn(1, 5), torch.tensor([2])
    found = Explored(conditional).pictures(latent, label, 1.5)
    feature = conditional.decode(latent, label, 1.5)
    assert torch.equal(found["feature"], feature)
    assert torch.equal(found["refined"], conditional.refine(feature, label))
    latent = torch.randn(1, 4)
    assert [*Explored(plain).pictures(latent, None)] == [plain.stage]


def test_a_walk_begins_and_ends_at_its_ends(conditional, plain):
    for model in (conditional, plain):
        explored = Explored(model)
        ends = explored.two_samples()
        images = explored.walk(ends, torch.tensor([0.0, 0.5, 1.0]))
        for (point, label), image in zip(ends, (images[0], images[2]), strict=True):
            latent = torch.tensor([point.latent])
            labels = None if label is None else torch.tensor([label])
            assert torch.allclose(explored.last(latent, labels)[0], image, atol=1e-5)
        middle = torch.tensor([ends[0][0].latent, ends[1][0].latent]).mean(0, keepdim=True)
        labels = torch.tensor([[0.5**0.5, 0, 0.5**0.5]]) if model.classes else None
        assert torch.allclose(explored.last(middle, labels)[0], images[1], atol=1e-5)


def test_samples_are_of_the_sampler_and_class_asked_for(conditional, plain):
    explored = Explored(conditional)
    assert {*explored.samplers} == {"normal", "gaussian", "mixture"}
    assert conditional.samplers[explored.samplers[0]] is conditional.sampler()
    labels = torch.full((4,), 1)
    for sampler in explored.samplers:
        found = explored.draw(sampler, 1, 4, 1.5, seed=3)
        features = conditional.sample(4, labels, 1.5, torch.Generator().manual_seed(3), sampler)
        assert torch.equal(found, conditional.refine(features, labels))
    assert Explored(plain).draw("normal", None, 2, 1.0, 0).shape == (2, 3, 8, 8)
