"""The command ``falign`` for tests: a small training's options, and a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

#: Narrower than the quickstart's recipe, which takes these after ``--config quickstart``.
SMALL = [
    "--data.batch_size=64", "--model.channels=[4,8]", "--model.width=32", "--model.latent=8",
    "--model.refiner_filters=4", "--model.discriminator_width=8", "--training.checkpoint_every=10",
]  # fmt: skip


def falign(*arguments, **environment):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "feature_alignment", *map(str, arguments)],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
