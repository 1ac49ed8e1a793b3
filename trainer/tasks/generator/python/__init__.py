"""Templates of Python tasks: one module per family."""
