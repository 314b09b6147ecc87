"""The private names of other packages that this one uses, each with the reason."""

import ast
import importlib
import inspect
import pkgutil

import pytest

import mixup_transforms

PRIVATE = {
    "torch.utils._pytree": "v2 takes batches apart with it, so that a batch has the same leaves "
    "here as there; torch has no public module that does it",
    "torch.utils.data._utils.collate": "default_collate with another function for tensors, as "
    "torch's documentation of it shows",
    "torch._C": "_are_functorch_transforms_active: whether torch.func follows a call, so that no "
    "value can be looked at; torch has no public name for it",
    "forward_ad._current_level": "whether anything can have a tangent; in public only each tensor "
    "can be asked, which takes longer than all that is decided by it",
    "Tensor._make_wrapper_subclass": "a tensor without memory, for a batch that is still its "
    "samples; torch documents no other way",
    "torch.UntypedStorage._new_shared": "memory that a worker shares with the loader, which "
    "default_collate takes in the same way",
}

MODULES = {
    info.name: importlib.import_module(info.name)
    for info in pkgutil.walk_packages(mixup_transforms.__path__, "mixup_transforms.")
}


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def is_foreign(module):
    return module.split(".")[0] not in ("mixup_transforms", "__future__", "_typeshed")


def own_names(trees):
    """Return the private names that the package defines itself."""
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                yield node.attr


def private_names(sources):
    """Return the private names of other packages that occur in sources."""
    trees = [ast.parse(source) for source in sources]
    own = {*own_names(trees)}
    used = set()
    for node in [node for tree in trees for node in ast.walk(tree)]:
        if isinstance(node, ast.ImportFrom) and is_foreign(node.module):
            for path in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                used |= {path} if any(map(is_private, path.split("."))) else set()
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if is_foreign(alias.name)]
            used |= {name for name in names if any(map(is_private, name.split(".")))}
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            used.add(ast.unparse(node))
    return {name for name in used if not any(name.startswith(f"{other}.") for other in used)}


def test_the_list_is_what_the_package_uses():
    assert private_names(inspect.getsource(module) for module in MODULES.values()) == {*PRIVATE}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from torch.utils._pytree import tree_map", {"torch.utils._pytree"}),
        ("from torch.utils import _pytree as tree", {"torch.utils._pytree"}),
        ("import torchvision.transforms.v2._utils", {"torchvision.transforms.v2._utils"}),
        ("torch._C._get_tracing_state()", {"torch._C"}),
        ("x._version + x.__len__()", {"x._version"}),
        ("from mixup_transforms._mixers.base import Mixer\nself._p = 1\nself._p", set()),
    ],
)
def test_private_names_are_found(source, expected):
    assert private_names([source]) == expected


def classes():
    for module in MODULES.values():
        for thing in vars(module).values():
            if inspect.isclass(thing) and thing.__module__ == module.__name__:
                yield thing


@pytest.mark.parametrize("cls", [*classes()], ids=lambda cls: cls.__name__)
def test_no_private_method_of_a_foreign_base_is_overridden(cls):
    own = {name for name in vars(cls) if is_private(name)}
    for base in cls.__mro__[1:]:
        if is_foreign(base.__module__):
            taken = own & {*vars(base)} - {"_abc_impl", "_is_protocol"}
            assert not taken, f"{base.__name__} has its own {sorted(taken)}"
