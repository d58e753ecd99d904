"""A time series: windows of an electrocardiogram from three numbers each, by an encoder of convolutions in time.

python examples/time_series.py          (needs PyWavelets, in which the recording comes)

The flow starts at the encoder run backwards layer by layer (LayeredStart). Trained on the first three quarters of the
recording, measured on the last. Compared with principal components, and with an autoencoder that has the same encoder,
a decoder of its own, and so twice the weights.
"""

from collections.abc import Callable

import pywt
import torch
from torch import Tensor, nn

from feature_alignment import LayeredStart, align

WINDOW, NUMBERS, STEPS = 64, 3, 2


def main(updates: int = 600, seed: int = 0) -> dict[str, float]:
    """Train; return the mean squared error of a sample, in units of the recording's variance."""
    torch.manual_seed(seed)
    recording = torch.tensor(pywt.data.ecg(), dtype=torch.float32)
    recording = (recording - recording[:768].mean()) / recording[:768].std()
    train, test = (part.unfold(0, WINDOW, 1).unsqueeze(1) for part in (recording[:768], recording[768:]))

    stages = encoder_stages()
    encoder, start = nn.Sequential(*stages), LayeredStart(stages, torch.zeros(1, 1, WINDOW), squash=nn.Identity())
    log_sizes = nn.Parameter(torch.zeros(STEPS))

    def aligned(x: Tensor) -> Tensor:
        return align(encoder, encoder(x), start, steps=STEPS, step_size=log_sizes.exp(), check=False)

    fit(aligned, [*encoder.parameters(), *start.parameters(), log_sizes], train, updates)
    rival = nn.Sequential(*encoder_stages(), nn.Linear(NUMBERS, 64), nn.SiLU(), nn.Linear(64, 512), nn.SiLU(),
                          nn.Unflatten(1, (32, 16)), nn.ConvTranspose1d(32, 16, 5, 2, 2, 1), nn.SiLU(),
                          nn.ConvTranspose1d(16, 1, 5, 2, 2, 1))  # fmt: skip
    fit(rival, [*rival.parameters()], train, updates)
    mean = train.mean(0)
    axes = torch.linalg.svd((train - mean).flatten(1), full_matrices=False).Vh[:NUMBERS]

    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "the mean window": mean.expand_as,
        "principal components": lambda x: mean + ((x - mean) @ axes.T) @ axes,
        "autoencoder, twice the weights": rival,
        "aligned": aligned,
    }
    with torch.no_grad():
        errors = {name: float((test - way(test)).square().mean()) for name, way in ways.items()}
    for name, error in errors.items():
        print(f"{name:32} {error:6.3f}")
    print(f"gained on principal components: {1 - errors['aligned'] / errors['principal components']:.0%} of the error")
    return errors


def encoder_stages() -> list[nn.Sequential]:
    """Return the stages of an encoder, each a linear layer with what follows it."""
    return [
        nn.Sequential(nn.Conv1d(1, 16, 5, 2, 2), nn.SiLU()),
        nn.Sequential(nn.Conv1d(16, 32, 5, 2, 2), nn.SiLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(32 * WINDOW // 4, 64), nn.SiLU()),
        nn.Sequential(nn.Linear(64, NUMBERS)),
    ]


def fit(way: Callable[[Tensor], Tensor], parameters: list[nn.Parameter], train: Tensor, updates: int) -> None:
    """Minimise the reconstruction error."""
    optimizer = torch.optim.Adam(parameters, lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        x = train[torch.randint(len(train), (64,))]
        optimizer.zero_grad()
        (way(x) - x).square().flatten(1).sum(1).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        schedule.step()


if __name__ == "__main__":
    main()
