"""What is on the screen. Widgets are handed snapshots and never read a file."""
