"""`trainer sweep`: a grid of runs as one group."""
