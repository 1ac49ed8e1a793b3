"""Devices and processes: where a run is computed, and by how many together."""
