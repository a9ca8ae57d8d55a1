"""Data: from what a user names to batches of pixels."""
