"""Conversations to learn from: records in a model's chat template, as tokens with a mask."""
