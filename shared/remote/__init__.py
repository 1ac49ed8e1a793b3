"""Runs on another host, watched through the system's ssh."""
