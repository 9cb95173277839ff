"""Whether two SQL queries gave the same answer."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Sequence

from semtube.tasks.sql_sandbox import Outcome, Value

#: Two numbers this close, relative to the larger or absolutely, are one; see `same_result`.
TOLERANCE = 1e-9
#: Values to look at in search of an order of columns; the largest result has a fifth as many.
MOST_STEPS = 5_000_000

Column = tuple[Hashable, ...]

#: Strings, quoted names and comments as wholes; an open one ends with the text.
_TOKEN = re.compile(
    r"""
    '(?:[^']|'')*(?:'|\Z) | "(?:[^"]|"")*(?:"|\Z) | `(?:[^`]|``)*(?:`|\Z) | \[[^\]]*(?:\]|\Z)
    | (?P<space> \s+ | --[^\n]* | /\*.*?(?:\*/|\Z))
    | (?P<word> [^\W\d]\w*)
    | .
    """,
    re.VERBOSE | re.DOTALL,
)


def orders_rows(sql: str) -> bool:
    """Whether the query itself has an ORDER BY, not a sub-query, a window or a text in it."""
    depth, before = 0, ""
    for token in _TOKEN.finditer(sql):
        if token["space"]:
            continue
        text = token[0]
        depth += (text == "(") - (text == ")")
        word = (token["word"] or "").lower()
        if depth == 0 and before == "order" and word == "by":
            return True
        before = word
    return False


def same_result(gold: Outcome, predicted: Outcome, *, ordered: bool) -> bool:
    """Whether a predicted query's result answers like the right one.

    Both have the same number of columns and, up to one order of the columns for all rows, the same
    rows: as often (multisets), and in the same order if `ordered`. Column names do not matter.
    Texts and blobs are compared exactly and never equal a number; NULL equals NULL. All numbers of
    both results are sorted, and neighbours are one number if they differ by at most 1e-9, relative
    to the larger or absolutely, unless both are whole. A result that is none (an error, a refusal)
    is never the same. Finding the order of the columns may need many tries: a pair that takes more
    than `MOST_STEPS` counts as different.

    Source: the comparison follows the field's test-suite evaluation (Zhong et al. 2020, arXiv
    2010.02840): multisets, columns in any order. It differs in four points: an ORDER BY inside a
    sub-query asks for no order, floats have a tolerance, results without rows must agree in their
    number of columns, and DISTINCT counts.
    """
    if gold.kind != "rows" or predicted.kind != "rows":
        return False
    if gold.num_columns != predicted.num_columns or len(gold.rows) != len(predicted.rows):
        return False
    if not gold.rows:
        return True
    numbers = _merged_numbers([v for rows in (gold.rows, predicted.rows) for r in rows for v in r])
    columns, others = (
        [tuple(_key(v, numbers) for v in column) for column in zip(*rows, strict=True)]
        for rows in (gold.rows, predicted.rows)
    )
    if ordered:
        return Counter(columns) == Counter(others)
    return _ColumnSearch(columns, others).succeeds()


def _merged_numbers(values: Sequence[Value]) -> dict[int | float, int | float]:
    """Every number -> the least of those it is one with."""
    merged: dict[int | float, int | float] = {}
    last: int | float | None = None
    for number in sorted({v for v in values if isinstance(v, int | float)}):
        if last is not None and _is_one(last, number):
            merged[number] = merged[last]
        else:
            merged[number] = number
        last = number
    return merged


def _is_one(one: int | float, other: int | float) -> bool:
    if float(one).is_integer() and float(other).is_integer():
        return one == other
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _key(value: Value, numbers: dict[int | float, int | float]) -> Hashable:
    return numbers[value] if isinstance(value, int | float) else value


class _ColumnSearch:
    """An order of the predicted columns under which both tables hold the same multiset of rows.

    Columns are matched one after another. After each, rows that agree so far form classes, shared
    by both tables; classes of unequal size end the branch. Only columns of equal contents are
    tried for one another, and of equal columns one.
    """

    def __init__(self, columns: list[Column], others: list[Column]) -> None:
        self._columns, self._others = columns, others
        self._contents = [Counter(column) for column in columns]
        self._other_contents = [Counter(column) for column in others]
        self._steps_left = MOST_STEPS

    def succeeds(self) -> bool:
        """Whether there is one."""
        num_rows = len(self._columns[0])
        return self._extend(0, frozenset(range(len(self._others))), [0] * num_rows, [0] * num_rows)

    def _extend(
        self, place: int, free: frozenset[int], classes: list[int], other_classes: list[int]
    ) -> bool:
        if place == len(self._columns):
            return True
        tried: set[Column] = set()
        for choice in sorted(free):
            column = self._others[choice]
            if column in tried or self._contents[place] != self._other_contents[choice]:
                continue
            tried.add(column)
            self._steps_left -= len(column)
            if self._steps_left < 0:
                return False
            labels: dict[Hashable, int] = {}
            refined, other_refined = (
                [labels.setdefault(pair, len(labels)) for pair in zip(before, values, strict=True)]
                for before, values in (
                    (classes, self._columns[place]),
                    (other_classes, column),
                )
            )
            if Counter(refined) != Counter(other_refined):
                continue
            if self._extend(place + 1, free - {choice}, refined, other_refined):
                return True
        return False
