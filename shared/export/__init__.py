"""A run's records for other programs: CSV, SVG, a page of text."""
