"""The documentation site: ``make docs`` builds it into ``site/``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

import feature_alignment

sys.path.insert(0, str(Path(__file__).parent))

project = "feature-alignment"
author = "The feature-alignment authors"
release = version = feature_alignment.__version__
html_title = f"{project} {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
html_theme = "furo"
html_math_renderer = "mathml"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
exclude_patterns = ["notebooks"]

# Markdown as GitHub reads it.
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autoclass_content = "both"
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_preprocess_types = False
python_maximum_signature_line_length = 88


def link_within_the_site(app: Sphinx, document: str, content: list[str]) -> None:
    """Turn links to the reports in ``results`` into links to the page that includes them."""
    text = re.sub(r"\]\(\.\./results(/(cpu|emoji)/[^)]*\.md)?\)", "](results.md)", content[0])
    content[0] = re.sub(r"\]\((\.\./results/[^)]*)\.md\)", r"](\1.json)", text)


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("source-read", link_within_the_site)
