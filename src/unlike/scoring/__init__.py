"""Scoring: a model's view of an image to a map of strangeness, and a map to one number."""
