"""Training: images and a model to weights."""
