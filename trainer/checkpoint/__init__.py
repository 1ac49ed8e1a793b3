"""Checkpoints: transformers folders with everything an exact resume needs."""
