"""The grammar: laws of its strings, parsing back, swaps, sizes that cannot be."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import semtube.rhm.sizes
from semtube.errors import UserError
from semtube.rhm.degeneracy import degeneracies
from semtube.rhm.grammar import CHUNK, Grammar

SIZES = st.tuples(
    st.integers(2, 12), st.integers(1, 6), st.integers(2, 3), st.integers(1, 3), st.integers(0, 99)
).filter(lambda sizes: sizes[1] <= sizes[0] ** (sizes[2] - 1))


def draw(v=6, m=3, s=2, depth=3, seed=0, degenerate="keep") -> Grammar:
    return Grammar.draw(
        num_features=v,
        num_synonyms=m,
        branching=s,
        depth=depth,
        generator=np.random.default_rng(seed),
        degenerate=degenerate,
    )


def chance_limit(num_cells: int) -> float:
    """Above it lies a chi-square statistic once in 10 000 times by chance alone."""
    return stats.chi2.ppf(1 - 1e-4, num_cells - 1)


@given(SIZES)
@settings(deadline=None, max_examples=60)
def test_every_tuple_of_a_level_has_one_parent(sizes):
    v, m, s, depth, seed = sizes
    grammar = draw(v, m, s, depth, seed)
    assert len(grammar.rules) == depth
    for rules in grammar.rules:
        assert rules.shape == (v, m, s)
        assert len({tuple(t) for t in rules.reshape(-1, s).tolist()}) == v * m
        assert rules.max() < v


@given(SIZES)
@settings(deadline=None, max_examples=60)
def test_parsing_gives_back_all_latents(sizes):
    grammar = draw(*sizes)
    latents = grammar.sample(20, np.random.default_rng(1))
    assert [x.shape for x in latents] == [
        (20, grammar.branching ** (grammar.depth - level)) for level in range(grammar.depth + 1)
    ]
    for parsed, true in zip(grammar.parse(latents[0]), latents, strict=True):
        np.testing.assert_array_equal(parsed, true)


def test_a_hand_made_grammar_gives_its_own_strings_alone():
    rules = (
        np.array([[[0, 1], [2, 0]], [[1, 1], [1, 2]], [[2, 2], [0, 0]]]),
        np.array([[[0, 1], [1, 0]], [[2, 2], [1, 1]], [[0, 0], [2, 0]]]),
    )
    grammar = Grammar(3, 2, 2, 2, rules)
    expected = set()
    for root in range(3):
        for left, right in rules[1][root].tolist():
            for a in rules[0][left].tolist():
                for b in rules[0][right].tolist():
                    expected.add((root, left, right, *a, *b))
    tokens, middle, root = grammar.sample(3000, np.random.default_rng(0))
    found = {tuple(row) for row in np.concatenate([root, middle, tokens], axis=1).tolist()}
    assert found == expected
    assert grammar.f == 2 / 3
    assert grammar.num_tokens == 4


def test_roots_and_rules_are_uniform_and_independent():
    grammar = draw(v=5, m=3, s=2, depth=2)
    num_strings = 60_000
    tokens, middle, root = grammar.sample(num_strings, np.random.default_rng(3))
    counts = np.bincount(root[:, 0], minlength=5)
    assert stats.chisquare(counts).statistic < chance_limit(5)
    # Which rule the root, its left child and its right child used, all 5 x 27 cases.
    rule = np.zeros(num_strings, dtype=int)
    for above, below, level in (
        (root[:, 0], middle, 1),
        (middle[:, 0], tokens[:, :2], 0),
        (middle[:, 1], tokens[:, 2:], 0),
    ):
        matches = (grammar.rules[level][above] == below[:, None]).all(-1)
        assert (matches.sum(1) == 1).all()
        rule = 3 * rule + matches.argmax(1)
    cases = np.bincount(27 * root[:, 0].astype(int) + rule, minlength=135)
    assert stats.chisquare(cases).statistic < chance_limit(135)


def test_rules_are_drawn_uniformly_from_all_tuples():
    generator = np.random.default_rng(4)
    counts = np.zeros((4, 16))
    num_draws = 1500
    for _ in range(num_draws):
        grammar = Grammar.draw(
            num_features=4, num_synonyms=2, branching=2, depth=1,
            generator=generator, degenerate="keep",
        )  # fmt: skip
        codes = grammar.tuple_codes(grammar.rules[0])
        for parent in range(4):
            counts[parent, codes[parent]] += 1
    # Each parent has each of 16 tuples with probability 2 / 16.
    deviations = (counts - num_draws / 8) / np.sqrt(num_draws / 8 * 7 / 8)
    assert np.abs(deviations).max() < stats.norm.ppf(1 - 1e-4 / 128)


def test_a_generator_fixes_everything_and_chunks_do_not_repeat():
    first, second = draw(seed=7), draw(seed=7)
    for a, b in zip(first.rules, second.rules, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first.rules, draw(seed=8).rules, strict=True))
    strings = first.sample(2 * CHUNK + 5, np.random.default_rng(1))[0]
    again = second.sample(2 * CHUNK + 5, np.random.default_rng(1))[0]
    np.testing.assert_array_equal(strings, again)
    assert (strings[:CHUNK] != strings[CHUNK : 2 * CHUNK]).any(1).mean() > 0.9
    first.parse(strings)


def test_wide_alphabets_take_two_bytes():
    grammar = draw(v=300, m=4, s=2, depth=2)
    latents = grammar.sample(50, np.random.default_rng(0))
    assert all(level.dtype == np.uint16 for level in latents)
    assert latents[0].max() > 255
    np.testing.assert_array_equal(grammar.parse(latents[0])[2], latents[2])


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_synonym_swap_keeps_latents_from_its_level_up_and_changes_every_tuple_below(level):
    grammar = draw(v=8, m=4, s=2, depth=3)
    latents = grammar.sample(4000, np.random.default_rng(1))
    before = [x.copy() for x in latents]
    swapped = grammar.synonym_swap(latents, level, np.random.default_rng(2))
    for parsed, stored in zip(grammar.parse(swapped[0]), swapped, strict=True):
        np.testing.assert_array_equal(parsed, stored)
    for untouched, true in zip(before, latents, strict=True):
        np.testing.assert_array_equal(untouched, true)
    for above in range(level, 4):
        np.testing.assert_array_equal(swapped[above], latents[above])
    old = latents[level - 1].reshape(4000, -1, 2)
    new = swapped[level - 1].reshape(4000, -1, 2)
    assert (old != new).any(-1).all()
    # Each of the 3 other rules equally often.
    rules = grammar.rules[level - 1][latents[level]]
    places = [(rules == x[:, :, None]).all(-1).argmax(-1) for x in (old, new)]
    steps = np.bincount(((places[1] - places[0]) % 4).ravel(), minlength=4)
    assert steps[0] == 0
    assert stats.chisquare(steps[1:]).statistic < chance_limit(3)


def test_a_generic_swap_is_unrelated():
    grammar = draw(v=8, m=4, s=2, depth=2)
    latents = grammar.sample(20_000, np.random.default_rng(1))
    other = grammar.generic_swap(latents, np.random.default_rng(2))
    grammar.parse(other[0])
    same = (other[2] == latents[2]).mean()
    assert abs(same - 1 / 8) < 4 * np.sqrt(7 / 64 / 20_000)


@pytest.mark.parametrize(("level", "m"), [(0, 3), (4, 3), (1, 1)])
def test_swaps_that_cannot_be_are_refused(level, m):
    grammar = draw(m=m)
    latents = grammar.sample(3, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"level must be 1 to 3|num_synonyms is 1"):
        grammar.synonym_swap(latents, level, np.random.default_rng(0))


def test_parsing_names_the_first_bad_tuple():
    grammar = draw(v=6, m=2, s=2, depth=3)
    tokens = grammar.sample(5, np.random.default_rng(0))[0].astype(int)
    good = tokens.copy()
    pairs = {tuple(t) for t in grammar.rules[0].reshape(-1, 2).tolist()}
    bad = next((a, b) for a in range(6) for b in range(6) if (a, b) not in pairs)
    tokens[3, 4:6] = bad
    with pytest.raises(UserError, match=r"string 3, level 0, tuple 2: \(\d, \d\) is not"):
        grammar.parse(tokens)
    good[2, 7] = 6
    with pytest.raises(UserError, match="string 2, token 7 is 6: tokens are 0 to 5"):
        grammar.parse(good)
    with pytest.raises(ValueError, match=r"must be \(P, 8\), got \(5, 4\)"):
        grammar.parse(good[:, :4])


def test_a_tuple_that_is_wrong_higher_up_is_named_there():
    grammar = draw(v=6, m=2, s=2, depth=2, seed=1)
    pairs = {tuple(t) for t in grammar.rules[1].reshape(-1, 2).tolist()}
    left, right = next((a, b) for a in range(6) for b in range(6) if (a, b) not in pairs)
    tokens = np.concatenate([grammar.rules[0][left, 0], grammar.rules[0][right, 1]])[None]
    with pytest.raises(UserError, match=rf"level 1, tuple 0: \({left}, {right}\) is not"):
        grammar.parse(tokens)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((4, 5, 2, 2), "num_synonyms is 5: .* at most 4 tuples"),
        ((1, 1, 2, 2), "num_features is 1: at least 2"),
        ((4, 0, 2, 2), "num_synonyms is 0: at least 1"),
        ((4, 2, 1, 2), "branching is 1: at least 2"),
        ((4, 2, 2, 0), "depth is 0: at least 1"),
        ((1000, 2, 9, 2), r"1000\^9 tuples"),
        ((4, 2, 2, 4000), r"2\^4000 tokens"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(UserError, match=message):
        draw(*sizes)


def test_strings_that_do_not_fit_are_refused_with_the_number(monkeypatch):
    monkeypatch.setattr(semtube.rhm.sizes, "physical_memory", lambda: 2**30)
    grammar = draw(v=6, m=3, s=2, depth=5)
    grammar.sample(1000, np.random.default_rng(0))
    with pytest.raises(UserError, match=r"100,000,000 strings .* 11\.7 GiB .* has 1\.0 GiB"):
        grammar.sample(10**8, np.random.default_rng(0))
    with pytest.raises(UserError, match="num_strings is 0"):
        grammar.sample(0, np.random.default_rng(0))


def test_rules_given_by_hand_are_checked():
    rules = draw(v=4, m=2, s=2, depth=1).rules[0]
    with pytest.raises(ValueError, match="must be 1 arrays"):
        Grammar(4, 2, 2, 1, (rules, rules))
    twice = rules.copy()
    twice[1, 0] = twice[0, 0]
    with pytest.raises(ValueError, match="twice"):
        Grammar(4, 2, 2, 1, (twice,))
    with pytest.raises(ValueError, match=r"outside 0..3"):
        Grammar(4, 2, 2, 1, (rules.astype(int) + 1,))


def test_redrawing_leaves_no_degenerate_grammar_and_says_so_when_it_cannot():
    grammar = draw(v=6, m=3, s=2, depth=2, seed=5, degenerate="redraw")
    assert list(degeneracies(grammar.rules)) == []
    with pytest.raises(UserError, match=r"f = 1.*nothing can be learned"):
        draw(v=4, m=4, s=2, depth=2, degenerate="redraw")
    # One rule each: a symbol is missing from a level unless the tuples happen to hold them all.
    with pytest.raises(UserError, match=r"1000 grammars .* all had an absent symbol"):
        draw(v=30, m=1, s=2, depth=3, degenerate="redraw")


@pytest.mark.slow
def test_five_million_tokens_a_second():
    grammar = draw(v=16, m=4, s=2, depth=5)
    grammar.sample(CHUNK, np.random.default_rng(0))
    begin = time.process_time()
    grammar.sample(10**6, np.random.default_rng(0))
    assert 32e6 / (time.process_time() - begin) > 5e6
