"""Phrases in different contexts: a sample without regard to their place, in little memory."""

from collections import Counter

import pytest

pytest.importorskip("transformers")
from semtube.data.rendering import Rendered
from semtube.objectives.trajectories import PROMPT
from semtube.study.phrases import repeated_phrases


def row(ids: list[int]) -> Rendered:
    return Rendered(ids, [PROMPT] * len(ids), ids, 1, "", "", "f:1", "d", False)


#: Behind the number of the row: 5 6 in a quarter of them, 3 4 in half, 1 2 in all.
ROWS = [
    row([1000 + n] + [5, 6] * (n % 4 == 0) + [3, 4] * (n % 2 == 0) + [1, 2]) for n in range(4000)
]


def test_occurrences_are_drawn_from_all_rows_by_the_seed() -> None:
    found = repeated_phrases(ROWS, most=1, seed=1)
    assert {each.phrase for each in found} == {(1, 2)}
    assert len(found) == 100
    rows = [each.row for each in found]
    assert rows == sorted(set(rows))
    # In each quarter of the rows 25, give or take four deviations.
    assert all(8 < number < 42 for number in Counter(row // 1000 for row in rows).values())
    assert len({row // 1000 for row in rows}) == 4
    assert repeated_phrases(ROWS, most=1, seed=1) == found
    assert repeated_phrases(ROWS, most=1, seed=2) != found


def test_frequent_phrases_come_first_though_few_of_their_occurrences_are_kept() -> None:
    found = repeated_phrases(ROWS, most=5)
    order = list(dict.fromkeys(each.phrase for each in found))
    assert order[0] == (1, 2)
    assert set(order[1:3]) == {(3, 4), (4, 1)}
    assert set(order[3:5]) == {(5, 6), (6, 3)}


def test_the_same_text_again_is_not_counted_whatever_is_kept() -> None:
    # 1 2 behind 300 texts; 3 4 behind 150, ten times each.
    rows = [row([9000 + n, 1, 2]) for n in range(300)]
    rows += [row([9500 + n, 3, 4]) for n in range(150)] * 10
    found = repeated_phrases(rows, most=2)
    assert [each.phrase for each in found] == [(1, 2)] * 100 + [(3, 4)] * 100
    assert len({each.row for each in found if each.phrase == (3, 4)}) == 100


def test_few_occurrences_are_held() -> None:
    """Of a phrase no more than are asked for, whatever the number of rows."""
    import tracemalloc

    def bytes_of(number: int) -> int:
        rows = [row([n // 4**k % 4 for k in range(6)] * 2) for n in range(number)]
        tracemalloc.start()
        repeated_phrases(rows, most_occurrences=10)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert bytes_of(4000) < 1.3 * bytes_of(500)
