"""The decoder-only Transformer: Llama and GPT-2 flavours, their shapes, their key-value cache."""
