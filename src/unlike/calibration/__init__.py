"""Decision: scores to statements one can rely on."""
