"""Report: an evaluation as a page to read and print."""
