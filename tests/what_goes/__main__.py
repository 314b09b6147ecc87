"""The tables of ``docs/what_goes.md``: ``python -m tests.what_goes`` writes them."""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from mixup_transforms._batch.intake import Takes
from tests.what_goes.batches import described
from tests.what_goes.calls import CALL, CALLS
from tests.what_goes.cells import MAKE, PASTING, refusal_of
from tests.what_goes.form import takes_of
from tests.what_goes.forms import FORMS

PAGE = Path(__file__).parents[2] / "docs" / "what_goes.md"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def names(kinds):
    return ", ".join(f"`{kind.__name__}`" for kind in kinds)


def shown(batch):
    """Write a batch as it would be written in Python, with what each leaf is in its place."""
    if isinstance(batch, Mapping):
        items = ", ".join(f'"{key}": {shown(value)}' for key, value in batch.items())
        return f"{{{items}}}" if type(batch) is dict else f"{type(batch).__name__}({{{items}}})"
    if isinstance(batch, tuple | list) and described(batch) == type(batch).__name__:
        if isinstance(batch, list):
            return f"[{shown(batch[0])}, …]"
        return f"({', '.join(map(shown, batch))})"
    return described(batch)


def introduced(form):
    """The first two cells of a form's row."""
    told = [f"`{name}={value!r}`" for name, value in form.settings.items() if name != "num_classes"]
    told += [] if form.dims is None else [f"`dims={form.dims}` where a mixer has it"]
    return ", ".join([form.name, *told]), f"`{shown(form.make(form.numbers))}`"


def said(refusal):
    return f"`{refusal.error.__name__}: {refusal.words}`" if refusal else "a mixed batch"


def refusals(form, call=CALL):
    """What each mixer says of a form."""
    return {kind: refusal_of(form, kind, call) for kind in MAKE}


def declared():
    for name in [declaration.name for declaration in fields(Takes)]:
        meaning = re.search(rf"\b{name}: (.+?)(?=\n +\w+: |\s*$)", Takes.__doc__, re.DOTALL)
        makers = {**MAKE, **PASTING}
        kinds = [kind for kind, make in makers.items() if getattr(takes_of(make()), name)]
        yield f"`{name}`", " ".join(meaning[1].split()).removesuffix("."), names(kinds)


def taken_by_all():
    for form in FORMS:
        if not any(refusals(form).values()):
            back = [f"`{new}`" if new else "as they were" for new in form.labels.values()]
            yield *introduced(form), ", ".join(back)


def taken_by_some():
    for form in FORMS:
        by = refusals(form)
        words = dict.fromkeys(said(refusal) for refusal in by.values() if refusal)
        takers = [kind for kind in MAKE if not by[kind]]
        if words and takers:
            yield *introduced(form), names(takers), ", ".join(words)


def taken_by_none():
    for form in FORMS:
        by = refusals(form)
        if all(by.values()):
            yield *introduced(form), ", ".join(dict.fromkeys(map(said, by.values())))


def otherwise():
    """Where a call does otherwise than a plain one."""
    found = {}
    plain = {form.name: refusals(form) for form in FORMS}
    for call in CALLS:
        for form in FORMS:
            by = refusals(form, call)
            for refusal in dict.fromkeys(by.values()):
                kinds = tuple(k for k in MAKE if by[k] == refusal != plain[form.name][k])
                if kinds:
                    found.setdefault((call, kinds, refusal), []).append(form.name)
    for (call, kinds, refusal), forms in found.items():
        yield (
            call.name,
            "; ".join(forms) if len(forms) < len(FORMS) else "any",
            names(kinds) if len(kinds) < len(MAKE) else "any",
            said(refusal),
        )


def tables():
    batch = ["batch", "as"]
    return {
        "declared": table(["declared", "meaning", "by"], declared()),
        "all": table([*batch, "labels come back as"], taken_by_all()),
        "some": table([*batch, "taken by", "what the others say"], taken_by_some()),
        "none": table([*batch, "what is said"], taken_by_none()),
        "calls": "\n".join(f"- {call}" for call in CALLS),
        "otherwise": table(["call", "batch", "mixer", "what comes of it"], otherwise()),
    }


def written(page):
    """The page with its tables as they have to be."""
    for name, text in tables().items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = block.subn(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)
        assert count == 1, f"the page has {count} places for the table {name!r}"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
