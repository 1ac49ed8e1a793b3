"""Requests to runs, acting for runs without a trainer, and starting trainers."""
