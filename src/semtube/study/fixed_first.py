"""What a study fixes before its first run, and what was changed of it later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Changed once results are known, these could be fitted to them.
FIXED_FIRST = ("question", "hypothesis", "primary", "baseline", "deciding", "margin")


def changed_names(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Which of FIXED_FIRST differ; both as study.json holds them."""
    return [name for name in FIXED_FIRST if before.get(name) != now.get(name)]


def change_entry(before: Mapping[str, Any], num_done: int, num_planned: int) -> dict[str, Any]:
    """What study.json keeps of a change: the values from before it, and how much was known then."""
    kept = {name: before.get(name) for name in FIXED_FIRST}
    return kept | {"num_done": num_done, "num_planned": num_planned}


def change_sentence(names: list[str], num_done: int, num_planned: int) -> str:
    """For who starts the changed study."""
    return (
        f"changed after {num_done:,} of {num_planned:,} runs were done: {', '.join(names)}; a "
        "study fixes this first, so its report will tell"
    )
