"""Scorers for rows of one's own."""

from pathlib import Path

import pytest

from semtube.errors import UserError
from semtube.tasks.catalogue import SCORERS, TASKS, build_scorer
from semtube.tasks.own_rows import Choice, ExactText, Pattern, load_function
from semtube.tasks.task import Answer


def answer(prediction: str, gold: str = "yes", stopped: bool = True, **fields: object) -> Answer:
    return Answer(prediction, stopped, gold, fields)


def test_exact_text() -> None:
    def judge(text: str, stopped: bool = True) -> dict:
        return ExactText().judge([answer(text, stopped=stopped)])[0]

    assert judge(" yes\n") == {"exact_match": True, "prefix_match": True}
    assert judge("yes, sir") == {"exact_match": False, "prefix_match": True}
    assert judge("yes", stopped=False) == {"exact_match": False, "prefix_match": True}
    assert judge("") == {"exact_match": False, "prefix_match": False}


def test_pattern() -> None:
    one = Pattern(r"\d+ (cats?|dogs?)")
    verdicts = one.judge([answer("3 cats"), answer(" 1 dog "), answer("3 birds"), answer("")])
    assert [verdict["pattern_match"] for verdict in verdicts] == [True, True, False, False]
    assert one.judge([answer("3 cats", stopped=False)])[0]["pattern_match"] is False
    own = Pattern()
    with pytest.raises(UserError, match=r"'pattern' of the row is '\[': no regular expression"):
        own.judge([answer("aab", pattern="[")])
    assert own.judge([answer("aab", pattern="a+b")])[0]["pattern_match"] is True
    with pytest.raises(
        UserError, match=r"the row has no 'pattern' and task_options.pattern is unset"
    ):
        own.judge([answer("aab")])
    with pytest.raises(UserError, match=r"task_options.pattern is '\(': no regular expression"):
        Pattern("(")


def test_a_pattern_that_explodes_is_wrong_and_counted() -> None:
    """Else a model could leave a row out of its rate by what it writes."""
    scorer = Pattern(r"(a|aa)+$c")
    assert scorer.judge([answer("a" * 3000)]) == [{"pattern_match": False}]
    assert scorer.reasons() == [
        "pattern_match: on 1 answers the pattern took more than 1 s; they count as wrong"
    ]
    assert Pattern("a").reasons() == []


def test_rows_without_pattern_or_choices_are_found_beforehand() -> None:
    with pytest.raises(
        UserError, match=r"the row has no 'pattern' and task_options.pattern is unset"
    ):
        Pattern().check("gold", {})
    Pattern().check("gold", {"pattern": "a"})
    with pytest.raises(UserError, match="choices are None"):
        Choice().check("gold", {})


def test_choices() -> None:
    contrast = Choice(["yes", "no"]).contrasts("no", {})["choice_match"]
    assert (contrast.options, contrast.right, contrast.prompt) == (("yes", "no"), 1, None)
    assert contrast.is_whole
    assert Choice(["1", "10"]).contrasts(" 10", {})["choice_match"].options == (" 1", " 10")
    assert Choice().contrasts("b", {"choices": ["a", "b"]})["choice_match"].right == 1
    assert Choice(["yes", "no"]).judge([answer("yes"), answer("yes!")]) == [
        {"exact_match": True}, {"exact_match": False},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("choices", "gold"),
    [(None, "a"), ([], "a"), (["a"], "a"), (["a", "a"], "a"), (["a", "b"], "c"), ("ab", "a"),
     (["a", ""], "a"), (["a", 1], "a")],
)  # fmt: skip
def test_choices_that_cannot_be(choices: object, gold: str) -> None:
    with pytest.raises(UserError, match="choices are"):
        Choice().contrasts(gold, {"choices": choices})


def test_a_function_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_scores.py").write_text(
        "def close(prediction, gold, fields):\n"
        "    return abs(float(prediction) - float(gold)) <= fields['tolerance']\n"
        "def odd(prediction, gold, fields):\n    return 'maybe'\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    close = build_scorer("my_scores:close", {})
    assert close.judge([answer("3.1", "3", tolerance=0.2), answer("4", "3", tolerance=0.2)]) == [
        {"function_match": True}, {"function_match": False},
    ]  # fmt: skip
    assert close.reasons() == []
    verdicts = close.judge([answer("x", "3", tolerance=0.2), answer("3", "3", tolerance=0.2)])
    assert [verdict["function_match"] for verdict in verdicts] == [None, True]
    assert close.reasons()[0].startswith(
        "scorer 'my_scores:close' could not judge once; first it failed on 'x': ValueError: could"
    )
    odd = load_function("my_scores:odd")
    assert odd.judge([answer("x")] * 2) == [{"function_match": None}] * 2
    assert (
        "could not judge 2 times; first it gave 'maybe': True, False or None" in (odd.reasons()[0])
    )
    with pytest.raises(UserError, match=r"'my_scores:number' is no function but int"):
        load_function("my_scores:number")
    for name in ("my_scores:nothing", "no_such_module:f", "my_scores:"):
        with pytest.raises(UserError, match=f"{name!r} cannot be imported"):
            load_function(name)
    with pytest.raises(UserError, match=r"takes no task_options"):
        build_scorer("my_scores:close", {"a": 1})


def test_names_and_options_are_checked() -> None:
    assert list(TASKS) == [
        "nl-rx-synth", "nl-rx-turk", "gsm8k", "spider", "nq-open", "hellaswag",
    ]  # fmt: skip
    for name in {**TASKS, **SCORERS}:
        scorer = build_scorer(name, {})
        assert scorer.scores
    with pytest.raises(UserError, match=r"no task 'gsm8': did you mean 'gsm8k'\?"):
        build_scorer("gsm8", {})
    with pytest.raises(
        UserError, match=r"task 'spider' has no option 'shema': it has schema, seconds"
    ):
        build_scorer("spider", {"shema": True})
    with pytest.raises(UserError, match=r"task 'gsm8k' has no option 'x': it has none"):
        build_scorer("gsm8k", {"x": 1})
