"""A trained model becomes a larger one."""
