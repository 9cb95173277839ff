"""Nested fractions, their fingerprints, and what the splits share."""

import os
import random
from itertools import pairwise
from pathlib import Path

import pytest

from semtube.data.examples import Example, Message, read_examples
from semtube.data.fractions import fingerprint, nested_fraction, num_duplicates, overlap
from semtube.errors import UserError


def row(question: str, answer: str, source: str = "x:1") -> Example:
    return Example("pair", (Message("user", question), Message("assistant", answer)), source)


ROWS = [row(f"q{number}", f"a{number}", f"x:{number}") for number in range(101)]


@pytest.mark.parametrize("seed", [0, 1, 82])
def test_every_smaller_fraction_is_contained_in_every_larger_one(seed):
    parts = [nested_fraction(ROWS, fraction / 40, seed) for fraction in range(1, 41)]
    for small, large in pairwise(parts):
        assert large[: len(small)] == small
    assert {example.source for example in parts[-1]} == {example.source for example in ROWS}


@pytest.mark.parametrize(
    ("num_rows", "fraction", "wanted"),
    [(100, 0.25, 25), (101, 0.25, 25), (3, 0.5, 2), (8000, 0.0625, 500), (5, 0.01, 1), (7, 1, 7)],
)
def test_a_fraction_has_its_share_of_the_rows_and_never_none(num_rows, fraction, wanted):
    rows = [row(str(number), "a") for number in range(num_rows)]
    part = nested_fraction(rows, fraction, seed=3)
    assert len(part) == len({example.question for example in part}) == wanted


def test_the_seed_decides_the_order_and_no_global_generator_takes_part():
    random.seed(5)
    before = random.getstate()
    first = nested_fraction(ROWS, 0.3, 4)
    assert random.getstate() == before
    random.seed(6)
    assert nested_fraction(ROWS, 0.3, 4) == first
    assert nested_fraction(ROWS, 0.3, 5) != first
    assert [example.source for example in first] != sorted(example.source for example in first)


def test_which_rows_are_drawn_depends_on_their_number_only():
    others = [row(f"other {number}", "a", f"x:{number}") for number in range(101)]
    drawn = [example.source for example in nested_fraction(ROWS, 0.2, 0)]
    assert [example.source for example in nested_fraction(others, 0.2, 0)] == drawn


@pytest.mark.parametrize("fraction", [0, -0.5, 1.001, float("nan"), float("inf")])
def test_a_fraction_outside_its_range_is_refused_with_its_value(fraction):
    with pytest.raises(UserError, match=f"fraction is {fraction}: it must be above 0 and at most"):
        nested_fraction(ROWS, fraction, 0)


SMALL = [
    Example("chat", (Message("user", "a"), Message("assistant", "b")), "x:1"),
    Example("pair", (Message("user", "a"), Message("assistant", "b")), "x:2"),
    Example("text", (Message("assistant", "é"),), "x:3"),
]


def test_the_fingerprint_of_known_rows_never_changes():
    # Computed once from these three rows by `fingerprint` itself at commit c36e359; fingerprints
    # stored by earlier runs would no longer match if this changed.
    assert fingerprint(SMALL) == (
        "c1d18b2fa90b21500c12e4469c7cccee297873f85353eafe5bb7cdf069c62fb9"
    )


def test_a_fingerprint_knows_order_text_and_number_of_rows_and_not_the_place():
    moved = [Example(example.kind, example.messages, "other:7") for example in SMALL]
    assert fingerprint(moved) == fingerprint(SMALL)
    others = [SMALL[::-1], SMALL[:2], SMALL + SMALL[:1], [*SMALL[:2], row("a", "é")], []]
    assert len({fingerprint(SMALL), *map(fingerprint, others)}) == 6


def test_overlap_counts_rows_questions_and_answers_as_by_hand():
    train = [row("q1", "a1"), row("q2", "a2"), row("q2", "a2"), row("q3", "a3")]
    test = [
        row("q1", "a1"),  # the row, so its question and answer too
        row("q1", "a1"),  # counted again: rows are counted, not distinct rows
        row("q2", "new"),  # the question alone
        row("new", "a3"),  # the answer alone
        row("q1", "a3"),  # question and answer of two rows
        row("new", "new"),
    ]
    found = overlap("test", test, "train", train)
    assert (found.num_rows, found.same_row, found.same_question, found.same_answer) == (6, 2, 4, 4)
    assert found.sentence() == (
        "6 test rows: 2 stand in train too; 4 share a question and 4 an answer with it"
    )
    back = overlap("train", train, "test", test)
    assert (back.num_rows, back.same_row, back.same_question, back.same_answer) == (4, 1, 3, 2)


def test_plain_texts_share_no_question():
    texts = [Example("text", (Message("assistant", text),), "x:1") for text in ("a", "b")]
    found = overlap("test", texts, "train", texts)
    assert (found.same_row, found.same_question, found.same_answer) == (2, 0, 2)


def test_a_duplicate_repeats_an_earlier_row_of_its_kind():
    assert num_duplicates([row("a", "b")] * 3 + [row("a", "c")]) == 2
    assert num_duplicates(SMALL) == 0


@pytest.fixture(scope="module")
def nl_rx():
    if "SEMTUBE_SHARED" not in os.environ:
        pytest.skip("SEMTUBE_SHARED is not set: no NL-RX data here")
    folder = Path(os.environ["SEMTUBE_SHARED"]) / "data" / "nl_rx"
    return {
        name: read_examples(folder / f"{name}.jsonl")
        for name in ("synth_train", "synth_test", "turk_train", "turk_test")
    }


def test_nl_rx_synth_shares_39_pairs_and_111_regexes_between_its_splits(nl_rx):
    # 39: README of the shared data; 111 and 9,863 unique pairs: notes on the paper, measured.
    found = overlap("test", nl_rx["synth_test"], "train", nl_rx["synth_train"])
    assert (found.num_rows, found.same_row, found.same_answer) == (2000, 39, 111)
    both = nl_rx["synth_train"] + nl_rx["synth_test"]
    assert len(both) - num_duplicates(both) == 9863


def test_nl_rx_synth_repeats_89_of_its_training_pairs(nl_rx):
    # 8,000 + 2,000 - 89 - 9 - 39 = 9,863, the count of the notes.
    assert num_duplicates(nl_rx["synth_train"]) == 89
    assert num_duplicates(nl_rx["synth_test"]) == 9


def test_68_questions_of_nl_rx_turk_stand_in_train_with_another_regex(nl_rx):
    found = overlap("test", nl_rx["turk_test"], "train", nl_rx["turk_train"])
    asked = {}
    for example in nl_rx["turk_train"]:
        asked.setdefault(example.question, set()).add(example.answer)
    other = sum(
        example.question in asked and example.answer not in asked[example.question]
        for example in nl_rx["turk_test"]
    )
    assert other == 68
    assert found.same_question >= 68
