"""A table: 30 measurements of 569 breast tumours from four numbers each, by an encoder that is its own decoder.

python examples/table.py                (needs scikit-learn, in which the table comes)

Compared with principal components, which are the best linear encoder and decoder, and with an autoencoder that has the
same encoder, a decoder of its own, and so twice the weights.
"""

from collections.abc import Callable

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn

from feature_alignment import align

COLUMNS, NUMBERS, HIDDEN, STEPS = 30, 4, 128, 3


def main(updates: int = 1000, seed: int = 0) -> dict[str, float]:
    """Train; return the mean squared distance of held-out rows to their reconstructions, in standard deviations."""
    torch.manual_seed(seed)
    rows = torch.tensor(load_breast_cancer().data, dtype=torch.float32)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    train, test = ((part - rows[:400].mean(0)) / rows[:400].std(0) for part in (rows[:400], rows[400:]))

    encoder = layers(COLUMNS, NUMBERS)
    start, log_sizes = nn.Parameter(torch.zeros(1, COLUMNS)), nn.Parameter(torch.zeros(STEPS))

    def aligned(x: Tensor) -> Tensor:
        return align(encoder, encoder(x), start, steps=STEPS, step_size=log_sizes.exp(), check=False)

    fit(aligned, [*encoder.parameters(), start, log_sizes], train, updates)
    rival = nn.Sequential(layers(COLUMNS, NUMBERS), layers(NUMBERS, COLUMNS))
    fit(rival, [*rival.parameters()], train, updates)
    axes = torch.linalg.svd(train, full_matrices=False).Vh[:NUMBERS]

    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "the mean row": torch.zeros_like,
        "principal components": lambda x: x @ axes.T @ axes,
        "autoencoder, twice the weights": rival,
        "aligned": aligned,
    }
    with torch.no_grad():
        errors = {name: float((test - way(test)).square().sum(1).mean()) for name, way in ways.items()}
    for name, error in errors.items():
        print(f"{name:32} {error:6.2f}")
    print(f"gained on principal components: {1 - errors['aligned'] / errors['principal components']:.0%} of the error")
    return errors


def layers(inputs: int, outputs: int) -> nn.Sequential:
    """Return a network with one hidden layer."""
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, outputs))


def fit(way: Callable[[Tensor], Tensor], parameters: list[nn.Parameter], train: Tensor, updates: int) -> None:
    """Minimise the reconstruction error."""
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        x = train[torch.randint(len(train), (64,))]
        optimizer.zero_grad()
        (way(x) - x).square().sum(1).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main()
