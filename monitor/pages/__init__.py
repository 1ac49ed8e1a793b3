"""The pages of a run: one controller each."""
