"""How likely a model finds given tokens: the one scorer, for the loop and for `trainer eval`."""
