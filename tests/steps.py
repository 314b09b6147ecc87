"""Steps of a call that fail on purpose."""


def fail_at(monkeypatch, owner, name, turn):
    """Make one call of a function fail, and count the calls."""
    honest, calls = getattr(owner, name), []

    def failing(*args, **kwargs):
        calls.append(name)
        if len(calls) == turn:
            raise MemoryError("no room")
        return honest(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    return calls
