"""Judging Python: nothing that a model wrote is parsed, compiled or run in the trainer itself."""
