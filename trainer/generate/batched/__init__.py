"""Decoding many sequences at once: continuous batching over one cache."""
