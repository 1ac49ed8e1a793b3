"""Commands of the daemon and of alerts."""
