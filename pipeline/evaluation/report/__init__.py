"""The report of a run: pictures and an HTML page."""
