"""From text to batches: documents, tokenizer, token files, and the order they are read in."""
