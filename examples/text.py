"""Text: sixteen characters from 48 numbers, by an encoder that is trained here and is its own decoder.

python examples/text.py                 (the text is Python's own documentation, which comes with it)

What is aligned are the characters' embeddings, learned with the encoder; the feature's nearest embeddings are the text.
Measured on the last tenth of the text. Compared with principal components of the characters' indicators, and with an
autoencoder that has the same encoder, a decoder of its own, and so twice the weights.
"""

from collections.abc import Callable
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional

from feature_alignment import align

WINDOW, NUMBERS, EMBEDDING, HIDDEN, STEPS = 16, 48, 16, 256, 2


def main(updates: int = 1000, seed: int = 0) -> dict[str, float]:
    """Train; return the share of held-out characters that are recovered."""
    torch.manual_seed(seed)
    text = " ".join("".join(topics[name] for name in sorted(topics)).lower().split())
    known = sorted(each for each in set(text) if text.count(each) > 50)
    number = {each: code for code, each in enumerate(known)}
    codes = torch.tensor([number[each] for each in text if each in number])
    train, test = codes[: len(codes) * 9 // 10], codes[len(codes) * 9 // 10 :].unfold(0, WINDOW, WINDOW)

    encoder, embeddings = layers(WINDOW * EMBEDDING, NUMBERS), nn.Parameter(torch.randn(len(known), EMBEDDING))
    start, log_sizes = nn.Parameter(torch.zeros(1, WINDOW, EMBEDDING)), nn.Parameter(torch.zeros(STEPS))

    def aligned(x: Tensor) -> Tensor:
        return align(encoder, encoder(x), start, steps=STEPS, step_size=log_sizes.exp(), check=False)

    fit(aligned, embeddings, [*encoder.parameters(), start, log_sizes], train, updates)
    rival = nn.Sequential(layers(WINDOW * EMBEDDING, NUMBERS), layers(NUMBERS, WINDOW * EMBEDDING),
                          nn.Unflatten(1, (WINDOW, EMBEDDING)))  # fmt: skip
    others = nn.Parameter(torch.randn(len(known), EMBEDDING))
    fit(rival, others, [*rival.parameters()], train, updates)

    with torch.no_grad():
        found = {
            "the most frequent character": train.bincount().argmax(),
            "principal components": components(windows(train, 5000), test, len(known)),
            "autoencoder, twice the weights": scores(rival, others, test).argmax(-1),
            "aligned": scores(aligned, embeddings, test).argmax(-1),
        }
    right = {name: float((guess == test).float().mean()) for name, guess in found.items()}
    for name, share in right.items():
        print(f"{name:32} {share:6.1%}")
    print(f"gained on principal components: {right['aligned'] - right['principal components']:.1%} of the characters")
    for window, guess in zip(test[:3], found["aligned"], strict=False):
        print(repr("".join(known[each] for each in window)), "->", repr("".join(known[each] for each in guess)))
    return right


def layers(inputs: int, outputs: int) -> nn.Sequential:
    """Return a network with one hidden layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, outputs))


def windows(codes: Tensor, count: int) -> Tensor:
    """Return pieces of the text, drawn at random."""
    return codes[torch.randint(len(codes) - WINDOW, (count, 1)) + torch.arange(WINDOW)]


def scores(way: Callable[[Tensor], Tensor], embeddings: Tensor, text: Tensor) -> Tensor:
    """Return the product of every character's embedding with the reconstruction of the text's."""
    unit = functional.normalize(embeddings, dim=1)
    return way(unit[text]) @ unit.T


def components(train: Tensor, test: Tensor, known: int) -> Tensor:
    """Reconstruct from as many principal components of the indicators."""
    indicators = functional.one_hot(train, known).flatten(1).float()
    axes = torch.linalg.eigh(indicators.T.cov()).eigenvectors[:, -NUMBERS:]
    centred = functional.one_hot(test, known).flatten(1) - indicators.mean(0)
    return (indicators.mean(0) + centred @ axes @ axes.T).view(-1, WINDOW, known).argmax(-1)


def fit(
    way: Callable[[Tensor], Tensor], embeddings: nn.Parameter, others: list[nn.Parameter], train: Tensor, updates: int
) -> None:
    """Minimise the cross-entropy of the characters."""
    sharpness = nn.Parameter(torch.tensor(2.0))
    optimizer = torch.optim.Adam([*others, embeddings, sharpness], lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        text = windows(train, 64)
        optimizer.zero_grad()
        logits = sharpness.exp() * scores(way, embeddings, text)
        functional.cross_entropy(logits.flatten(0, 1), text.flatten()).backward()
        nn.utils.clip_grad_norm_(others, 1.0)
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main()
