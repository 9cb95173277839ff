"""Learning curves and what they say of data efficiency. Needs no torch."""
