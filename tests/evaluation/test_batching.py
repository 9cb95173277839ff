"""Batches under a budget of tokens: every row once, never over, as full as they may be."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtube.config import BATCH_TOKENS
from semtube.evaluation.batching import token_batches

LENGTHS = st.lists(st.integers(1, 60), max_size=40)
BUDGET = st.integers(1, 400)
SIZE = st.none() | st.integers(1, 9)


@st.composite
def rows_with_copies(draw):
    lengths = draw(LENGTHS)
    count = len(lengths)
    return lengths, draw(st.lists(st.integers(1, 5), min_size=count, max_size=count))


def tokens(batch, lengths, copies) -> int:
    return sum(copies[row] for row in batch) * max(lengths[row] for row in batch)


@given(rows_with_copies(), BUDGET, SIZE)
def test_every_row_is_in_one_batch_and_no_batch_of_several_is_over_the_budget(rows, budget, size):
    lengths, copies = rows
    batches = token_batches(lengths, batch_tokens=budget, batch_size=size, copies=copies)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or tokens(batch, lengths, copies) <= budget
        assert size is None or len(batch) <= size


@given(rows_with_copies(), BUDGET, SIZE)
def test_rows_go_by_length_and_the_next_row_would_not_have_fitted(rows, budget, size):
    lengths, copies = rows
    batches = token_batches(lengths, batch_tokens=budget, batch_size=size, copies=copies)
    flat = [row for batch in batches for row in batch]
    assert flat == sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    for batch, following in itertools.pairwise(batches):
        more = [*batch, following[0]]
        assert len(batch) == size or tokens(more, lengths, copies) > budget


@given(LENGTHS, BUDGET, SIZE)
def test_rows_of_one_length_are_kept_apart_where_asked(lengths, budget, size):
    batches = token_batches(lengths, batch_tokens=budget, batch_size=size, same_length=True)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len({lengths[row] for row in batch}) == 1
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget
    for batch, following in itertools.pairwise(batches):
        if lengths[batch[0]] == lengths[following[0]]:
            assert len(batch) == size or (len(batch) + 1) * lengths[batch[0]] > budget


def test_by_hand():
    # Width 10 admits 3 rows in 30 tokens, width 4 admits 7.
    lengths = [4, 10, 4, 9, 4, 10, 4, 4]
    assert token_batches(lengths, batch_tokens=30) == [[1, 5, 3], [0, 2, 4, 6, 7]]
    assert token_batches(lengths, batch_tokens=30, batch_size=2) == [[1, 5], [3, 0], [2, 4], [6, 7]]
    assert token_batches([5, 5], batch_tokens=10, copies=[1, 2]) == [[0], [1]]
    assert token_batches([5, 5], batch_tokens=15, copies=[1, 2]) == [[0, 1]]
    assert token_batches([500], batch_tokens=10) == [[0]]
    assert token_batches([]) == []


def test_the_usual_budget_puts_a_hundred_short_rows_together():
    assert len(token_batches([128] * 128)) == 1
    assert BATCH_TOKENS == 128 * 128


@pytest.mark.parametrize("option", ["batch_tokens", "batch_size"])
@pytest.mark.parametrize("value", [0, -3])
def test_a_budget_below_one_is_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}"):
        token_batches([1, 2], **{option: value})
