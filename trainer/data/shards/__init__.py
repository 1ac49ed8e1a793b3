"""Tokens in many files that are read as one stream: made by many processes, described together."""
