"""Final numbers: every way people and models write them."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtube.tasks.gsm8k import Gsm8k, lenient_number, numbers_in, strict_number
from semtube.tasks.task import Answer


def judge(prediction: str, gold: str = "So 18.\n#### 18", stopped: bool = True) -> dict:
    return Gsm8k().judge([Answer(prediction, stopped, gold, {})])[0]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("18", "18"), ("18.", "18"), ("18.0", "18"), ("1,080", "1080"),
        ("$1,234.50.", "1234.50"),
        ("-5", "-5"), ("-$5", "-5"), ("$-5", "-5"), ("\N{MINUS SIGN}7", "-7"), ("€ 3", "3"),
        (".5", "0.5"), ("75%", "75"), ("(12)", "12"), ("**42**", "42"),
        ("109,200,000", "109200000"),
    ],
)  # fmt: skip
def test_one_number(text: str, number: str) -> None:
    assert numbers_in(text) == [Decimal(number)]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3-4", ["3", "4"]), ("x-4", ["4"]), ("1,2,3", ["1", "2", "3"]),
        ("10,5000", ["10", "5000"]),
        ("5 - -3", ["5", "-3"]), ("f(2)-1", ["2", "1"]), ("no number", []), ("", []), ("-", []),
        ("\u0663", []), ("9" * 65, []),
    ],
)  # fmt: skip
def test_several_or_none(text: str, numbers: list[str]) -> None:
    assert numbers_in(text) == [Decimal(number) for number in numbers]


@given(st.integers(-(10**9), 10**9), st.integers(0, 999))
def test_written_out_and_read_back(whole: int, thousandths: int) -> None:
    text = f"{whole:,}.{thousandths:03d}"
    assert numbers_in(f"it is {text}.") == [Decimal(text.replace(",", ""))]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("work\n#### 18", 18), ("#### 18", 18), ("#### $1,800.", 1800), ("####18\n", 18),
        ("work 18", None), ("#### 18 eggs", None), ("#### 18\nand more", None), ("", None),
        ("####", None), ("#### 1 2", None),
    ],
)  # fmt: skip
def test_strict(text: str, number: int | None) -> None:
    assert strict_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 18 eggs, as 3 fell", 18), ("#### 5 no, wait\n#### 18", 18), ("so 3 + 15 = 18", 18),
        (r"thus \boxed{18} of 20", 18), ("The answer is $18. I checked 2 times", 18),
        ("the answer is 4? No: the answer is 18", 18), ("The answer is 3 + 15 = 18.", 18),
        ("the answer is 1.5 + 16.5 = 18.0\nas 3", 18), ("the answer: none. 18", 18),
        ("no number", None), ("", None), ("18 above\n#### none", None),
    ],
)  # fmt: skip
def test_lenient(text: str, number: int | None) -> None:
    assert lenient_number(text) == number


def test_an_answer_that_does_not_stop_is_not_strictly_right() -> None:
    assert judge("#### 18", stopped=False) == {"strict_match": False, "lenient_match": True}


def test_empty_is_wrong_and_a_gold_without_a_number_is_not_judged() -> None:
    assert judge("") == {"strict_match": False, "lenient_match": False}
    assert judge("#### 18", gold="unknown") == {"strict_match": None, "lenient_match": None}


@pytest.mark.parametrize("text", ["9" * 100_000, "1," * 50_000, "\x00\x1b[31m 18", "-" * 100_000])
def test_hostile_predictions_are_judged_quickly(text: str) -> None:
    assert set(judge(text).values()) <= {True, False}


def test_real_answers(shared: Path) -> None:
    """Gold against gold is right everywhere, shuffled gold hardly ever, empty never."""
    rows = Gsm8k().read(shared / "data", "test")
    golds = [row["messages"][-1]["content"] for row in rows]
    assert len(golds) == Gsm8k.card.splits["test"] == 1319
    right = Gsm8k().judge([Answer(gold, True, gold, {}) for gold in golds])
    assert all(scores == {"strict_match": True, "lenient_match": True} for scores in right)
    empty = Gsm8k().judge([Answer("", True, gold, {}) for gold in golds])
    assert not any(scores["strict_match"] or scores["lenient_match"] for scores in empty)
    moved = golds[7:] + golds[:7]
    shuffled = Gsm8k().judge(
        [Answer(m, True, gold, {}) for m, gold in zip(moved, golds, strict=True)]
    )
    assert sum(scores["strict_match"] or False for scores in shuffled) < 0.05 * len(golds)
