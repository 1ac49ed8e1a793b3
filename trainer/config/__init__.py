"""The configuration of a run: typed sections, presets, the guides' flat keys, resolution."""
