"""Whether two regular expressions of the NL-RX dialect describe the same language.

Both are taken apart letter by letter (`regex_derivatives`); they differ if some string leads to a
pair of states of which one accepts: the emptiness of the symmetric difference. Pairs that are
equal if earlier pairs are need no walk, so there are fewer pairs than states of both.

The alphabet is made for the pair: code points which no range of either regex tells apart are one
letter. This is exact for any two regexes of the dialect.

The automata libraries tried build both automata whole, operator by operator, before they compare,
without a bound; here only what the comparison reaches is built, and it is counted.

Source: Hopcroft and Karp 1971, A linear algorithm for testing equivalence of finite automata,
Cornell TR 71-114; the metric, "DFA equality", is that of Locascio et al. 2016, arXiv 1608.03000.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from semtube.tasks.budget import Budget, OutOfBudgetError
from semtube.tasks.regex_derivatives import Expression, Expressions
from semtube.tasks.regex_syntax import (
    LAST_CODE_POINT,
    Characters,
    Complement,
    Concatenation,
    Intersection,
    Range,
    RegexSyntaxError,
    Repetition,
    Syntax,
    Union,
    parse,
)

#: Answers of NL-RX, each against itself and ".*", need at most 29,000.
MAX_STATES = 100_000
MAX_SECONDS = 2.0
#: Memory grows with their square: 16 MB for this many.
MAX_LETTERS = 16_384


class Verdict(Enum):
    """What is known of two languages."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Comparison:
    """A verdict and what stands behind it.

    Args:
        verdict: on the two languages.
        witness: where they differ, a shortest string which one regex describes and the other does
            not; `\\b` is MARKER in it.
        reason: where undecided, which bound was passed.
    """

    verdict: Verdict
    witness: str | None = None
    reason: str | None = None


def same_language(
    a: str, b: str, *, max_states: int = MAX_STATES, max_seconds: float = MAX_SECONDS
) -> Comparison:
    """Compare the languages of two regexes.

    Args:
        a, b: regexes of the dialect (see `regex_syntax`).
        max_states: bound on states and the expressions they are made of, counted with their
            operands and transitions. It makes the verdict the same on every machine.
        max_seconds: bound on the thread's CPU time, a last resort.

    Raises:
        RegexSyntaxError: one is no regex of the dialect.
        ValueError: a bound is not positive.
    """
    if max_states < 1 or not max_seconds > 0:
        raise ValueError(f"bounds must be positive, got {max_states=}, {max_seconds=}")
    trees = [parse(text) for text in dict.fromkeys((a, b))]
    if len(trees) == 1:
        return Comparison(Verdict.EQUAL)
    alphabet = _Alphabet(trees)
    if len(alphabet) > MAX_LETTERS:
        reason = f"more than {MAX_LETTERS} characters are told apart"
        return Comparison(Verdict.UNDECIDED, reason=reason)
    try:
        budget = Budget(max_seconds)
        expressions = Expressions(len(alphabet), budget)
        first, second = (_translate(tree, expressions, alphabet) for tree in trees)
        budget.limit_size(max_states)
        path = _path_to_difference(first, second, expressions)
    except OutOfBudgetError as error:
        return Comparison(Verdict.UNDECIDED, reason=str(error))
    if path is None:
        return Comparison(Verdict.EQUAL)
    return Comparison(Verdict.DIFFERENT, witness="".join(map(alphabet.example, path)))


def regex_equal(prediction: str, gold: str) -> bool | None:
    """Whether a prediction describes the gold's language; None where that is undecided.

    White space around the texts is ignored, as in an exact match. A prediction which is no regex,
    such as an empty one, is wrong.

    Raises:
        RegexSyntaxError: the gold is no regex of the dialect.
    """
    prediction, gold = prediction.strip(), gold.strip()
    parse(gold)
    try:
        verdict = same_language(prediction, gold).verdict
    except RegexSyntaxError:
        return False
    return None if verdict is Verdict.UNDECIDED else verdict is Verdict.EQUAL


class _Alphabet:
    """Letters of some regexes: intervals of code points between ends of their ranges."""

    def __init__(self, trees: Iterable[Syntax]) -> None:
        ranges = {
            part
            for tree in trees
            for node in _descend(tree)
            if isinstance(node, Characters)
            for part in node.ranges
        }
        ends = {0, LAST_CODE_POINT + 1}
        ends.update(first for first, _ in ranges)
        ends.update(last + 1 for _, last in ranges)
        self._starts = sorted(ends)
        self._letter_at = {start: letter for letter, start in enumerate(self._starts)}

    def __len__(self) -> int:
        return len(self._starts) - 1

    def mask(self, ranges: Iterable[Range]) -> int:
        """The letters of the ranges, a bit each."""
        letter_at = self._letter_at
        return sum((1 << letter_at[last + 1]) - (1 << letter_at[first]) for first, last in ranges)

    def example(self, mask: int) -> str:
        """A character of one of the letters, a visible one where there is any."""
        intervals = [
            (start, self._starts[letter + 1] - 1)
            for letter, start in enumerate(self._starts[:-1])
            if mask >> letter & 1
        ]
        visible = ord("!")
        for first, last in intervals:
            if last >= visible:
                return chr(max(first, visible))
        return chr(intervals[0][0])


def _descend(tree: Syntax) -> Iterator[Syntax]:
    """All nodes, every one before its operands."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += _operands(node)


def _operands(node: Syntax) -> tuple[Syntax, ...]:
    if isinstance(node, Characters):
        return ()
    if isinstance(node, Complement | Repetition):
        return (node.body,)
    return node.parts


def _translate(tree: Syntax, expressions: Expressions, alphabet: _Alphabet) -> Expression:
    """The tree as an expression."""
    done: list[Expression] = []
    # Backwards, operands come before their node, the first one first; so the last is on top.
    for node in reversed(list(_descend(tree))):
        operands = [done.pop() for _ in _operands(node)]
        match node:
            case Characters(ranges):
                done.append(expressions.letters(alphabet.mask(ranges)))
            case Concatenation():
                result = expressions.empty
                for operand in operands:
                    result = expressions.concatenation(operand, result)
                done.append(result)
            case Union():
                done.append(expressions.union(operands))
            case Intersection():
                done.append(expressions.intersection(operands))
            case Complement():
                done.append(expressions.complement(operands[0]))
            case Repetition(_, least, most):
                done.append(expressions.repetition(operands[0], least, most))
    return done.pop()


def _path_to_difference(
    first: Expression, second: Expression, expressions: Expressions
) -> list[int] | None:
    """Masks of the letters of a shortest string that only one describes; None if there is none.

    States are merged where they must be equal if first and second are. A pair within one class is
    passed over: a string that tells it apart tells apart a pair which lies no deeper and is walked.
    """
    if first is second:
        return None
    class_of = {first: second}

    def find(state: Expression) -> Expression:
        while (parent := class_of.get(state)) is not None:
            if (grandparent := class_of.get(parent)) is not None:
                class_of[state] = grandparent
            state = parent
        return state

    # (state, state, index of the pair before, letters from there); breadth first.
    pairs = [(first, second, -1, 0)]
    for index, (a, b, _, _) in enumerate(pairs):
        if a.is_nullable != b.is_nullable:
            return _masks_to(index, pairs)
        for step_a, mask_a in expressions.steps(a).items():
            for step_b, mask_b in expressions.steps(b).items():
                if not mask_a & mask_b:
                    continue
                class_a, class_b = find(step_a), find(step_b)
                if class_a is not class_b:
                    class_of[class_a] = class_b
                    pairs.append((step_a, step_b, index, mask_a & mask_b))
    return None


def _masks_to(index: int, pairs: list[tuple[Expression, Expression, int, int]]) -> list[int]:
    path = []
    while index > 0:
        _, _, index, mask = pairs[index]
        path.append(mask)
    return path[::-1]
