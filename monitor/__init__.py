"""Watch and steer training runs from a terminal."""
