"""The data core: files in, frozen snapshots out. Knows no screen."""
