"""Probabilities and contexts against enumeration; faults planted by hand are found."""

import numpy as np
import pytest

from semtube.rhm.counts import enumerate_strings
from semtube.rhm.degeneracy import (
    context_vectors,
    degeneracies,
    separations,
    symbol_probabilities,
)
from semtube.rhm.grammar import Grammar


def draw(v, m, s, depth, seed=0) -> Grammar:
    return Grammar.draw(
        num_features=v, num_synonyms=m, branching=s, depth=depth,
        generator=np.random.default_rng(seed), degenerate="keep",
    )  # fmt: skip


@pytest.mark.parametrize("sizes", [(4, 2, 2, 3), (3, 2, 3, 2), (5, 3, 2, 2)])
def test_symbol_probabilities_are_those_of_all_strings(sizes):
    grammar = draw(*sizes)
    for level, strings in enumerate(enumerate_strings(grammar)):
        expected = np.bincount(strings.ravel(), minlength=sizes[0]) / strings.size
        np.testing.assert_allclose(symbol_probabilities(grammar.rules)[level], expected)


@pytest.mark.parametrize(
    ("sizes", "level"), [((4, 2, 2, 3), 0), ((4, 2, 2, 3), 1), ((3, 2, 3, 2), 0)]
)
def test_contexts_are_those_of_all_strings(sizes, level):
    grammar = draw(*sizes)
    s = grammar.branching
    strings = enumerate_strings(grammar)
    nodes = strings[level + 1].reshape(-1, s)
    symbols = strings[level].reshape(-1, s, s)
    contexts = context_vectors(grammar.rules, level)
    for a in range(grammar.num_features):
        for r in range(s):
            chosen = symbols[nodes[:, r] == a]
            for q in range(s):
                for t in range(s):
                    if q == r or not len(chosen):
                        assert np.isnan(contexts[a, r, q, t]).all()
                        continue
                    expected = np.bincount(chosen[:, q, t], minlength=sizes[0]) / len(chosen)
                    np.testing.assert_allclose(contexts[a, r, q, t], expected)


def test_typical_parents_are_one_unit_apart():
    # v large: the scale sqrt(2 (1 - f)) / m holds for pairs of parents on average.
    grammar = draw(64, 6, 2, 3)
    pairs = separations(grammar.rules, 0)[np.triu_indices(64, 1)]
    assert np.median(pairs) == pytest.approx(1, abs=0.15)


def test_an_absent_symbol_is_found():
    rules = np.array([[[0, 1], [1, 0]], [[1, 1], [0, 0]], [[3, 1], [1, 3]], [[3, 3], [0, 3]]])
    grammar = Grammar(4, 2, 2, 1, (rules,))
    faults = list(degeneracies(grammar.rules))
    assert [(f.kind, f.level, f.symbols) for f in faults] == [("absent", 0, (2,))]
    assert str(faults[0]) == "level 0: symbol 2 never occurs"


def test_parents_with_one_context_are_found():
    low = draw(6, 4, 2, 1, seed=2).rules[0]
    # Symbols 4 and 5 stand wherever the other does: no context tells them apart.
    top = np.array(
        [
            [[0, 4], [0, 5], [1, 2], [3, 0]], [[4, 1], [5, 1], [2, 2], [0, 1]],
            [[2, 4], [2, 5], [3, 3], [1, 0]], [[4, 3], [5, 3], [1, 1], [3, 2]],
            [[3, 4], [3, 5], [2, 0], [1, 3]], [[4, 2], [5, 2], [0, 0], [2, 1]],
        ]
    )  # fmt: skip
    grammar = Grammar(6, 4, 2, 2, (low, top))
    faults = list(degeneracies(grammar.rules))
    assert ("nearly equal", 1, (4, 5)) in [(f.kind, f.level, f.symbols) for f in faults]
    assert separations(grammar.rules, 0)[4, 5] == pytest.approx(0, abs=1e-12)
    assert "level 1: symbol 4 and 5 have nearly equal contexts" in map(str, faults)


def test_at_f_1_no_parents_can_be_told_apart():
    grammar = draw(3, 3, 2, 2)
    contexts = context_vectors(grammar.rules, 0)
    # All strings are equally likely: each context is uniform whatever the parent.
    np.testing.assert_allclose(contexts[:, 0, 1], 1 / 3)
    assert (separations(grammar.rules, 0) == 0).all()
