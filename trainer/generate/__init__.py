"""Text from a model: sampling, the cached decoding loop, streaming to a terminal."""
