"""Starting and resuming runs: checks, directory, lock, here or detached or queued."""
