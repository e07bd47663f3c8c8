"""Sphinx's settings for the book. `make book` writes the source that they are about."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from repository import ADDRESS, FOLDER  # noqa: E402

import advlearn  # noqa: E402

project = "advlearn"
author = "The advlearn developers"
copyright = "The advlearn developers. Lessons under CC BY 4.0, code under MIT"
release = advlearn.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
]

# The lessons are shown as they are committed, and never run here.
nb_execution_mode = "off"
nb_render_markdown_format = "myst"
nb_code_prompt_show = "Show the set-up cell"
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True  # attributes as one list, not as a heading each
toc_object_entries_show_parents = "hide"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
default_role = "py:obj"
# Copy what a reader would type, not the prompts.
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "sphinx_book_theme"
html_title = "advlearn"
html_static_path = [str(HERE / "static")]
html_extra_path = [str(FOLDER / "extra")]
html_favicon = str(HERE / "static" / "favicon.svg")
html_css_files = ["book.css"]
html_js_files = [("book.js", {"defer": "defer"})]
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {
    "navbar_persistent": [],  # the search field stands in the sidebar
    "repository_url": ADDRESS,
    "use_repository_button": True,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
}
html_context = {"default_mode": "auto"}


def _plain(
    _app: object, _what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Keep |x| and a bare * what they are: docstrings are plain text with formulas, not markup."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()  # Python's own words for a named field; its name and type say more
    lines[:] = [
        line
        if line.lstrip().startswith((">>>", "..."))
        else re.sub(r"(`[^`]*`)|([|]|(?<![\w*])[*](?=[,)]))", lambda m: m[1] or "\\" + m[2], line)
        for line in lines
    ]


def setup(app: Sphinx) -> None:
    """Read docstrings as they are meant."""
    app.connect("autodoc-process-docstring", _plain, priority=100)
