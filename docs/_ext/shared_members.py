"""Lead from each class to its public base, and from each mixer to what all mixers share."""

from typing import Any

from sphinx.application import Sphinx

import mixup_transforms
from mixup_transforms import Mixer

SHARED = ("make_params", "replay", "between", "p", "generator")


def add_links(app: Sphinx, what: str, name: str, cls: Any, options: Any, lines: list[str]) -> None:
    """Name below a class the nearest base that a reader can look up, and what it shares."""
    if what != "class":
        return
    for base in cls.__mro__[1:]:
        if base.__name__ in mixup_transforms.__all__ or base.__module__.startswith("torch"):
            lines += ["", f"Derived from :py:class:`~{base.__module__}.{base.__name__}`."]
            break
    if issubclass(cls, Mixer) and cls is not Mixer:
        links = ", ".join(f":py:obj:`~mixup_transforms.Mixer.{member}`" for member in SHARED)
        lines[-1] += f" As every mixer it has {links}."
    lines.append("")


def setup(app: Sphinx) -> dict[str, bool]:
    """Change what autodoc has read."""
    app.connect("autodoc-process-docstring", add_links)
    return {"parallel_read_safe": True}
