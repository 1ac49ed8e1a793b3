"""Measuring models: loss on given text, speed, and several models side by side."""
