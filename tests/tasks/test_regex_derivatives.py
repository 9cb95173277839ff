"""Derivatives: closed forms, the laws that make expressions one object, the alphabet parted."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semtube.tasks.budget import Budget, OutOfBudgetError
from semtube.tasks.regex_derivatives import Expression, Expressions

NUM_LETTERS = 3
ALL = (1 << NUM_LETTERS) - 1


def new() -> Expressions:
    return Expressions(NUM_LETTERS, Budget(max_seconds=60))


def make(choose: Callable[[int], int], expressions: Expressions, depth: int) -> Expression:
    """An expression by choices of whole numbers below a bound."""
    if depth == 0 or choose(4) == 0:
        return (expressions.letters(choose(ALL + 1)), expressions.empty)[choose(2)]
    body = make(choose, expressions, depth - 1)
    match choose(5):
        case 0:
            return expressions.complement(body)
        case 1:
            least = choose(3)
            return expressions.repetition(body, least, (None, least, least + 2)[choose(3)])
    other = make(choose, expressions, depth - 1)
    match choose(3):
        case 0:
            return expressions.concatenation(body, other)
        case 1:
            return expressions.union((body, other))
    return expressions.intersection((body, other))


@settings(deadline=None)
@given(st.data())
def test_every_letter_leads_to_one_derivative(data: st.DataObject) -> None:
    expressions = new()
    state = make(lambda bound: data.draw(st.integers(0, bound - 1)), expressions, 4)
    for _ in range(4):
        steps = expressions.steps(state)
        covered = 0
        for mask in steps.values():
            assert mask
            assert not mask & covered
            covered |= mask
        assert covered == ALL
        state = data.draw(st.sampled_from(list(steps)))


def test_derivatives_in_closed_form() -> None:
    e = new()
    a, b = e.letters(1), e.letters(2)
    star = e.repetition(a, 0, None)
    # d(ab) = b; d(a*) = a*; d(a{2,3}) = a{1,2}; d(~a) = ~(d a); d(a*b) = a*b and ().
    assert e.steps(e.concatenation(a, b)) == {b: 1, e.nothing: 6}
    assert e.steps(star) == {star: 1, e.nothing: 6}
    assert e.steps(e.repetition(a, 2, 3)) == {e.repetition(a, 1, 2): 1, e.nothing: 6}
    assert e.steps(e.complement(a)) == {e.complement(e.empty): 1, e.everything: 6}
    star_b = e.concatenation(star, b)
    assert e.steps(star_b) == {star_b: 1, e.empty: 2, e.nothing: 4}
    assert e.steps(e.everything) == {e.everything: ALL}
    assert e.steps(e.empty) == e.steps(e.nothing) == {e.nothing: ALL}


@pytest.mark.parametrize(
    "law",
    [
        lambda e, x, y: (e.union((x, x)), x),
        lambda e, x, y: (e.union((x, y)), e.union((y, x))),
        lambda e, x, y: (e.union((x, e.nothing)), x),
        lambda e, x, y: (e.union((x, e.everything)), e.everything),
        lambda e, x, y: (e.union((x, e.complement(x))), e.everything),
        lambda e, x, y: (e.intersection((x, x)), x),
        lambda e, x, y: (e.intersection((x, e.everything)), x),
        lambda e, x, y: (e.intersection((x, e.nothing)), e.nothing),
        lambda e, x, y: (e.intersection((x, e.complement(x))), e.nothing),
        lambda e, x, y: (e.complement(e.complement(x)), x),
        lambda e, x, y: (e.concatenation(x, e.empty), x),
        lambda e, x, y: (e.concatenation(e.empty, x), x),
        lambda e, x, y: (e.concatenation(x, e.nothing), e.nothing),
        lambda e, x, y: (
            e.concatenation(e.concatenation(x, y), x),
            e.concatenation(x, e.concatenation(y, x)),
        ),
        lambda e, x, y: (
            e.concatenation(e.everything, e.concatenation(e.everything, x)),
            e.concatenation(e.everything, x),
        ),
        lambda e, x, y: (e.repetition(e.repetition(x, 0, None), 2, 5), e.repetition(x, 0, None)),
        lambda e, x, y: (e.repetition(e.repetition(x, 0, 1), 3, None), e.repetition(x, 0, None)),
        lambda e, x, y: (e.union((e.letters(1), e.letters(2))), e.letters(3)),
        lambda e, x, y: (e.intersection((e.letters(3), e.letters(6))), e.letters(2)),
    ],
)
def test_laws_give_one_object(law: Callable) -> None:
    e = new()
    x = e.concatenation(e.letters(1), e.letters(2))
    left, right = law(e, x, e.concatenation(e.letters(4), e.letters(2)))
    assert left is right


def test_the_budget_counts_from_its_limit_on() -> None:
    budget = Budget(max_seconds=60)
    budget.spend(10**9)
    budget.limit_size(1000)
    budget.spend(400)
    budget.spend(600)
    with pytest.raises(OutOfBudgetError, match="more than 1000 states"):
        budget.spend(1)
