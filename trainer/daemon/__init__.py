"""Supervising the runs of this host: start queued runs, restart crashed ones, answer requests."""
