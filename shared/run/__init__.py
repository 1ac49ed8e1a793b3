"""The records of a run: where they lie, what is in them, reading and writing them."""
