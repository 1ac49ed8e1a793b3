"""Supervising runs on this host: starting queued ones, restarting what crashed, answering."""
