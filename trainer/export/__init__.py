"""Handing a model over: what is written, in which types, and the proof that it is the same."""
