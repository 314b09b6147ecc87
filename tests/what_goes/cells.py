"""What has to come of each form of batch with each mixer in each call."""

from mixup_transforms import RandomChoice, RandomClassMix, RandomCopyPaste
from tests.cases import MIXERS
from tests.what_goes.calls import CHOICE
from tests.what_goes.form import Refusal

# How a mixer of each class is made that mixes images whatever is beside them.
MAKE = {}
for case in MIXERS:
    if type(case.make()).__module__.startswith("mixup_transforms."):
        MAKE.setdefault(type(case.make()), case.make)

# And of those that paste what a batch says of its images, and refuse all others.
PASTING = {RandomCopyPaste: RandomCopyPaste, RandomClassMix: RandomClassMix}

NESTED = Refusal(TypeError, "transforms must be mixers … and no RandomChoice")


def refusal_of(form, kind, call):
    """What is raised, or None where the batch comes back mixed."""
    if call is CHOICE and kind is RandomChoice:
        return NESTED
    if call in form.elsewhere:
        return form.elsewhere[call]
    fits = ("spatial",) if form.is_cut_by(kind) else ()
    refused = [refusal for refusal in form.refused if refusal.asked_by not in fits]
    return next((refusal for refusal in refused if refusal.is_by(MAKE[kind])), None)
