"""What a run is asked to do: typed sections, presets, the guides' flat keys, all resolved."""
