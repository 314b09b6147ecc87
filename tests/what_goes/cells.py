"""What has to come of each form of batch with each mixer in each call."""

from mixup_transforms import RandomChoice
from tests.cases import MIXERS
from tests.what_goes.calls import CHOICE
from tests.what_goes.form import Refusal

# How a mixer of each class is made.
MAKE = {}
for case in MIXERS:
    MAKE.setdefault(type(case.make()), case.make)

NESTED = Refusal(TypeError, "transforms must be mixers … and no RandomChoice")


def refusal_of(form, kind, call):
    """What is raised, or None where the batch comes back mixed."""
    if call is CHOICE and kind is RandomChoice:
        return NESTED
    if call in form.elsewhere:
        return form.elsewhere[call]
    return next((refusal for refusal in form.refused if refusal.is_by(MAKE[kind])), None)
