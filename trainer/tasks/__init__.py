"""Programming tasks: prompts with signatures and tests, read, generated and compared with texts."""
