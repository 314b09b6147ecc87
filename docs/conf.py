"""How Sphinx builds the site: ``python -m sphinx -W --keep-going -b html docs build/html``."""

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
os.environ["TQDM_DISABLE"] = "1"  # the gallery shows what the examples print

project = "mixup_transforms"
version = release = installed_version("mixup-transforms")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "public_names",
    "shared_members",
    "whole_scripts",
]
exclude_patterns = ["examples", "_ext", "_includes"]
highlight_language = "none"
nitpicky = True
# What a mixer of one's own is handed: a plan, and images that may differ in size.
nitpick_ignore_regex = [("py:class", r"mixup_transforms\._.*|.*AnyImages")]

html_theme = "furo"
html_title = "mixup_transforms"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False

myst_heading_anchors = 3
myst_fence_as_directive = ["math"]  # as GitHub writes formulas

autodoc_member_order = "bysource"
maximum_signature_line_length = 80
autosummary_generate = False
# Addresses of types, kept here, since their own inventories are not to be had without a network.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3/", "_inventories/python.txt"),
    "numpy": ("https://numpy.org/doc/stable/", "_inventories/numpy.txt"),
    "pillow": ("https://pillow.readthedocs.io/en/stable/", "_inventories/pillow.txt"),
    "torch": ("https://docs.pytorch.org/docs/stable/", "_inventories/torch.txt"),
    "torchvision": ("https://docs.pytorch.org/vision/stable/", "_inventories/torchvision.txt"),
}
napoleon_custom_sections = ["Shape"]
napoleon_use_ivar = True
napoleon_use_param = False  # would say of each of several arguments what holds for all

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    # Those that choose take too long.
    "filename_pattern": r"/(train|segment|gan|regress|preview)_\w+\.py$",
    "ignore_pattern": r"training\.py$",
    "default_thumb_file": str(Path(__file__).parent / "images" / "preview_mixup.png"),
    "image_scrapers": ("saved_pictures.scrape",),
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
    "notebook_extensions": [],  # the examples read the command line
    "min_reported_time": float("inf"),
    "write_computation_times": False,
}


def setup(app: Sphinx) -> None:
    """Leave out the empty line that a doctest in Markdown needs before its closing fence."""
    app.connect("source-read", lambda app, page, source: source.append(trimmed(source.pop())))


def trimmed(markdown: str) -> str:
    """Join the last line of each code block to its closing fence."""
    return markdown.replace("\n\n```\n", "\n```\n")
