"""The mixers: what each draws, and how it is applied."""
