"""Warn of public names that the API reference or its summary leaves out, or without a docstring."""

import inspect
from collections.abc import Iterable, Iterator
from types import ModuleType

from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.autosummary import autosummary_table
from sphinx.util import logging

import mixup_transforms
import mixup_transforms.testing


def faults(
    modules: Iterable[ModuleType], documented: Iterable[str], summarised: Iterable[str]
) -> Iterator[str]:
    """Say what is wrong with public names, given those in the reference and in its summary."""
    for module in modules:
        for name in module.__all__:
            full_name, thing = f"{module.__name__}.{name}", getattr(module, name)
            if full_name not in documented:
                yield f"{full_name} is not in the API reference"
            if full_name not in summarised and not inspect.ismodule(thing):
                yield f"{full_name} is not in the summary of the API reference"
            if not inspect.getdoc(thing):
                yield f"{full_name} has no docstring"
            if inspect.isclass(thing):
                for member, value in inspect.getmembers(thing):
                    own = str(getattr(value, "__module__", "")).startswith("mixup_transforms")
                    if own and not member.startswith("_") and not inspect.getdoc(value):
                        yield f"{full_name}.{member} has no docstring"


def check(app: Sphinx, env: BuildEnvironment) -> None:
    """Turn each fault into a warning, which ends a build with ``-W``."""
    documented = env.domains["py"].data["objects"]
    modules = (mixup_transforms, mixup_transforms.functional, mixup_transforms.testing)
    tables = env.get_doctree("api").findall(autosummary_table)
    summarised = {link["reftarget"] for table in tables for link in table.findall(pending_xref)}
    for fault in faults(modules, documented, summarised):
        logging.getLogger(__name__).warning(fault)


def setup(app: Sphinx) -> dict[str, bool]:
    """Check once all pages are read."""
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True}
