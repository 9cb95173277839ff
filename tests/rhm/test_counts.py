"""Counts against enumeration by hand."""

import itertools

import numpy as np
import pytest

import semtube.rhm.sizes
from semtube.errors import UserError
from semtube.rhm.counts import (
    enumerate_strings,
    num_distinct_strings,
    string_log_probability,
    tuple_probabilities,
)
from semtube.rhm.grammar import Grammar


def draw(v, m, s, depth, seed=0) -> Grammar:
    return Grammar.draw(
        num_features=v, num_synonyms=m, branching=s, depth=depth,
        generator=np.random.default_rng(seed), degenerate="keep",
    )  # fmt: skip


def strings_by_recursion(grammar: Grammar, symbol: int, level: int) -> list[tuple[int, ...]]:
    """Every string below one node, rule by rule."""
    if level == 0:
        return [(symbol,)]
    out = []
    for rule in grammar.rules[level - 1][symbol].tolist():
        parts = [strings_by_recursion(grammar, child, level - 1) for child in rule]
        out += [sum(combined, ()) for combined in itertools.product(*parts)]
    return out


@pytest.mark.parametrize(
    "sizes", [(3, 2, 2, 2), (2, 2, 2, 3), (3, 2, 3, 2), (4, 1, 2, 3), (4, 4, 2, 1)]
)
def test_enumeration_is_every_string_once(sizes):
    grammar = draw(*sizes)
    levels = enumerate_strings(grammar)
    expected = [
        string
        for root in range(grammar.num_features)
        for string in strings_by_recursion(grammar, root, grammar.depth)
    ]
    assert len(expected) == num_distinct_strings(grammar)
    assert sorted(map(tuple, levels[0].tolist())) == sorted(expected)
    assert len(set(expected)) == len(expected)
    for parsed, stored in zip(grammar.parse(levels[0]), levels, strict=True):
        np.testing.assert_array_equal(parsed, stored)
    assert np.exp(string_log_probability(grammar)) == pytest.approx(1 / len(expected))


def test_a_known_count():
    # v m^((s^L - 1) / (s - 1)) = 16 x 4^15, here in full.
    assert num_distinct_strings(draw(16, 4, 2, 4)) == 16 * 4**15


def test_tuples_are_as_likely_as_their_parents_say():
    grammar = draw(4, 2, 2, 3)
    for level, strings in enumerate(enumerate_strings(grammar)[:-1]):
        codes = grammar.tuple_codes(strings.reshape(-1, 2))
        shares = np.bincount(codes, minlength=16) / len(codes)
        expected = tuple_probabilities(grammar, level)
        np.testing.assert_allclose(shares[grammar.tuple_codes(grammar.rules[level])], expected)
        assert expected.sum() == pytest.approx(1)


def test_too_many_strings_are_refused(monkeypatch):
    with pytest.raises(UserError, match=r"16 x 4\^31 strings: too many"):
        enumerate_strings(draw(16, 4, 2, 5))
    monkeypatch.setattr(semtube.rhm.sizes, "physical_memory", lambda: 2**20)
    with pytest.raises(UserError, match=r"all 65,536 strings"):
        enumerate_strings(draw(16, 16, 2, 2))
