"""The tab for a network: the picture that a layer sees."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..networks import LoadedNetwork
from .layers import OUTPUT, Layer, layers_of, pre_image
from .markup import figure, figures, line
from .pad import SIDE, pad, repainted
from .uploads import Refused, pixels_of
from .web import LIVE, gradio

__all__ = ["layers_tab"]

#: Evaluations of the network that are offered.
BUDGETS = (30, 100, 300)
BEGIN = "Draw or drop a picture, then choose a layer."
CHOOSE = "Choose a layer to see what it keeps of the picture."


def layers_tab(network: LoadedNetwork, paper: float = 1.0, picture: Tensor | None = None) -> None:
    """Add the tab.

    Args:
        network: whose layers are listed.
        paper: grey value of the empty canvas.
        picture: what it shows at first, shape ``(C, H, W)``.
    """
    layers = {layer.title: layer for layer in layers_of(network)}
    with gradio.Tab("Layers"), gradio.Row():
        with gradio.Column(scale=0, min_width=SIDE + 20):
            canvas = pad(paper, network.image_shape[-1], elem_id="pad-layers", picture=picture)
            budget = gradio.Radio(BUDGETS, value=BUDGETS[1], label="evaluations at most", elem_id="budget")
        with gradio.Column(scale=1, min_width=320):
            chosen = gradio.Radio([*layers], label="layer", elem_id="layers", elem_classes="fa-layers")
        with gradio.Column(scale=1, min_width=480):
            status = gradio.HTML(line(BEGIN if picture is None else CHOOSE), elem_id="layer-status")
            view = gradio.HTML(elem_id="pre-image", min_height=260)

    def check(url: str) -> list[Any]:
        """Show the picture as the network is given it."""
        try:
            image = pixels_of(url, network.image_shape, network.white) if url else None
        except Refused as refused:
            return [gradio.skip(), line(str(refused), wrong=True), gradio.skip()]
        shown = "" if image is None else figures(figure(image[0], "picture, as the network is given it", "image"))
        return [shown, line(BEGIN if image is None else CHOOSE), repainted(url, network.white)]

    def look(url: str, title: str | None, budget: int, progress: Any = gradio.Progress()) -> list[Any]:  # noqa: B008
        """Find the layer's pre-image."""
        if not url or title is None:
            return [gradio.skip(), line(BEGIN)]
        try:
            image = pixels_of(url, network.image_shape, network.white)
        except Refused as refused:
            return [gradio.skip(), line(str(refused), wrong=True)]
        return _found(network, layers[title], image, int(budget), progress)

    canvas.input(check, canvas, [view, status, canvas], api_name="picture", **LIVE)
    for name, control in (("layer", chosen), ("budget", budget)):
        control.input(
            look,
            [canvas, chosen, budget],
            [view, status],
            api_name=name,
            trigger_mode="always_last",
            show_progress_on=view,
        )


def _found(network: LoadedNetwork, layer: Layer, image: Tensor, budget: int, progress: Any) -> list[Any]:
    """Return the picture beside the pre-image, and what the search came to."""
    said = f"what {layer.name or 'the output'} sees"
    found = pre_image(network, layer.name, image, budget, lambda done: progress((done, budget), desc=said))
    error = float((found.input - image.to(found.input)).square().mean().sqrt())
    text = (
        f"{layer.name or OUTPUT or 'output'}: residual {float(found.residual):.3f} of its output after "
        f"{int(found.evaluations)} evaluations; pixels differ by {error:.3f} (root mean square)."
    )
    return [figures(figure(image[0], "picture", "image"), figure(found.input[0], said, "pre-image")), line(text)]
