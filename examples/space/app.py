"""A Hugging Face Space that explores a model: put this file beside its ``config.json`` and ``model.safetensors``."""

from pathlib import Path

from feature_alignment.explorer import build
from feature_alignment.models import Model

demo = build(Model.from_pretrained(Path(__file__).parent), "My digits")

if __name__ == "__main__":
    demo.launch(footer_links=[])
