"""Bottom floor: checks, arithmetic, memory and randomness; nothing here knows a batch's form."""
