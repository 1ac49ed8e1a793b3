"""Programs that run in the sandbox, each with this folder's modules and the standard library."""
