"""Pages from templates: HTML that is one file, its pictures inside. Needs the extra ``[train]``."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require

if TYPE_CHECKING:
    import jinja2
else:  # at once, so that it is not missed after a training
    jinja2 = require("jinja2", "train", "reports")

__all__ = ["TEMPLATES", "data_uri", "render"]

#: The templates of this room; ``base.html.j2`` is for all pages.
TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, folder: Path = TEMPLATES, **values: Any) -> str:
    """Fill a template in; what is put into it is escaped.

    Args:
        template: its file name.
        folder: where it is; one that it extends may be in :data:`TEMPLATES`.
        values: what it shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def data_uri(png: bytes) -> str:
    """Return a picture as an address that holds it, so that a page can be sent as one file."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
