"""Stages of a production training as one resumable unit."""
