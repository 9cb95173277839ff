"""Scorers for rows of one's own: the exact text, a pattern, a set of choices, a function."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import regex

from semtube.errors import UserError
from semtube.tasks.matching import exact_match, prefix_match
from semtube.tasks.task import Answer, Contrast, Scorer, Scores

#: A pattern may need this long on one answer.
PATTERN_SECONDS = 1.0


class ExactText(Scorer):
    """`exact_match`: the right text, and stopped; `prefix_match`: begins with it."""

    scores = ("exact_match", "prefix_match")

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Text against text."""
        return [
            {
                # Right content that never ends is no right answer.
                "exact_match": a.stopped and exact_match(a.prediction, a.gold),
                "prefix_match": prefix_match(a.prediction, a.gold),
            }
            for a in answers
        ]


class Pattern(Scorer):
    """`pattern_match`: a Python regular expression matches the whole stripped answer, and stopped.

    Args:
        pattern: for all rows; unset, each row brings its own under the key `pattern`.

    An answer on which the pattern takes longer than a second is wrong, and counted by `reasons`.
    """

    scores = ("pattern_match",)

    def __init__(self, pattern: str | None = None) -> None:
        self._pattern = None if pattern is None else _compiled(pattern, "task_options.pattern")
        self._num_slow = 0

    def check(self, gold: str, fields: Mapping[str, Any]) -> None:
        """A pattern is there."""
        self._pattern_of(fields)

    def _pattern_of(self, fields: Mapping[str, Any]) -> regex.Pattern[str]:
        if self._pattern is None and "pattern" not in fields:
            raise UserError(
                "the row has no 'pattern' and task_options.pattern is unset: one of them is needed"
            )
        return self._pattern or _compiled(fields["pattern"], "'pattern' of the row")

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Every answer against its pattern."""
        return [{"pattern_match": self._matches(answer)} for answer in answers]

    def _matches(self, answer: Answer) -> bool:
        if not answer.stopped:
            return False
        pattern = self._pattern_of(answer.fields)
        try:
            return pattern.fullmatch(answer.prediction.strip(), timeout=PATTERN_SECONDS) is not None
        except TimeoutError:
            self._num_slow += 1
            return False

    def reasons(self) -> list[str]:
        """How many answers were given up."""
        if not self._num_slow:
            return []
        return [
            f"pattern_match: on {self._num_slow:,} answers the pattern took more than "
            f"{PATTERN_SECONDS:g} s; they count as wrong"
        ]


class Choice(Scorer):
    """One answer of a few.

    Args:
        choices: the same for all rows; unset, each row brings its own under the key `choices`.

    `choice_match`: of all choices, the right one is the likeliest answer, with the stop token
    behind it. `exact_match`: the model
    writes it, and stops.
    """

    scores = ("choice_match", "exact_match")

    def __init__(self, choices: Sequence[str] | None = None) -> None:
        self._choices = choices

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Whether the right choice was written."""
        return [{"exact_match": a.stopped and exact_match(a.prediction, a.gold)} for a in answers]

    def contrasts(self, gold: str, fields: Mapping[str, Any]) -> dict[str, Contrast]:
        """The choices as answers to the row's own prompt."""
        choices = self._choices if self._choices is not None else fields.get("choices")
        is_list = isinstance(choices, Sequence) and not isinstance(choices, str)
        if not is_list or not all(isinstance(c, str) and c.strip() for c in choices):
            raise UserError(
                f"choices are {choices!r}: give texts that are not empty, in task_options.choices "
                "or under 'choices' in every row"
            )
        texts = [choice.strip() for choice in choices]
        if len(set(texts)) < max(2, len(texts)) or gold.strip() not in texts:
            raise UserError(
                f"choices are {texts!r} and the answer {gold.strip()!r}: two or more different "
                "choices are needed, and the answer must be one of them"
            )
        # The space before an answer belongs to its first token.
        space = gold[: len(gold) - len(gold.lstrip())]
        options = tuple(space + text for text in texts)
        return {"choice_match": Contrast(options, texts.index(gold.strip()), is_whole=True)}


class Function(Scorer):
    """`function_match`: what a function of one's own says.

    Args:
        function: takes the prediction, the right answer and the row's other keys (a dict), and
            returns True, False, or None where it cannot judge.
        name: in errors.
    """

    scores = ("function_match",)

    def __init__(self, function: Callable[[str, str, dict[str, Any]], bool | None], name: str):
        self._function = function
        self._name = name
        self._failures: list[str] = []

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Ask the function. Where it fails the row is not judged, and no other answer is lost."""
        return [{"function_match": self._ask(answer)} for answer in answers]

    def _ask(self, answer: Answer) -> bool | None:
        try:
            verdict = self._function(answer.prediction, answer.gold, dict(answer.fields))
        except Exception as error:  # a user's function raises what it likes
            self._failures.append(
                f"failed on {answer.prediction[:60]!r}: {type(error).__name__}: {error}"
            )
            return None
        if verdict is not None and not isinstance(verdict, bool):
            self._failures.append(f"gave {verdict!r}: True, False or None is needed")
            return None
        return verdict

    def reasons(self) -> list[str]:
        """How often the function failed, and how first."""
        if not self._failures:
            return []
        times = "once" if len(self._failures) == 1 else f"{len(self._failures):,} times"
        return [f"scorer {self._name!r} could not judge {times}; first it {self._failures[0]}"]


def load_function(name: str) -> Function:
    """The scorer of `module:function`, which is imported as Python imports it.

    Raises:
        UserError: there is no such module or function.
    """
    module_name, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"scorer {name!r} cannot be imported ({error})") from error
    if not callable(function):
        raise UserError(f"scorer {name!r} is no function but {type(function).__name__}")
    return Function(function, name)


def _compiled(pattern: Any, where: str) -> regex.Pattern[str]:
    if not isinstance(pattern, str):
        raise UserError(f"{where} is {pattern!r}: a regular expression is needed")
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise UserError(f"{where} is {pattern!r}: no regular expression ({error})") from error
