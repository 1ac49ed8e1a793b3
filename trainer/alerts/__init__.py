"""Telling a person elsewhere what happened: a command, a webhook, a bell."""
