"""The process that starts what runs in the sandbox: one thread, the standard library only."""
