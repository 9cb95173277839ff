"""Whole runs (data, training, evaluation, result) and grids of them."""
