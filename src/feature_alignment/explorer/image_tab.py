"""The tab for one image: its latent, its feature and refined image, and sliders that move the latent."""

from __future__ import annotations

import html
from typing import Any

from .exploring import FARTHEST, Explored, Point
from .markup import bars, figure, figures, line
from .pad import SIDE, pad, paper_of, repainted
from .uploads import Refused, pixels_of
from .web import LIVE, gradio

__all__ = ["image_tab"]

#: More classes than this are a list that unfolds.
FEW = 24
BEGIN = "Draw, or drop an image file; or move the sliders, which begin at the mean latent."


def image_tab(explored: Explored) -> None:
    """Add the tab."""
    model, mean = explored.model, explored.mean()
    with gradio.Tab("Image"), gradio.Row():
        with gradio.Column(scale=0, min_width=SIDE + 20):
            canvas = pad(paper_of(model), model.image_shape[-1], elem_id="pad")
            status = gradio.HTML(line(BEGIN), elem_id="status")
        with gradio.Column(scale=1):
            view = gradio.HTML(_view(explored, mean, "", 0, 1.0, mean.sliders), elem_id="view")
            label, stress = _class_controls(explored)
            sliders = _sliders(len(explored.directions))
            gradio.HTML(f'<p class="fa-note">{html.escape(explored.directions.source)}</p>')
    point, original = gradio.State(mean), gradio.State("")

    def read(url: str, label: int, stress: float) -> list[Any]:
        """Read a picture; return what is shown of it, and set class and sliders."""
        try:
            image = pixels_of(url, model.image_shape, model.white) if url else None
        except Refused as refused:
            return [gradio.skip(), line(str(refused), wrong=True), *[gradio.skip()] * (4 + len(sliders))]
        found, said, shown = mean, BEGIN, ""
        if image is not None:
            found, inferred = explored.read(image)
            label = label if inferred is None else inferred
            said = "" if inferred is None else f"Class inferred: {model.class_names[label]}."
            shown = figure(image[0], "image, as the model is given it", "image")
        pictures = _view(explored, found, shown, label, stress, found.sliders)
        return [pictures, line(said), repainted(url, model.white), found, shown, label, *found.sliders]

    def move(point: Point, original: str, label: int, stress: float, *values: float) -> str:
        """Decode the latent where the sliders stand."""
        return _view(explored, point, original, label, stress, values)

    canvas.input(
        read, [canvas, label, stress], [view, status, canvas, point, original, label, *sliders], api_name="read", **LIVE
    )
    for name, control in (
        ("class", label),
        ("stress", stress),
        *((f"move_{k}", each) for k, each in enumerate(sliders)),
    ):
        control.input(move, [point, original, label, stress, *sliders], view, api_name=name, queue=False, **LIVE)


def _view(explored: Explored, point: Point, original: str, label: int, stress: float, sliders: Any) -> str:
    """Return the pictures of one latent, beside that of the image that was read, and the latent itself."""
    latent = explored.moved(point, sliders)
    pictures = explored.pictures(latent, explored.labels(label, 1), stress)
    parts = [figure(images[0], name, name) for name, images in pictures.items()]
    title = f"latent: {latent.shape[1]} numbers, {float(latent.min()):.2f} to {float(latent.max()):.2f}"
    return figures(original, *parts) + bars(latent, title)


def _class_controls(explored: Explored) -> tuple[Any, Any]:
    """Add the class and its stress; hidden for a model without classes."""
    names = explored.model.class_names
    with gradio.Row(visible=bool(names)):
        kind = gradio.Radio if len(names) <= FEW else gradio.Dropdown
        label = kind([(name, k) for k, name in enumerate(names)], value=0, label="class", elem_id="class", scale=3)
        stress = gradio.Slider(
            0, 3, 1, step=0.05, label="stress on the class", elem_id="stress", min_width=120, buttons=[]
        )  # fmt: skip
    return label, stress


def _sliders(count: int) -> list[Any]:
    """Add a slider for each direction, four in a row."""
    found = []
    for first in range(0, count, 4):
        with gradio.Row():
            for k in range(first + 1, min(first + 4, count) + 1):
                slider = gradio.Slider(
                    -FARTHEST, FARTHEST, 0, step=0.01, label=f"direction {k}", elem_id=f"direction-{k}", min_width=120,
                    buttons=[],
                )  # fmt: skip
                found.append(slider)
    return found
