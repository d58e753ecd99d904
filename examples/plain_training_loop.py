"""Train a model without a training library: every loss is the model's, the loop is yours.

python examples/plain_training_loop.py
"""

import torch

from feature_alignment.data import load
from feature_alignment.models import VFA, Updates


def main(count: int = 300) -> float:
    """Train on 4,500 digits; return the reconstruction error on held-out ones."""
    train, test = load("mnist-mini", "train"), load("mnist-mini", "test")
    model = VFA((1, 28, 28), latent=32, channels=(8, 16), width=256, activation="silu", steps=2, step_size=4.0,
                squash="every", learning_rate=2e-3, schedule="cosine", clip_gradient=10.0, beta=0.1)  # fmt: skip
    updates = Updates(model, total=count)
    while updates.done < count:
        images = train.pixels[torch.randint(len(train), (64,))]
        losses = updates.step(images)
        if updates.done % 50 == 0:
            print(updates.done, {name: round(float(loss), 2) for name, loss in losses.items()})

    error = (test.images() - model.reconstruct(test.images())).square().sum((1, 2, 3)).mean()
    print(f"held-out reconstruction error: {error:.1f} (the mean image has 53.1)")
    return float(error)


if __name__ == "__main__":
    main()
