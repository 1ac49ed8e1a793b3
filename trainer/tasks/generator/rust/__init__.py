"""Templates of Rust tasks: one module per family."""
