"""The tab for a walk between two images, along the straight line between their latents and classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .exploring import End, Explored
from .markup import figure, figures, grid, line
from .pad import SIDE, pad, paper_of, repainted
from .uploads import Refused, pixels_of
from .web import LIVE, gradio

__all__ = ["walk_tab"]

#: Images of the strip.
STEPS = 11
BEGIN = "Two samples to begin with: draw or drop images instead of them."


def walk_tab(explored: Explored) -> None:
    """Add the tab."""
    paper, side = paper_of(explored.model), explored.model.image_shape[-1]
    begin, where = explored.two_samples(), 0.5
    first, second = explored.walk(begin, torch.tensor([0.0, 1.0]))
    with gradio.Tab("Walk"):
        with gradio.Row():
            with gradio.Column(scale=0, min_width=SIDE + 20):
                left = pad(paper, side, elem_id="pad-left", picture=first)
            with gradio.Column(scale=1):
                between = gradio.HTML(_between(explored, begin, where), elem_id="between", elem_classes="fa-middle")
                position = gradio.Slider(
                    0, 1, where, step=0.01, label="from left to right", elem_id="position", buttons=[]
                )
            with gradio.Column(scale=0, min_width=SIDE + 20):
                right = pad(paper, side, elem_id="pad-right", picture=second)
        status = gradio.HTML(line(BEGIN), elem_id="walk-status")
        strip = gradio.HTML(_strip(explored, begin), elem_id="strip", elem_classes="fa-strip")
    ends = gradio.State(begin)
    for place, canvas in enumerate((left, right)):
        outputs = [ends, between, strip, status, canvas]
        canvas.input(_reader(explored, place), [canvas, ends, position], outputs, api_name=f"end_{place + 1}", **LIVE)

    def walk(ends: list[End], where: float) -> str:
        """Decode the latent at a position between the ends."""
        return _between(explored, ends, where)

    position.input(walk, [ends, position], between, api_name="walk", queue=False, **LIVE)


def _reader(explored: Explored, place: int) -> Callable[..., list[Any]]:
    model = explored.model

    def read(url: str, ends: list[End], where: float) -> list[Any]:
        """Read a picture as one end of the walk."""
        if not url:  # cleared: until something is drawn, the end stays what it was
            return [gradio.skip()] * 5
        try:
            image = pixels_of(url, model.image_shape, model.white)
        except Refused as refused:
            return [*[gradio.skip()] * 3, line(str(refused), wrong=True), gradio.skip()]
        ends = [*ends]
        ends[place] = explored.read(image)
        return [ends, _between(explored, ends, where), _strip(explored, ends), line(""), repainted(url, model.white)]

    return read


def _between(explored: Explored, ends: list[End], where: float) -> str:
    return figures(figure(explored.walk(ends, torch.tensor([where]))[0], f"{where:.0%} of the way", "between"))


def _strip(explored: Explored, ends: list[End]) -> str:
    return grid([explored.walk(ends, torch.linspace(0, 1, STEPS))])
