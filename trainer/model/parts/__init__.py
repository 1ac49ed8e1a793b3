"""Parts of a model that the configuration switches on."""
