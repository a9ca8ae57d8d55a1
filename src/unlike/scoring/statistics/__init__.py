"""Statistics of features: moments, and a Gaussian at each position."""
