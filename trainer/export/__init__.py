"""Exporting a model: what is written in which types, and verification in the target program."""
