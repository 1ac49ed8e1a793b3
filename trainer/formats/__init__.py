"""File formats of other programs: GGUF, written, read and checked."""
