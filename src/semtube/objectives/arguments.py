"""Refuse a wrong constructor argument by its name and value, and say what it may be."""

from __future__ import annotations

import math
from typing import Any


def needs(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Refuse a choice that is not among the allowed ones.

    Raises:
        ValueError: naming all of them.
    """
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}: use one of {allowed}")


def needs_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises:
        ValueError: saying so.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}: a whole number of at least {least} is needed")


def needs_positive(name: str, value: Any) -> None:
    """Refuse what is no finite number above 0.

    Raises:
        ValueError: saying so.
    """
    if not (_is_number(value) and 0 < value < math.inf):
        raise ValueError(f"{name} is {value!r}: it must be a number above 0")


def needs_at_least_zero(name: str, value: Any) -> None:
    """Refuse what is no finite number of at least 0.

    Raises:
        ValueError: saying so.
    """
    if not (_is_number(value) and 0 <= value < math.inf):
        raise ValueError(f"{name} is {value!r}: a finite number of at least 0 is needed")


def needs_share(name: str, value: Any) -> None:
    """Refuse what is no number in [0, 1).

    Raises:
        ValueError: saying so.
    """
    if not (_is_number(value) and 0 <= value < 1):
        raise ValueError(f"{name} is {value!r}: it must be a number of at least 0 and below 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
