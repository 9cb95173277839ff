"""NL-RX: three scores and the groups by ending."""

from pathlib import Path

import pytest

from semtube.tasks.nl_rx import NlRxSynth, NlRxTurk
from semtube.tasks.task import Answer


def judge(prediction: str, gold: str, stopped: bool = True) -> dict:
    return NlRxSynth().judge([Answer(prediction, stopped, gold, {})])[0]


def test_scores() -> None:
    right = {"dfa_equal": True, "exact_match": True, "prefix_match": True}
    assert judge(".*dog.*", ".*dog.*") == right
    assert judge(".*dog.*.*", ".*dog.*") == right | {"exact_match": False}
    assert judge("(([0-9]))+", "([0-9])+") == right | {
        "exact_match": False, "prefix_match": False,
    }  # fmt: skip
    assert judge(".*dog", ".*dog.*") == dict.fromkeys(right, False)
    assert judge("", ".*") == dict.fromkeys(right, False)
    assert judge("(((", ".*") == dict.fromkeys(right, False)
    assert judge("a", "((")["dfa_equal"] is None
    assert judge(".*", ".*", stopped=False) == {
        "dfa_equal": False, "exact_match": False, "prefix_match": True,
    }  # fmt: skip


def test_a_prediction_that_cannot_be_compared_is_wrong_and_counted() -> None:
    """Else a model could leave a row out of its rate by what it writes."""
    task = NlRxSynth()
    gold = ".*dog.*"
    hard = f"{gold}&~(.*a{'.' * 25})"
    assert task.judge([Answer(hard, True, gold, {})])[0]["dfa_equal"] is False
    assert task.reasons() == [
        "dfa_equal: 1 answers could not be compared within the bounds; they count as wrong"
    ]
    assert NlRxSynth().reasons() == []


def test_groups_of_the_real_test_rows(shared: Path) -> None:
    """Counts of the data's own description; gold against gold is right, empty and moved are not."""
    task = NlRxSynth()
    golds = [row["messages"][-1]["content"] for row in task.read(shared / "data", "test")]
    groups = [task.group(gold, {}) for gold in golds]
    assert groups.count("ending in .*.*") == 25
    assert groups.count("ending in .*") == 885
    assert len(golds) == task.card.splits["test"] == 2000
    for scores in task.judge([Answer(gold, True, gold, {}) for gold in golds]):
        assert set(scores.values()) == {True}
    for scores in task.judge([Answer("", True, gold, {}) for gold in golds[:200]]):
        assert not scores["exact_match"]
        assert not scores["prefix_match"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_both_sets_have_the_same_regexes(shared: Path, split: str) -> None:
    answers = [
        [row["messages"][-1]["content"] for row in task.read(shared / "data", split)]
        for task in (NlRxSynth(), NlRxTurk())
    ]
    assert answers[0] == answers[1]
