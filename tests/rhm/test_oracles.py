"""Message passing against enumeration of all strings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semtube.errors import UserError
from semtube.rhm.counts import enumerate_strings, num_distinct_strings
from semtube.rhm.grammar import Grammar
from semtube.rhm.oracles import (
    bayes_score,
    masked_token_probabilities,
    next_token_probabilities,
    posterior,
    root_probabilities,
)

SIZES = [(3, 2, 2, 3), (4, 3, 2, 2), (3, 2, 3, 2), (5, 1, 2, 3), (3, 3, 2, 2)]


def draw(v, m, s, depth, seed=0) -> Grammar:
    return Grammar.draw(
        num_features=v, num_synonyms=m, branching=s, depth=depth,
        generator=np.random.default_rng(seed), degenerate="keep",
    )  # fmt: skip


def by_enumeration(strings, tokens_T, observed_T, v):
    """Posterior of every node from the strings that agree with a context, and their share."""
    agree = (strings[0][:, observed_T] == tokens_T[observed_T]).all(1)
    levels = [(level[agree][:, :, None] == np.arange(v)).mean(0) for level in strings]
    return levels, agree.mean()


@given(st.sampled_from(SIZES), st.integers(0, 50), st.data())
@settings(deadline=None, max_examples=60)
def test_posteriors_are_those_of_all_strings(sizes, seed, data):
    grammar = draw(*sizes, seed)
    strings = enumerate_strings(grammar)
    rows = data.draw(st.lists(st.integers(0, len(strings[0]) - 1), min_size=1, max_size=3))
    observed = np.array(
        [
            data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
            for n in [grammar.num_tokens] * len(rows)
        ]
    )
    tokens = strings[0][rows]
    found = posterior(grammar, tokens, observed)
    for row in range(len(rows)):
        levels, share = by_enumeration(strings, tokens[row], observed[row], grammar.num_features)
        assert found.log_evidence[row] == pytest.approx(np.log(share), abs=1e-9)
        for ours, exact in zip(found.levels, levels, strict=True):
            np.testing.assert_allclose(ours[row], exact, atol=1e-12)


def test_unobserved_tokens_are_not_read():
    grammar = draw(4, 3, 2, 2)
    tokens = grammar.sample(5, np.random.default_rng(0))[0]
    observed = np.array([True, False, True, False])
    other = np.where(observed, tokens, 3)
    for a, b in zip(
        posterior(grammar, tokens, observed).levels,
        posterior(grammar, other, observed).levels,
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_chunks_change_nothing(monkeypatch):
    grammar = draw(4, 3, 2, 2)
    tokens = grammar.sample(7, np.random.default_rng(0))[0]
    observed = np.random.default_rng(1).random(tokens.shape) < 0.5
    whole = posterior(grammar, tokens, observed)
    monkeypatch.setattr("semtube.rhm.oracles._CHUNK_NUMBERS", 1)
    parts = posterior(grammar, tokens, observed)
    for a, b in zip(whole.levels, parts.levels, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    np.testing.assert_allclose(whole.log_evidence, parts.log_evidence, rtol=1e-14)


@pytest.mark.parametrize("sizes", SIZES)
def test_bayes_scores_are_those_of_counting(sizes):
    grammar = draw(*sizes)
    strings = enumerate_strings(grammar)
    tokens, num = strings[0], len(strings[0])
    # Next token: counts of (prefix, token). The chain of entropies is that of the whole string.
    probabilities = next_token_probabilities(grammar, tokens)
    right = 0.0
    for place in range(grammar.num_tokens):
        prefixes, inverse = np.unique(tokens[:, :place], axis=0, return_inverse=True)
        table = np.zeros((len(prefixes), sizes[0]))
        np.add.at(table, (inverse.ravel(), tokens[:, place]), 1)
        right += table.max(1).sum() / num
    score = bayes_score(probabilities)
    assert score.accuracy == pytest.approx(right / grammar.num_tokens)
    assert score.entropy * grammar.num_tokens == pytest.approx(
        np.log(num_distinct_strings(grammar))
    )
    # Masked token: strings that agree everywhere else.
    masked = bayes_score(masked_token_probabilities(grammar, tokens))
    right, entropy = 0.0, 0.0
    for place in range(grammar.num_tokens):
        rest = np.delete(tokens, place, axis=1)
        _, counts = np.unique(rest, axis=0, return_counts=True)
        # Every completion is another string, all equally likely.
        right += len(counts) / num
        entropy += (counts * np.log(counts)).sum() / num
    assert masked.accuracy == pytest.approx(right / grammar.num_tokens)
    assert masked.entropy == pytest.approx(entropy / grammar.num_tokens)


def test_the_root_is_certain_when_all_is_seen_and_uniform_when_nothing_is():
    grammar = draw(4, 3, 2, 3)
    latents = grammar.sample(50, np.random.default_rng(0))
    everything = root_probabilities(grammar, latents[0], np.ones(8, dtype=bool))
    np.testing.assert_allclose(everything[np.arange(50), latents[-1][:, 0]], 1)
    assert bayes_score(everything).accuracy == pytest.approx(1)
    assert bayes_score(everything).entropy == pytest.approx(0, abs=1e-12)
    nothing = root_probabilities(grammar, latents[0], np.zeros(8, dtype=bool))
    np.testing.assert_allclose(nothing, 1 / 4)
    assert bayes_score(nothing).entropy == pytest.approx(np.log(4))


def test_a_sample_estimates_the_exact_score_within_its_error():
    grammar = draw(4, 3, 2, 2)
    exact = bayes_score(next_token_probabilities(grammar, enumerate_strings(grammar)[0]))
    sample = grammar.sample(4000, np.random.default_rng(1))[0]
    estimate = bayes_score(next_token_probabilities(grammar, sample))
    assert abs(estimate.accuracy - exact.accuracy) < 4 * estimate.accuracy_error
    assert abs(estimate.entropy - exact.entropy) < 4 * estimate.entropy_error
    assert 0 < estimate.entropy_error < 0.02


def test_long_strings_do_not_underflow():
    grammar = draw(16, 4, 2, 9)
    tokens = grammar.sample(2, np.random.default_rng(0))[0]
    found = posterior(grammar, tokens, np.ones(512, dtype=bool))
    # Every string has one derivation: a root and 511 rules.
    np.testing.assert_allclose(found.log_evidence, -np.log(16) - 511 * np.log(4))


def test_what_cannot_be_is_refused():
    grammar = draw(4, 2, 2, 2)
    pairs = {tuple(t) for t in grammar.rules[0].reshape(-1, 2).tolist()}
    bad = next((a, b) for a in range(4) for b in range(4) if (a, b) not in pairs)
    tokens = grammar.sample(2, np.random.default_rng(0))[0]
    tokens[1, 2:] = bad
    with pytest.raises(UserError, match=r"string 1 of the context: .* below node 1 of level 1"):
        posterior(grammar, tokens, np.ones(4, dtype=bool))
    posterior(grammar, tokens, np.array([True, True, True, False]))
    with pytest.raises(ValueError, match=r"tokens must be \(P, 4\)"):
        posterior(grammar, tokens[:, :2], np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="observed must be"):
        posterior(grammar, tokens, np.ones(3, dtype=bool))
