"""From the details of runs to charts that can be drawn: what is shown, and how. No screen."""
