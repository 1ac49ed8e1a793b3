"""Train small language models headless: data, model, loop, checkpoints, generation."""
