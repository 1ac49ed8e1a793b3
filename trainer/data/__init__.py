"""From text to batches: documents, tokenizers, token files, and their order."""
