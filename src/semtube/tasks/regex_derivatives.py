"""Regular expressions as the states of an automaton that is built while it is walked.

The derivative of an expression by a letter describes what may follow that letter; an expression is
an accepting state if it describes the empty string. Equal expressions are one object, made by
constructors that apply laws of regular languages (X|X = X, .*.*X = .*X, ~~X = X, ...), so that the
derivatives of an expression are finitely many and mostly few.

Letters are bits. All derivatives of an expression come at once, as {derivative: mask of the letters
that lead to it}: the cost does not grow with the alphabet but with what is told apart. Nothing here
calls itself, so that nesting may be deep.

Source: Brzozowski 1964, Derivatives of regular expressions, J. ACM 11; Owens, Reppy and Turon 2009,
Regular-expression derivatives re-examined, J. Funct. Program. 19.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum, auto
from functools import reduce
from operator import and_, or_

from semtube.tasks.budget import Budget


class Kind(IntEnum):
    """The outermost operator of an expression."""

    EMPTY = auto()
    LETTERS = auto()
    CONCATENATION = auto()
    REPETITION = auto()
    UNION = auto()
    INTERSECTION = auto()
    COMPLEMENT = auto()


@dataclass(eq=False, slots=True)
class Expression:
    """A state.

    Args:
        kind: its outermost operator.
        parts: the operands; those of a concatenation are a head, which is none, and a tail.
        is_nullable: it describes the empty string.
        number: how many were made before it.
        mask: of LETTERS, the letters.
        least, most: of REPETITION, how often; None for any number.
        steps: derivative -> mask of the letters that lead to it; None until asked for.
    """

    kind: Kind
    parts: tuple[Expression, ...]
    is_nullable: bool
    number: int
    mask: int = 0
    least: int = 0
    most: int | None = None
    steps: dict[Expression, int] | None = field(default=None, repr=False)


class Expressions:
    """All expressions of one comparison, over the letters 0 to num_letters - 1."""

    def __init__(self, num_letters: int, budget: Budget) -> None:
        self._budget = budget
        self._all_letters = (1 << num_letters) - 1
        self._known: dict[object, Expression] = {}
        self.empty = self._make(Kind.EMPTY, (), True)
        self.nothing = self.letters(0)
        self.everything = self._make(Kind.REPETITION, (self.letters(self._all_letters),), True)

    def _make(
        self,
        kind: Kind,
        parts: tuple[Expression, ...],
        is_nullable: bool,
        mask: int = 0,
        least: int = 0,
        most: int | None = None,
    ) -> Expression:
        key = (kind, parts, mask, least, most)
        expression = self._known.get(key)
        if expression is None:
            self._budget.spend(1 + len(parts))
            number = len(self._known)
            expression = Expression(kind, parts, is_nullable, number, mask, least, most)
            self._known[key] = expression
        return expression

    def letters(self, mask: int) -> Expression:
        """One letter of the mask; none is the language without strings, `nothing`."""
        return self._make(Kind.LETTERS, (), False, mask)

    def concatenation(self, head: Expression, tail: Expression) -> Expression:
        """The strings of head, each followed by one of tail."""
        if tail is self.empty:
            return head
        heads = []
        while head.kind is Kind.CONCATENATION:
            heads.append(head.parts[0])
            head = head.parts[1]
        self._budget.spend(len(heads))
        tail = self._two_in_a_row(head, tail)
        for head in reversed(heads):
            tail = self._two_in_a_row(head, tail)
        return tail

    def _two_in_a_row(self, head: Expression, tail: Expression) -> Expression:
        """The same for a head that is no concatenation."""
        if head is self.nothing or tail is self.nothing:
            return self.nothing
        if head is self.empty:
            return tail
        if head is self.everything and tail.is_nullable:
            return head
        if tail is self.everything and head.is_nullable:
            return tail
        if _is_star(head):
            first = tail.parts[0] if tail.kind is Kind.CONCATENATION else tail
            if first is head:
                return tail
        is_nullable = head.is_nullable and tail.is_nullable
        return self._make(Kind.CONCATENATION, (head, tail), is_nullable)

    def repetition(self, body: Expression, least: int, most: int | None) -> Expression:
        """`body` from `least` to `most` times."""
        if most == 0 or body is self.empty:
            return self.empty
        if body is self.nothing:
            return self.nothing if least else self.empty
        if body.kind is Kind.UNION and self.empty in body.parts:
            body = self.union(part for part in body.parts if part is not self.empty)
            least = 0
        if body.is_nullable:
            least = 0
        if body.kind is Kind.REPETITION and body.least <= 1 and body.most is None:
            (body,), least, most = body.parts, least * body.least, None
        if (least, most) == (1, 1):
            return body
        if (least, most) == (0, 1):
            return self.union((self.empty, body))
        return self._make(Kind.REPETITION, (body,), least == 0, 0, least, most)

    def union(self, parts: Iterable[Expression]) -> Expression:
        """What any of the parts describes."""
        members = set(_flat(parts, Kind.UNION))
        if self.everything in members or _holds_a_complement(members):
            return self.everything
        if letters := _letters_in(members):
            members -= letters
            if mask := reduce(or_, (member.mask for member in letters)):
                members.add(self.letters(mask))
        is_nullable = any(member.is_nullable for member in members if member is not self.empty)
        if is_nullable:
            members.discard(self.empty)
        if len(members) <= 1:
            return members.pop() if members else self.nothing
        return self._make(Kind.UNION, _in_order(members), is_nullable or self.empty in members)

    def intersection(self, parts: Iterable[Expression]) -> Expression:
        """What all of the parts describe."""
        members = set(_flat(parts, Kind.INTERSECTION)) - {self.everything}
        is_nullable = all(member.is_nullable for member in members)
        if _holds_a_complement(members):
            return self.nothing
        if self.empty in members:
            return self.empty if is_nullable else self.nothing
        if letters := _letters_in(members):
            members -= letters
            mask = reduce(and_, (member.mask for member in letters))
            if not mask:
                return self.nothing
            members.add(self.letters(mask))
        if len(members) <= 1:
            return members.pop() if members else self.everything
        return self._make(Kind.INTERSECTION, _in_order(members), is_nullable)

    def complement(self, body: Expression) -> Expression:
        """All strings that body does not describe."""
        if body.kind is Kind.COMPLEMENT:
            return body.parts[0]
        if body is self.nothing:
            return self.everything
        if body is self.everything:
            return self.nothing
        return self._make(Kind.COMPLEMENT, (body,), not body.is_nullable)

    def steps(self, expression: Expression) -> dict[Expression, int]:
        """Derivative -> mask of the letters that lead to it. The masks part the alphabet."""
        waiting = [expression]
        while waiting:
            top = waiting[-1]
            if top.steps is None:
                missing = [part for part in _parts_to_derive(top) if part.steps is None]
                if missing:
                    waiting += missing
                    continue
                top.steps = self._derive(top)
                self._budget.spend(len(top.steps))
            waiting.pop()
        assert expression.steps is not None
        return expression.steps

    def _derive(self, expression: Expression) -> dict[Expression, int]:
        """The steps of an expression whose `_parts_to_derive` have theirs."""
        kind, parts = expression.kind, expression.parts
        if kind is Kind.EMPTY:
            return {self.nothing: self._all_letters}
        if kind is Kind.LETTERS:
            others = self._all_letters & ~expression.mask
            steps = {self.empty: expression.mask, self.nothing: others}
            return {derivative: mask for derivative, mask in steps.items() if mask}
        if kind is Kind.UNION or kind is Kind.INTERSECTION:
            return self._product(map(_steps, parts), kind)
        if kind is Kind.COMPLEMENT:
            return {self.complement(step): mask for step, mask in _steps(parts[0]).items()}
        if kind is Kind.REPETITION:
            # The first of the bodies that is not empty takes the letter.
            most = None if expression.most is None else expression.most - 1
            tail = self.repetition(parts[0], max(expression.least - 1, 0), most)
            return self._derive_head(parts[0], tail)
        steps = self._derive_head(*parts)
        if not parts[0].is_nullable:
            return steps
        return self._product([steps, _steps(parts[1])], Kind.UNION)

    def _derive_head(self, head: Expression, tail: Expression) -> dict[Expression, int]:
        """Steps of head, each followed by tail."""
        steps: dict[Expression, int] = {}
        for step, mask in _steps(head).items():
            if step.kind is Kind.UNION:
                # (X|Y)Z as XZ|YZ, so that what derivatives share is one expression.
                derivative = self.union(self.concatenation(part, tail) for part in step.parts)
            else:
                derivative = self.concatenation(step, tail)
            steps[derivative] = steps.get(derivative, 0) | mask
        return steps

    def _product(
        self, all_steps: Iterable[dict[Expression, int]], kind: Kind
    ) -> dict[Expression, int]:
        """Steps of a union or intersection from those of its operands."""
        combine, neutral, absorbing = self.union, self.nothing, self.everything
        if kind is Kind.INTERSECTION:
            combine, neutral, absorbing = self.intersection, self.everything, self.nothing
        absorbed = frozenset((absorbing,))
        choices: dict[frozenset[Expression], int] = {frozenset(): self._all_letters}
        for steps in all_steps:
            refined: dict[frozenset[Expression], int] = {}
            for chosen, mask in choices.items():
                for step, step_mask in steps.items():
                    common = mask & step_mask
                    if not common:
                        continue
                    if step is absorbing or chosen is absorbed:
                        key = absorbed
                    else:
                        key = chosen if step is neutral else chosen | {step}
                    refined[key] = refined.get(key, 0) | common
            choices = refined
            self._budget.spend(len(choices))
        combined: dict[Expression, int] = {}
        for chosen, mask in choices.items():
            step = combine(chosen)
            combined[step] = combined.get(step, 0) | mask
        return combined


def _steps(expression: Expression) -> dict[Expression, int]:
    assert expression.steps is not None
    return expression.steps


def _parts_to_derive(expression: Expression) -> tuple[Expression, ...]:
    """The operands whose steps make those of the expression."""
    if expression.kind is Kind.CONCATENATION and not expression.parts[0].is_nullable:
        return expression.parts[:1]
    return expression.parts


def _flat(parts: Iterable[Expression], kind: Kind) -> Iterator[Expression]:
    """The parts, and instead of those of this kind theirs."""
    for part in parts:
        if part.kind is kind:
            yield from part.parts
        else:
            yield part


def _letters_in(members: set[Expression]) -> set[Expression]:
    return {member for member in members if member.kind is Kind.LETTERS}


def _is_star(expression: Expression) -> bool:
    return expression.kind is Kind.REPETITION and expression.least == 0 and expression.most is None


def _holds_a_complement(members: set[Expression]) -> bool:
    """Whether X and ~X are both there."""
    return any(m.kind is Kind.COMPLEMENT and m.parts[0] in members for m in members)


def _in_order(members: set[Expression]) -> tuple[Expression, ...]:
    return tuple(sorted(members, key=lambda member: member.number))
