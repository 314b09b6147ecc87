"""What the package promises about its own face."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mixup_transforms
from mixup_transforms import functional, testing
from tests.test_messages import ENTRIES

TWO_POSITIONAL = (
    mixup_transforms.LabelMixture,
    mixup_transforms.MixCollate,
    mixup_transforms.MixedDataset,
    mixup_transforms.MixedStream,
    mixup_transforms.RandomChoice,  # p stands where v2.RandomChoice has it
)
PUBLIC = [(mixup_transforms, name) for name in mixup_transforms.__all__]
PUBLIC += [(module, name) for module in (functional, testing) for name in module.__all__]
FOLDER = Path(mixup_transforms.__file__).parent


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_every_public_name_is_documented_with_an_example(module, name):
    thing = getattr(module, name)
    assert thing.__doc__
    if not (inspect.ismodule(thing) or name == "__version__"):
        assert doctest.DocTestParser().get_examples(thing.__doc__), f"{name} has no example"


@pytest.mark.parametrize(
    "cls", [c for m, n in PUBLIC if inspect.isclass(c := getattr(m, n))], ids=lambda c: c.__name__
)
def test_arguments_after_the_first_are_keyword_only(cls):
    first, *rest = inspect.signature(cls).parameters.values()
    assert first.kind in (first.KEYWORD_ONLY, first.POSITIONAL_OR_KEYWORD)
    if cls in TWO_POSITIONAL:
        rest = rest[1:]
    assert all(p.kind is p.KEYWORD_ONLY for p in rest)


def test_what_looks_public_is_public():
    modules = {path.stem for path in FOLDER.iterdir() if not path.name.startswith(("_", "."))}
    assert modules - {"py"} == {"functional", "testing"}
    for module in (functional, testing):
        public = {name: thing for name, thing in vars(module).items() if not name.startswith("_")}
        own = {n for n, t in public.items() if getattr(t, "__module__", None) == module.__name__}
        assert own == {*module.__all__}


def test_the_check_of_a_mixer_takes_options_by_keyword_and_is_imported_by_name():
    first, *rest = inspect.signature(testing.check_mixer).parameters.values()
    assert first.kind is first.POSITIONAL_OR_KEYWORD
    assert all(p.kind is p.KEYWORD_ONLY for p in rest)
    program = "import mixup_transforms, sys; assert 'mixup_transforms.testing' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", functional.__all__)
def test_kernels_take_their_tensor_by_position_and_options_by_keyword(name):
    parameters = inspect.signature(getattr(functional, name)).parameters.values()
    assert next(iter(parameters)).kind is inspect.Parameter.POSITIONAL_ONLY
    for p in parameters:
        assert (p.default is p.empty) == (p.kind is not p.KEYWORD_ONLY)
        assert p.annotation is not p.empty


def test_each_folder_has_its_tests():
    floors = {path.parent.name for path in FOLDER.glob("_*/__init__.py")}
    tested = {f"_{path.parent.name}" for path in Path(__file__).parent.glob("*/test_*.py")}
    assert tested - {"_frameworks", "_peers"} == floors


def words(node):
    """Return what an expression says, as a pattern."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(words, node.values))
    constant = isinstance(node, ast.Constant)
    return re.escape(re.sub(r"\s+", " ", node.value)) if constant else ".*"


def errors(path):
    """Return what a module can raise, but for what repeats the words of torch's errors."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        kind = ast.unparse(node.func) if isinstance(node, ast.Call) else None
        if kind in ("TypeError", "ValueError", "IndexError"):
            (said,) = node.args
            if "{error}" not in ast.unparse(said):
                yield f"{kind}: {words(said)}"


# The command says its own, beside which its tests lay files.
MODULES = {*FOLDER.rglob("*.py")} - {FOLDER / "_preview" / "pictures.py"}


@pytest.mark.parametrize("path", sorted(MODULES), ids=lambda path: path.stem)
def test_what_an_error_says_is_listed(path):
    listed = [" ".join(message.split()) for _, message in ENTRIES]
    for error in errors(path):
        assert any(re.fullmatch(error, message) for message in listed), error
