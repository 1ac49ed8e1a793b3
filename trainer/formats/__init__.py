"""File formats of other programs: GGUF and `.mhc`, written, read and checked."""
