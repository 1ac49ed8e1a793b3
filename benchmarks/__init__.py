"""The project's numbers to hold, each measured by a module of its own: `python -m benchmarks`."""
