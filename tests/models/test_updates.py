"""Updates: gradients reach what an optimiser trains and nothing else, whatever loop drives them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from feature_alignment.models import FA, VFAGAN, Loss, Updates

SMALL = {"image_shape": (1, 8, 8), "latent": 3, "channels": (4,), "width": 8, "refiner_filters": 4}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_a_loss_reaches_what_its_optimiser_trains_and_nothing_else():
    model = VFAGAN(**SMALL, learning_rate=1e-2)
    updates = Updates(model, 1)
    images = torch.rand(4, 1, 8, 8)

    def loss():
        total = sum(p.square().sum() for p in model.parameters()) + model.discriminator(model.refiner(images)).sum()
        return Loss(total, {"total": total.detach()}, "kept")

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert updates.take("refiner", loss) == "kept"
    for name, p in model.named_parameters():
        assert torch.equal(before[name], p) != name.startswith("refiner"), name
        assert (p.grad is not None) == name.startswith("refiner"), name
        assert p.requires_grad == (name not in ("log_step_sizes", "log_max_steps", "start")), name
    assert updates.terms.keys() == {"total"}


def test_the_gradient_is_clipped_before_the_step():
    model = VFAGAN(**SMALL)
    updates = Updates(model, 1)
    updates.take("encoder", lambda: Loss(1e3 * model.mean.weight.sum(), {}), clip=0.5)
    assert model.mean.weight.grad.norm() == pytest.approx(0.5, rel=1e-4)


def test_pixels_of_a_byte_are_images_in_the_unit_interval():
    found = []
    for pixels in (torch.tensor([0, 51, 255], dtype=torch.uint8), torch.tensor([0.0, 0.2, 1.0])):
        model = VFAGAN(**SMALL)
        # As a step has been taken, so that the schedule does not complain.
        model.training_step = lambda images, labels, updates: (found.append(images), step_all(updates))
        Updates(model, 1).step(pixels.view(3, 1, 1, 1).expand(3, *model.image_shape))
    torch.testing.assert_close(*found)


def step_all(updates):
    for optimizer in updates.optimizers.values():
        optimizer.step()


def test_a_continued_schedule_is_the_schedule():
    def rates(parts):
        model, done, found = VFAGAN(**SMALL, schedule="cosine", learning_rate=1e-2, refiner_rate=0.5), 0, []
        for count in parts:
            updates = Updates(model, total=6, done=done)
            for _ in range(count):
                updates.step(torch.rand(4, 1, 8, 8))
                found.append([each.param_groups[0]["lr"] for each in updates.optimizers.values()])
            done = updates.done
        return found

    assert rates([6]) == rates([2, 3, 1])
    assert rates([1])[0][1] == pytest.approx(0.5 * rates([1])[0][0])


def test_frozen_weights_stay_frozen():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8).requires_grad_(False), nn.Tanh())
    model = VFAGAN(**SMALL, encoder=encoder)
    Updates(model, 1).step(torch.rand(4, 1, 8, 8))
    assert not encoder[1].weight.requires_grad
    assert encoder[1].weight.grad is None


def test_what_the_user_froze_stays_frozen():
    model = VFAGAN(**SMALL)
    updates = Updates(model, 2)
    model.refiner.requires_grad_(False)
    updates.take("encoder", lambda: Loss(model.mean.weight.square().sum(), {}))
    assert not any(each.requires_grad for each in model.refiner.parameters())
    assert all(each.requires_grad for each in model.discriminator.parameters())


def test_images_of_another_shape_or_dtype_are_named_before_the_update():
    updates = Updates(VFAGAN(**SMALL), 1)
    for images, message in (
        (torch.rand(2, 1, 9, 9), r"images: expected shape \(N, 1, 8, 8\), got \(2, 1, 9, 9\)"),
        (torch.rand(2, 1, 8, 8).double(), r"images: expected torch.float32 .*, got torch.float64"),
        (torch.rand(0, 1, 8, 8), "images: expected at least one in a batch, got none"),
    ):
        with pytest.raises(ValueError, match=message):
            updates.step(images)


class Normalised(nn.Module):
    """An encoder with batch normalisation."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8))

    def forward(self, images):
        return self.body(images)


def test_inference_leaves_every_module_in_its_mode():
    model = FA((1, 8, 8), 3, encoder=Normalised(), width=8)
    updates, images = Updates(model, 3), torch.rand(4, 1, 8, 8)
    model.encoder.eval()
    model.reconstruct(images)
    assert model.training
    assert not any(each.training for each in model.encoder.modules())
    updates.step(images)
    model.encoder.train()
    with pytest.raises(ValueError, match="BatchNorm1d"):  # of a continued training, too
        Updates(model, 3, done=1).step(images)


def test_what_two_optimisers_train_is_trained():
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh())
    discriminator = nn.Sequential(body, nn.Linear(8, 1), nn.Flatten(0))
    model = VFAGAN(**SMALL, encoder=body, discriminator=discriminator, learning_rate=1e-2)
    updates, trained = Updates(model, 3), [each.requires_grad for each in model.parameters()]
    for name in ("encoder", "discriminator"):
        before = body[1].weight.detach().clone()
        updates.take(name, lambda: Loss(body[1].weight.square().sum(), {}))
        assert not torch.equal(body[1].weight, before), name
    updates.step(torch.rand(4, 1, 8, 8))
    assert [each.requires_grad for each in model.parameters()] == trained


def test_after_an_update_mixed_precision_has_the_new_weights():
    model, images = FA((1, 8, 8), 3, channels=(4,), width=8, learning_rate=1e-1), torch.rand(4, 1, 8, 8)
    updates = Updates(model, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        updates.take("encoder", lambda: Loss(model.encoder(images).square().sum(), {}))
        after = model.encoder(images)
        torch.clear_autocast_cache()
        assert torch.equal(after, model.encoder(images))


def test_inference_of_a_part_in_training_mode():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.5))
    model, images = FA((1, 8, 8), 3, encoder=encoder, width=8).eval(), torch.rand(4, 1, 8, 8)
    encoder.train()
    assert torch.equal(model.encode(images), model.encode(images))
    assert encoder.training
    assert not model.training
