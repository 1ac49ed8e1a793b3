"""Sweeps: a grid of settings, or random points of it, as runs of one group."""
