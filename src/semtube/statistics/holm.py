"""Several comparisons at once."""

from __future__ import annotations

from collections.abc import Mapping


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p values corrected for being a family, by name.

    Sorted upwards, the i-th of m (from 0) is multiplied by m - i; none may be below one before it,
    nor above 1. Rejecting where the result is at most alpha, the chance of any false rejection in
    the family is at most alpha, whatever depends on what.

    Raises:
        ValueError: a p value outside [0, 1].

    Source: Holm (1979), Scand. J. Stat. 6, 65-70.
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"p of {name!r} must lie in [0, 1], got {p}")
    adjusted, highest = {}, 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
