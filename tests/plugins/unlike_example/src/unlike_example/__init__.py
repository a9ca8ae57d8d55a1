"""What a package of one's own can bring to unlike: a model, a scorer, a threshold rule and a reader, each in one file."""
