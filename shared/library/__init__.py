"""Keeping order among runs: labels, deletion, the trash."""
