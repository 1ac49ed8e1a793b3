"""Asking a run to do something, and starting trainers."""
