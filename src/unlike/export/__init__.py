"""Export: a detector as one graph from raw pixels to maps and scores, proven equal before it is written."""
