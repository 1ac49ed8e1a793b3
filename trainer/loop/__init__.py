"""Training: the step, evaluation, samples, checkpoints, requests and signals."""
