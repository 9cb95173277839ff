"""Phrases that stand in different contexts, for the directions in which they move a state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from semtube.data.rendering import Rendered
from semtube.objectives.trajectories import ANSWER, PROMPT

#: Tokens of a phrase, phrases, and occurrences of each. Ours.
PHRASE_TOKENS, MOST_PHRASES, MOST_OCCURRENCES = 2, 50, 100


@dataclass(frozen=True)
class Occurrence:
    """A phrase in a row: its displacement runs from the state at `start` - 1 to that at `stop` - 1.

    Args:
        phrase: its token ids.
        row: number of the row.
        start, stop: half-open, in tokens of the row; start is at least 1.
    """

    phrase: tuple[int, ...]
    row: int
    start: int
    stop: int


def repeated_phrases(
    rows: Sequence[Rendered],
    *,
    num_tokens: int = PHRASE_TOKENS,
    most: int = MOST_PHRASES,
    most_occurrences: int = MOST_OCCURRENCES,
) -> list[Occurrence]:
    """The phrases of prompt or answer text that stand behind the most different texts.

    An occurrence behind the same text is the same states again and counts once. A phrase with one
    text before it is none.

    Args:
        num_tokens: of a phrase.
        most, most_occurrences: phrases, and occurrences of each, the first ones.
    """
    found: dict[tuple[int, ...], dict[int, Occurrence]] = defaultdict(dict)
    for number, row in enumerate(rows):
        before = 0  # a hash of the text so far: whole prefixes would take memory by the square
        for start in range(1, len(row.input_ids) - num_tokens + 1):
            before = hash((before, row.input_ids[start - 1]))
            stop = start + num_tokens
            roles = set(row.roles[start:stop])
            if len(roles) == 1 and roles <= {PROMPT, ANSWER}:
                phrase = tuple(row.input_ids[start:stop])
                found[phrase].setdefault(before, Occurrence(phrase, number, start, stop))
    repeated = [list(places.values()) for places in found.values() if len(places) > 1]
    repeated.sort(key=len, reverse=True)
    return [place for places in repeated[:most] for place in places[:most_occurrences]]
