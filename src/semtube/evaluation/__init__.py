"""Evaluation: per-example records, the metrics made from them, and their intervals."""
