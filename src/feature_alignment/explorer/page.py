"""The page: the tabs that suit a model, or a network of any kind."""

from __future__ import annotations

import copy
import html
from typing import Any

import torch

from ..models import Model
from ..networks import LoadedNetwork, NetworkError
from ..networks.sources.of_runs import encoder_of
from .exploring import Explored
from .image_tab import image_tab
from .layers_tab import layers_tab
from .pad import paper_of
from .samples_tab import samples_tab
from .walk_tab import walk_tab
from .web import ASSETS, gradio

__all__ = ["build"]


def build(subject: Model | LoadedNetwork, name: str = "") -> gradio.Blocks:
    """Return the page for a model or a network, ready for ``launch()``, as a Hugging Face Space does.

    Args:
        subject: a trained model, whose page has an image and its latent, walks, samples and layers; or a network of any
            kind from :func:`feature_alignment.networks.load_network`, whose page has its layers.
        name: what it is called on the page.

    Raises:
        MissingExtra: Gradio is not installed.
        NetworkError: pictures are not what the network takes.

    Example:
        >>> from feature_alignment.models import VAE
        >>> build(VAE((1, 8, 8), latent=4, channels=[2], width=8), "mine")
        Gradio Blocks instance: ...
    """
    channels = subject.image_shape[0]
    if channels not in (1, 3):
        raise NetworkError(f"{name}: takes {channels} channels; pictures have 1 or 3")
    page = gradio.Blocks(title="falign explore", analytics_enabled=False, fill_width=True)
    with page:
        gradio.HTML(f"<style>{(ASSETS / 'style.css').read_text()}</style>{_headline(subject, name)}", padding=False)
        if isinstance(subject, LoadedNetwork):
            layers_tab(subject)
        else:
            _model_tabs(subject, name)
    page.queue(default_concurrency_limit=2)
    return page


def _model_tabs(model: Model, name: str) -> None:
    explored = Explored(model.eval(), name)
    for tab in (image_tab, walk_tab, samples_tab):
        tab(explored)
    try:
        encoder = encoder_of(copy.deepcopy(model).float(), name).eval().requires_grad_(False)
    except NetworkError:  # it has none
        return
    sample = explored.walk(explored.two_samples(), torch.zeros(1))[0]
    channels, height, width = model.image_shape
    layers_tab(LoadedNetwork(name, encoder, (channels, height, width), white=model.white), paper_of(model), sample)


def _headline(subject: Any, name: str) -> str:
    channels, height, width = subject.image_shape
    about = [f"{height} x {width} {'grey' if channels == 1 else 'RGB'}"]
    if isinstance(subject, Model):
        about = [type(subject).__name__, *about, f"latent of {subject.latent}"]
        about += [f"{subject.classes} classes"] if subject.classes else []
    title = html.escape(name or type(subject).__name__)
    return f'<p class="fa-title"><strong>{title}</strong> {html.escape(" · ".join(about))}</p>'
