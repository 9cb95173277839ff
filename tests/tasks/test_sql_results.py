"""Two results are the same up to row order, column order and rounding, against brute force."""

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtube.tasks import sql_results
from semtube.tasks.sql_results import orders_rows, same_result
from semtube.tasks.sql_sandbox import Outcome


def table(*rows, columns=None):
    return Outcome("rows", tuple(rows), len(rows[0]) if columns is None else columns)


def same(gold, predicted, ordered=False):
    """The verdict, which must not depend on which side is which."""
    verdict = same_result(gold, predicted, ordered=ordered)
    assert same_result(predicted, gold, ordered=ordered) is verdict
    return verdict


AB = table((1, "a"), (2, "b"), (2, "b"))


@pytest.mark.parametrize(
    ("other", "unordered", "ordered"),
    [
        (table((1, "a"), (2, "b"), (2, "b")), True, True),
        (table((2, "b"), (1, "a"), (2, "b")), True, False),
        (table(("a", 1), ("b", 2), ("b", 2)), True, True),
        (table(("b", 2), ("b", 2), ("a", 1)), True, False),
        # A row less, more, or another as often as it should not be.
        (table((1, "a"), (2, "b")), False, False),
        (table((1, "a"), (2, "b"), (2, "b"), (2, "b")), False, False),
        (table((1, "a"), (1, "a"), (2, "b")), False, False),
        # The columns hold the same values, but not together.
        (table((2, "a"), (1, "b"), (2, "b")), False, False),
        (table((1, "a", 0), (2, "b", 0), (2, "b", 0)), False, False),
        (table((1,), (2,), (2,)), False, False),
        (table(("1", "a"), ("2", "b"), ("2", "b")), False, False),
        (table((1, "A"), (2, "b"), (2, "b")), False, False),
        (table((1, b"a"), (2, b"b"), (2, b"b")), False, False),
        (table((1, "a "), (2, "b"), (2, "b")), False, False),
        (table((1, None), (2, "b"), (2, "b")), False, False),
        (table((1.0, "a"), (2.0, "b"), (2, "b")), True, True),
    ],
)
def test_rows_are_a_multiset_unless_they_are_ordered(other, unordered, ordered):
    assert same(AB, other) is unordered
    assert same(AB, other, ordered=True) is ordered


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (0.1 + 0.2, 0.3, True),
        (1, 1.0, True),
        (3, 3.0000000000000004, True),
        (1e20, 1.0000000001e20, False),  # both whole
        (2.5, 2.5 + 2e-9, True),
        (2.5, 2.5 + 4e-9, False),
        (0, 1e-17, True),
        (0.0, -0.0, True),
        (0, 1e-8, False),
        # Integers are never rounded: long numbers are names.
        (10_000_000_000, 10_000_000_001, False),
        (10_000_000_000.0, 10_000_000_001, False),
        (2**62, 2**62 + 1, False),
        (1_234_567_890.5000001, 1_234_567_890.4999999, True),
        (float("inf"), float("inf"), True),
        (float("inf"), 1e308, False),
        (float("inf"), float("-inf"), False),
        (1, "1", False),
        (1, True, True),
        (0, None, False),
        (0, "", False),
        (None, None, True),
        ("", None, False),
        ("a", b"a", False),
        ("é", "e\u0301", False),
    ],
)
@pytest.mark.parametrize("ordered", [False, True])
def test_numbers_have_a_tolerance_and_all_else_is_exact(one, other, equal, ordered):
    assert same(table((one,)), table((other,)), ordered) is equal
    assert same(table((one, 7), (7, one)), table((7, other), (other, 7)), ordered) is equal


def test_the_tolerance_does_not_depend_on_how_rows_fall_together():
    # Sorted by value, the rounded rows would come in another order than the exact ones.
    gold = table((0.30000000000000004, "a"), (0.3, "b"))
    assert same(gold, table((0.3, "a"), (0.30000000000000004, "b")))
    assert not same(gold, table((0.3, "a"), (0.3, "a")))


def test_results_without_rows_need_the_same_number_of_columns():
    assert same(table(columns=2), table(columns=2))
    assert not same(table(columns=2), table(columns=3))
    assert not same(table(columns=1), table((None,)))


@pytest.mark.parametrize("kind", ["error", "refused", "timeout", "too_large"])
@pytest.mark.parametrize("rows", [(), ((1,),)])
def test_what_is_no_result_is_never_the_same(kind, rows):
    failed = Outcome(kind, reason="x")
    assert not same(Outcome("rows", rows, 1), failed)
    assert not same(failed, failed)


CELLS = st.sampled_from([0, 1, 2.5, "a", None])


@st.composite
def tables(draw):
    width = draw(st.integers(1, 4))
    row = st.tuples(*[CELLS] * width)
    return draw(st.lists(row, min_size=1, max_size=5))


@st.composite
def pairs(draw):
    """Two tables of one shape; the second often the first in another order, or a cell off it."""
    first = draw(tables())
    width = len(first[0])
    if draw(st.booleans()):
        rows = st.lists(st.tuples(*[CELLS] * width), min_size=len(first), max_size=len(first))
        return first, draw(rows)
    order = draw(st.permutations(range(width)))
    second = [tuple(row[k] for k in order) for row in draw(st.permutations(first))]
    if draw(st.booleans()):
        at, cell = draw(st.integers(0, len(second) - 1)), draw(CELLS)
        second[at] = (cell, *second[at][1:])
    return first, second


def by_brute_force(first, second, ordered):
    orders = permutations(range(len(first[0])))
    tried = [[tuple(row[k] for k in order) for row in second] for order in orders]
    return any(first == t if ordered else Counter(first) == Counter(t) for t in tried)


@given(pairs(), st.booleans())
def test_the_search_finds_an_order_of_columns_exactly_if_there_is_one(pair, ordered):
    first, second = pair
    assert same(table(*first), table(*second), ordered) is by_brute_force(first, second, ordered)


def test_rows_are_counted_also_where_columns_hold_the_same():
    few, many = [(1, "a"), (2, "b")], [(1, "b"), (2, "a")]
    assert not same(table(*few, *few, *many), table(*few, *many, *many))


def test_a_wrong_first_choice_of_a_column_is_taken_back():
    # Both outer columns hold 1, 2, 3, but only the last predicted one is followed by the other.
    zeros = (0,) * 12
    gold = table((1, *zeros, 2), (2, *zeros, 3), (3, *zeros, 1))
    assert same(gold, table((2, *zeros, 1), (3, *zeros, 2), (1, *zeros, 3)))


def test_many_like_columns_do_not_multiply():
    # 60 equal columns have 60! orders.
    wide = table(*[(k,) * 60 for k in range(50)])
    assert same(wide, wide)
    other = table(*[(k,) * 60 for k in range(49)], (50,) * 60)
    assert not same(wide, other)
    # As many that hold the same values in other rows: each fits one place alone.
    turned = table(*[tuple((k + c) % 50 for c in range(50)) for k in range(50)])
    assert same(turned, table(*[tuple((k - c) % 50 for c in range(50)) for k in range(50)]))


def test_a_search_beyond_its_bound_counts_as_different(monkeypatch):
    monkeypatch.setattr(sql_results, "MOST_STEPS", 5)
    assert not same_result(AB, AB, ordered=False)
    monkeypatch.setattr(sql_results, "MOST_STEPS", 6)
    assert same_result(AB, AB, ordered=False)


@pytest.mark.parametrize(
    ("sql", "ordered"),
    [
        ("select a from t order by a", True),
        ("SELECT a FROM t ORDER\n  BY a DESC LIMIT 3;", True),
        ("select a from t order/* by */by a", True),
        ("select a from t order -- by\nby a", True),
        ("select a from t union select b from u order by 1", True),
        ("select (select 1) from (select a from t) order by a", True),
        ("with t as (select 1 as a order by 1) select a from t order by a", True),
        ("select ')' from t order by a", True),
        ("select \"(\" from t order by a", True),
        ("select [(] from t order by a", True),
        ("select `(` from t order by a", True),
        ("select 'it''s (' from t order by a", True),
        ("select a from t", False),
        ("select a from (select a from t order by a)", False),
        ("select a from t where a in (select a from u order by a limit 1)", False),
        ("with t as (select 1 as a order by 1) select a from t", False),
        ("select rank() over (order by a) from t", False),
        ("select group_concat(a order by b) from t", False),
        ("select 'order by a' from t", False),
        ('select "order by" from t', False),
        ("select a as \"x order by y\" from t", False),
        ("select a from t -- order by a", False),
        ("select a from t /* order by a */", False),
        ("select a from t /* order by a", False),
        ("select a from t where b = 'order by", False),
        ("select a from reorder, bystander", False),
        ("select order_by from t", False),
        ("select a from t group by a", False),
        ("select [order] from t group by a", False),
        ("", False),
    ],
)  # fmt: skip
def test_only_an_order_of_the_query_itself_counts(sql, ordered):
    assert orders_rows(sql) is ordered


@given(st.text("()'\"`[]-/*orderby \n", max_size=60))
def test_any_text_can_be_asked(sql):
    orders_rows(sql)
