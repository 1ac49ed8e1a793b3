"""Actions without a screen: the registry of keys, and what they do."""
