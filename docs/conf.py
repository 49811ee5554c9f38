"""How Sphinx builds the site: ``make docs``, without a network; a warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

from iaside_plugins import __version__  # noqa: E402  of this checkout

project = "iaside-plugins"
author = "The iaside-plugins developers"
copyright = author
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "made_pages",
    "outside_links",
    "site_checks",
]
exclude_patterns = ["_build", "generated"]
nitpicky = True
# Annotations name classes of torch and numpy, whose pages are not at hand without a network, and
# ours by the module that defines them.
nitpick_ignore_regex = [("py:(class|obj)", ".*")]
default_role = "code"  # docstrings write `code` as Markdown does

myst_enable_extensions = ["colon_fence", "substitution"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the tests run the notebooks; outputs are committed

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 80
add_module_names = False

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
smartquotes = False  # `--data` in a sentence stays an option
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"
