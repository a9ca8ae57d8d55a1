"""Work that takes minutes, each piece in a process of its own: fit, calibrate, compare; and what becomes of versions."""
