"""Phrases that stand in different contexts, for the directions in which they move a state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
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
    seed: int = 0,
) -> list[Occurrence]:
    """The phrases of prompt or answer text that stand behind the most different texts.

    An occurrence behind the same text is the same states again and counts once. A phrase with one
    text before it is none. Every occurrence has a rank, a hash of it and the text before: of each
    phrase those of the lowest are kept, a random sample, and their ranks tell how many there are
    (exactly where none is left out). So memory grows with the number of different phrases alone.

    Args:
        num_tokens: of a phrase.
        most, most_occurrences: phrases, and occurrences of each.
        seed: names the ranks.

    Source: the K smallest hashes as a count, Bar-Yossef et al. (2002).
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
                kept = found[phrase]
                kept.setdefault(
                    hash((seed, before, phrase)), Occurrence(phrase, number, start, stop)
                )
                if len(kept) > most_occurrences:
                    del kept[max(kept)]
    repeated = [kept for kept in found.values() if len(kept) > 1]
    repeated.sort(key=lambda kept: _num_texts(kept, most_occurrences), reverse=True)
    return [
        place
        for kept in repeated[:most]
        for place in sorted(kept.values(), key=lambda place: (place.row, place.start))
    ]


def _num_texts(kept: Mapping[int, Occurrence], most: int) -> float:
    """How many there were, if those of the `most` lowest ranks were kept."""
    if len(kept) < most:
        return len(kept)
    # Ranks are spread evenly over 64 bits: the lowest so many take this share of them.
    share = (max(kept) + 2**63) / 2**64
    return max((most - 1) / share, most) if share > 0 else float(most)
