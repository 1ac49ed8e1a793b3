"""Alerts to a person elsewhere: a command, a webhook, a bell."""
