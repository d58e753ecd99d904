"""Pages from templates: HTML, each one file with embedded pictures, and Markdown. Needs the extra ``[train]``."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require

if TYPE_CHECKING:
    import jinja2
else:  # at import, so that a missing library is reported before a training and not after it
    jinja2 = require("jinja2", "train", "reports")

__all__ = ["TEMPLATES", "data_uri", "render"]

#: Folder of the templates; all pages extend ``base.html.j2``.
TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, folder: Path = TEMPLATES, **values: Any) -> str:
    """Render a template; values are escaped, except in Markdown.

    Args:
        template: file name of the template, ``.md.j2`` if it is Markdown.
        folder: its folder; a template that it extends may be in :data:`TEMPLATES`.
        values: variables of the template.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=not template.endswith(".md.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def data_uri(picture: bytes, kind: str = "png") -> str:
    """Return a picture, ``png`` or ``jpeg``, as a data URI, which embeds it in a page."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
