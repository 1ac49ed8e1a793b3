"""Continuous batching: many sequences decoded at once over one key-value cache."""
