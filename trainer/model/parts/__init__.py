"""Parts of a model that the configuration switches on: the interface, the registry, the parts."""
