"""Runs that other tools have written, read as they lie. Nothing here writes a file."""
