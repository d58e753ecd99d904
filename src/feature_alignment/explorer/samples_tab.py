"""The tab for samples: by sampler, by class."""

from __future__ import annotations

from .exploring import Explored
from .markup import grid
from .web import LIVE, gradio

__all__ = ["samples_tab"]

#: Rows of classes that are shown at most; samples in a row; rows of one class, or of a model without classes.
CLASSES, EACH, ROWS = 12, 12, 5
ALL = -1
ABOUT = {
    "normal": "normal: the prior N(0, I)",
    "gaussian": "gaussian, fitted to latents",
    "mixture": "mixture, fitted to latents",
    "flow": "flow, fitted to latents",
}


def samples_tab(explored: Explored) -> None:
    """Add the tab."""
    names = explored.model.class_names
    choices = [(ABOUT.get(name, name), name) for name in explored.samplers]
    with gradio.Tab("Samples"):
        with gradio.Row():
            sampler = gradio.Radio(choices, value=choices[0][1], label="sampler", elem_id="sampler")
            classes = [("all", ALL), *((name, label) for label, name in enumerate(names))]  # two may have one name
            shown = gradio.Dropdown(classes, value=ALL, label="class", visible=bool(names), elem_id="sample-class")
            stress = gradio.Slider(
                0, 3, 1, step=0.05, label="stress", visible=bool(names), elem_id="sample-stress", buttons=[]
            )
            with gradio.Column(min_width=120):
                seed = gradio.Number(0, precision=0, minimum=0, label="seed", elem_id="seed")
                again = gradio.Button("Draw others", elem_id="again", size="sm")
        samples = gradio.HTML(_samples(explored, choices[0][1], ALL, 1.0, 0), elem_id="samples")

    def draw(sampler: str, shown: int, stress: float, seed: int) -> str:
        """Draw samples."""
        return _samples(explored, sampler, shown, stress, int(seed or 0))

    inputs = [sampler, shown, stress, seed]
    for name, control in (("sampler", sampler), ("sample_class", shown), ("sample_stress", stress)):
        control.input(draw, inputs, samples, api_name=name, **LIVE)
    seed.change(draw, inputs, samples, api_name="samples", **LIVE)
    again.click(lambda seed: int(seed or 0) + 1, seed, seed, api_name="next_seed", queue=False)


def _samples(explored: Explored, sampler: str, shown: int, stress: float, seed: int) -> str:
    """Return a row of samples for each class, or rows of one class."""
    names = explored.model.class_names
    if not names or shown != ALL:
        images = explored.draw(sampler, shown if names else None, ROWS * EACH, stress, seed)
        return grid(images.split(EACH))
    rows = [explored.draw(sampler, label, EACH, stress, seed) for label in range(len(names))[:CLASSES]]
    return grid(rows, names[:CLASSES])
