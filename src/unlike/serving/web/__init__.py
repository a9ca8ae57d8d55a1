"""The page: rendered here, with a few small scripts of our own, and nothing from elsewhere."""
