"""EleutherAI's lm-evaluation-harness, in process on our models. It is optional: `lm-eval`."""
