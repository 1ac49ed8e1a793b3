"""Who owns a run, and whether it is alive: lock, heartbeat, process, health."""
