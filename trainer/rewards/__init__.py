"""What generated code is worth: one module per language, from its parser to its tests."""
