"""What a person can do, apart from any screen: the registry of keys, and the acts themselves."""
