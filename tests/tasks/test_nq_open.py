"""Short answers by their normal form."""

import json
from pathlib import Path

import pytest

from semtube.errors import UserError
from semtube.tasks.nq_open import NqOpen, is_answer, normalized
from semtube.tasks.task import Answer


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The Beatles!", "beatles"), ("  a  Tale of\tTwo Cities ", "tale of two cities"),
        ("U.S.A.", "usa"), ("An", ""), ("theatre", "theatre"), ("", ""), ("...", ""),
        ("caf\u00e9", "cafe\u0301"),
    ],
)  # fmt: skip
def test_normal_form(text: str, form: str) -> None:
    assert normalized(text) == form


def test_any_right_answer_counts_and_empty_never() -> None:
    golds = ["14 December 1972 UTC", "December 1972"]
    assert is_answer("december, 1972", golds)
    assert not is_answer("1972", golds)
    assert not is_answer("", golds)
    assert not is_answer("the", golds)


def test_a_gold_of_articles_is_compared_as_it_stands() -> None:
    assert is_answer(" The The ", ["The The"])
    assert not is_answer("", ["The The"])
    assert not is_answer("a", ["The The"])
    assert not is_answer("", ["?"])


def test_parts() -> None:
    fields = {"answers": ["six geese", "seven swans"]}
    task = NqOpen()

    def judge(text: str, stopped: bool = True) -> dict:
        return task.judge([Answer(text, stopped, "six geese; seven swans", fields)])[0]

    assert judge("Six geese") == {"answer_match": True}
    assert judge("six geese; Seven swans.") == {"answer_match": True}
    # A list of guesses is no answer.
    for text in ("six geese; a dove", "; ", "", "x" * 100_000, "a; " * 30_000):
        assert judge(text) == {"answer_match": False}
    assert judge("six geese", stopped=False) == {"answer_match": False}


def test_a_bad_answer_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "nq_open").mkdir()
    path = tmp_path / "nq_open" / "NQ-open.dev.jsonl"
    good = json.dumps({"question": "q", "answer": ["a"]})
    path.write_text(good + "\n" + json.dumps({"question": "q", "answer": []}))
    with pytest.raises(UserError, match=r"NQ-open.dev.jsonl:2: 'answer' must be a list"):
        NqOpen().read(tmp_path, "dev")
    path.write_text(good + "\n" + json.dumps({"question": "q"}))
    with pytest.raises(UserError, match=r"NQ-open.dev.jsonl:2: a JSON object with 'answer'"):
        NqOpen().read(tmp_path, "dev")


@pytest.mark.parametrize("split", ["test", "dev"])
def test_real_answers(shared: Path, split: str) -> None:
    """Gold against gold is right, each single one too; shuffled hardly ever, empty never."""
    rows = NqOpen().read(shared / "data", split)
    assert len(rows) == NqOpen.card.splits[split]
    first = [Answer(row["answers"][0], True, row["messages"][-1]["content"], row) for row in rows]
    assert all(scores["answer_match"] for scores in NqOpen().judge(first))
    whole = NqOpen().judge([Answer(a.gold, True, a.gold, a.fields) for a in first])
    assert all(scores["answer_match"] for scores in whole)
    moved = first[5:] + first[:5]
    shuffled = NqOpen().judge(
        [Answer(m.prediction, True, a.gold, a.fields) for m, a in zip(moved, first, strict=True)]
    )
    assert sum(scores["answer_match"] or False for scores in shuffled) < 0.02 * len(rows)
    empty = NqOpen().judge([Answer("", True, a.gold, a.fields) for a in first])
    assert not any(scores["answer_match"] for scores in empty)
