"""The detector: settings, the pipeline, the steps of a fit, and what is kept on disk."""
