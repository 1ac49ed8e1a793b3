"""Steps whose weights are predicted from those before, not computed from data."""
