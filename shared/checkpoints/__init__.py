"""The checkpoints of a run: listing, checking, pruning, compressing, evaluations."""
