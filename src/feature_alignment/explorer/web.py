"""Gradio, with its telemetry off. The other files of this room import it from here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require

__all__ = ["ASSETS", "LIVE", "gradio"]

# Gradio reads these when it is imported.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

if TYPE_CHECKING:
    import gradio
else:
    gradio = require("gradio", "explore", "the explorer")

#: Folder of the page's own style and script.
ASSETS = Path(__file__).parent / "assets"

#: Of the events of sliders and drawing: no spinner, and of those that come while one is answered only the last.
LIVE: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
