"""The explorer: a web page on which a model is drawn to, moved along its latents, and looked into layer by layer.

Needs the extra ``[explore]``. The page is built by Gradio, which nothing else in this package imports.
"""

from .page import build
from .server import listen, serve

__all__ = ["build", "listen", "serve"]
