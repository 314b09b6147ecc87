"""What goes with what, as data: forms of batches, mixers, and ways to call.

A new form of batch is one entry of FORMS in ``forms.py``, a new way to call one of CALLS in
``calls.py``. A mixer is there once it has its line in ``tests/cases.py``: which forms it takes
follows from its declarations. ``python -m tests.what_goes`` writes the tables of
``docs/what_goes.md``, and ``tests/test_what_goes.py`` tries every cell.
"""
