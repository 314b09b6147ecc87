"""Zip with each example in the gallery the scripts that it imports, so that it runs anywhere."""

import ast
from pathlib import Path
from zipfile import ZipFile

from sphinx.application import Sphinx


def with_imports(script: Path) -> set[Path]:
    """Return a script and all those beside it that it imports."""
    found = {script}
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        beside = script.with_name(f"{getattr(node, 'module', None)}.py")
        if isinstance(node, ast.ImportFrom) and beside.exists():
            found |= with_imports(beside)
    return found


def zip_whole(app: Sphinx) -> None:
    """Write the archives anew, which hold a script alone."""
    for archive in (app.srcdir / "gallery").glob("*.zip"):
        with ZipFile(archive, "w") as whole:
            for script in with_imports(app.srcdir / "examples" / f"{archive.stem}.py"):
                whole.write(script, script.name)


def say_so(app: Sphinx, page: str, source: list[str]) -> None:
    """Say at the top of a page what is to be had at its end."""
    if page.startswith("gallery/"):
        source[0] = source[0].replace(
            "to download the full example code", "to download it whole, with what it imports"
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Do so once the gallery is made, and when its pages are read."""
    app.connect("builder-inited", zip_whole, priority=900)
    app.connect("source-read", say_so)
    return {"parallel_read_safe": True}
