"""The table of runs: which columns it has, what is in them, and in which order. No screen."""
