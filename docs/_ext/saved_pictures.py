"""Show in the gallery the pictures that an example saves, each below the code that drew it."""

import shutil
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst


def scrape(block: tuple[Any, ...], block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Move pictures named after the example from beside it into the gallery."""
    script = Path(block_vars["src_file"])
    moved = []
    for picture in sorted(script.parent.glob(f"{script.stem}*.png")):
        moved.append(next(block_vars["image_path_iterator"]))
        shutil.move(picture, moved[-1])
    return figure_rst(moved, gallery_conf["src_dir"]) if moved else ""
