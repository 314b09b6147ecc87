"""What goes with what: every cell of the table is tried, and the page shows the table."""

import os
import re
from dataclasses import fields
from functools import partial
from itertools import product

import pytest

from mixup_transforms import Mixer, RandomChoice, RandomCutMix, RandomMixup
from mixup_transforms._batch.intake import Takes
from tests.test_messages import ENTRIES
from tests.what_goes.__main__ import PAGE, written
from tests.what_goes.batches import is_same, nodes
from tests.what_goes.calls import CALL, CALLS
from tests.what_goes.cells import MAKE, NESTED, refusal_of
from tests.what_goes.forms import FORMS

# Some versions of torch.compile use names of torch's own that are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EVERYTHING = os.environ.get("HYPOTHESIS_PROFILE") == "soak"


def id_of(it):
    return it.__name__ if isinstance(it, type) else repr(it)


def check_cell(form, kind, call):
    refusal = refusal_of(form, kind, call)
    before, given = form.make(form.numbers), form.make(form.numbers)
    mix = partial(call.run, partial(MAKE[kind], **form.told(kind)), given, form)
    if refusal is None:
        form.check(before, mix(), mixed=call.mixes and form.size > 1)
    else:
        with pytest.raises(refusal.error, match=f"(?s){refusal.pattern}") as caught:
            mix()
        assert caught.type is refusal.error
    if refusal or not call.writes:
        untouched = dict(nodes(given))
        assert all(is_same(leaf, untouched[keys]) for keys, leaf in nodes(before))


def takes_turns(form, kind, call):
    """Whether it is another mixer's turn to have its compiled form tried with a batch."""
    if not call.compiles or EVERYTHING or refusal_of(form, kind, call):
        return False
    taking = [kind for kind in MAKE if not refusal_of(form, kind, call)]
    return kind is not taking[FORMS.index(form) % len(taking)]


CELLS = [
    (form, kind, call)
    for form, kind, call in product(FORMS, MAKE, CALLS)
    if call not in form.untried and not takes_turns(form, kind, call)
]


@pytest.mark.parametrize(("form", "kind", "call"), CELLS, ids=id_of)
def test_a_cell(form, kind, call):
    check_cell(form, kind, call)


def test_the_page_shows_the_table():
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "write it again with python -m tests.what_goes"


def test_every_refusal_is_among_the_messages():
    refusals = {NESTED, *(it for form in FORMS for it in (*form.refused, *form.elsewhere.values()))}
    for refusal in refusals - {None}:
        whole = re.compile(f"{refusal.error.__name__}: {refusal.pattern}", re.DOTALL)
        assert any(whole.match(" ".join(message.split())) for _, message in ENTRIES), refusal


def fails(form, kind):
    try:
        check_cell(form, kind, CALL)
    except Exception:
        return True
    return False


@pytest.mark.parametrize("name", [it.name for it in fields(Takes) if hasattr(Mixer, it.name)])
@pytest.mark.parametrize("kind", [kind for kind in MAKE if kind is not RandomChoice], ids=id_of)
def test_another_declaration_is_another_page(kind, name, monkeypatch):
    monkeypatch.setattr(kind, name, not getattr(kind, name))
    page = PAGE.read_text(encoding="utf-8")
    assert page != written(page)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(RandomMixup, "averages"), (RandomMixup, "blends_masks"), (RandomCutMix, "spatial")],
)
def test_a_mixer_that_asks_for_too_little_fails_in_a_cell(kind, name, monkeypatch):
    assert not any(fails(form, kind) for form in FORMS)
    monkeypatch.setattr(kind, name, False)
    assert any(fails(form, kind) for form in FORMS)
