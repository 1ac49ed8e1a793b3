"""Commands that watch and control runs."""
