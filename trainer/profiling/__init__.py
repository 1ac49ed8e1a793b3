"""Where the time of a training step goes: stages timed in the loop, operators read from a trace."""
