"""Overlapping train rows dropped, and a validation part carved off."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtube.data.examples import Example, Message
from semtube.data.fractions import overlap
from semtube.data.near_duplicates import near_overlap
from semtube.data.splitting import carve, drop_overlapping
from semtube.errors import UserError


def row(question: str, answer: str, source: str = "x:1") -> Example:
    return Example("pair", (Message("user", question), Message("assistant", answer)), source)


def digests(examples: list[Example]) -> list[str]:
    return sorted(example.digest() for example in examples)


PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=9)


@pytest.mark.parametrize("how", ["row", "question", "answer"])
@given(train=PAIRS, others=PAIRS)
def test_what_is_dropped_is_what_overlap_counts(how, train, others):
    kept_always = row("kept", "kept")
    rows, other_rows = [row(*pair) for pair in train], [row(*pair) for pair in others]
    shared = overlap("train", rows, "test", other_rows)
    kept, dropped = drop_overlapping([*rows, kept_always], other_rows, how)
    assert dropped == getattr(shared, f"same_{how}")
    assert len(kept) + dropped == len(rows) + 1
    left = overlap("train", kept, "test", other_rows)
    assert getattr(left, f"same_{how}") == 0
    assert kept == [example for example in [*rows, kept_always] if example in kept]


def test_near_duplicates_are_dropped_and_equal_rows_among_them():
    test = [row("lines that have the string 'dog' before a number", "dog.*[0-9]")]
    near = row("lines that have the string 'dog' before a Number.", "dog.*[0-9]")
    far = row("lines with two vowels", "([aeiou]){2}")
    assert drop_overlapping([near, far, *test], test, "near") == ([far], 2)
    assert near_overlap([far], test) == []


def test_plain_texts_have_no_question_to_share():
    texts = [Example("text", (Message("assistant", text),), "x:1") for text in ("one", "two")]
    assert drop_overlapping(texts, texts, "question") == (texts, 0)


def test_dropping_everything_is_refused():
    rows = [row("a", "A"), row("b", "A")]
    with pytest.raises(UserError, match="all 2 train rows overlap with the others by 'answer'"):
        drop_overlapping(rows, [row("c", "A")], "answer")


ROWS = [row(f"q{number}", "a", f"x:{number}") for number in range(40)]


def test_both_parts_together_are_train_in_its_order():
    train, validation = carve(ROWS, 7)
    assert len(validation) == 7
    for part in (train, validation):
        assert part == [example for example in ROWS if example in part]
    assert digests(train + validation) == digests(ROWS)


def test_neither_order_of_rows_nor_a_global_generator_decides_which():
    mixed = ROWS.copy()
    random.Random(3).shuffle(mixed)
    random.seed(1)
    state = random.getstate()
    assert digests(carve(mixed, 7)[1]) == digests(carve(ROWS, 7)[1])
    assert random.getstate() == state


def test_the_part_is_no_stretch_of_the_file_and_grows_with_its_size():
    small, large = carve(ROWS, 7)[1], carve(ROWS, 20)[1]
    assert set(digests(small)) < set(digests(large))
    assert small != ROWS[:7]
    assert small != ROWS[-7:]


@given(st.lists(st.integers(0, 6), min_size=2, max_size=30), st.integers(1, 29))
def test_equal_rows_are_never_split(numbers, num_rows):
    rows = [row(f"q{number}", "a") for number in numbers]
    if num_rows >= len(rows):
        return
    try:
        train, validation = carve(rows, num_rows)
    except UserError:
        assert all(numbers.count(number) > num_rows for number in numbers)
        return
    assert 1 <= len(validation) <= num_rows
    assert not set(digests(train)) & set(digests(validation))
    assert digests(train + validation) == digests(rows)
    if len(validation) < num_rows:
        room = num_rows - len(validation)
        assert all(digests(train).count(digest) > room for digest in digests(train))


@pytest.mark.parametrize("num_rows", [-1, 0, 40, 41])
def test_a_part_that_leaves_nothing_or_is_nothing_is_refused(num_rows):
    with pytest.raises(UserError, match=f"cannot have {num_rows} rows: train has 40"):
        carve(ROWS, num_rows)
