"""Statistics of paired comparisons: intervals, tests, corrections. Needs no torch."""
