"""Show in the gallery the picture that an example saves."""

import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst


def scrape(block: tuple[Any, ...], block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Move the picture named like the example from beside it into the gallery."""
    picture = Path(block_vars["src_file"]).with_suffix(".png")
    if not picture.exists():
        return ""
    target = next(block_vars["image_path_iterator"])
    shutil.move(picture, target)
    return figure_rst([target], gallery_conf["src_dir"])
