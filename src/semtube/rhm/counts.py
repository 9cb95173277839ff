"""How many strings a grammar has, how likely they and their parts are, and all of them.

Shapes: v symbols, m rules for each, s children, L levels; S strings, N nodes of a level.
"""

from __future__ import annotations

import numpy as np

from semtube.errors import UserError
from semtube.rhm.degeneracy import symbol_probabilities
from semtube.rhm.grammar import Grammar
from semtube.rhm.sizes import check_fits


def num_rules_used(branching: int, depth: int) -> int:
    """(s^L - 1) / (s - 1): rules that one string uses, one for each node above the tokens."""
    return (branching**depth - 1) // (branching - 1)


def num_distinct_strings(grammar: Grammar) -> int:
    """v m^((s^L - 1) / (s - 1)): all are equally likely, none is derived twice.

    Source: arXiv 2307.02129, section 2.
    """
    exponent = num_rules_used(grammar.branching, grammar.depth)
    return grammar.num_features * grammar.num_synonyms**exponent


def string_log_probability(grammar: Grammar) -> float:
    """Natural logarithm of the probability of every string: that of one over their number."""
    exponent = num_rules_used(grammar.branching, grammar.depth)
    return -float(np.log(grammar.num_features) + exponent * np.log(grammar.num_synonyms))


def tuple_probabilities(grammar: Grammar, level: int) -> np.ndarray:
    """(v, m) probability of each tuple of a level, P[parent] / m, about 1 / (v m).

    Averaged over the level's positions, as the probability of its parent is.

    Args:
        level: 0..L-1, as in `Grammar.rules`.
    """
    above = symbol_probabilities(grammar.rules)[level + 1]
    return np.repeat(above[:, None] / grammar.num_synonyms, grammar.num_synonyms, axis=1)


def enumerate_strings(grammar: Grammar) -> list[np.ndarray]:
    """Every string once, with its latents.

    Returns:
        L + 1 arrays, level 0 first: (S, s^(L-l)) with S of `num_distinct_strings`.

    Raises:
        UserError: there are too many to hold.
    """
    exponent = num_rules_used(grammar.branching, grammar.depth)
    if np.log2(grammar.num_features) + exponent * np.log2(grammar.num_synonyms) > 60:
        raise UserError(
            f"this grammar has {grammar.num_features} x {grammar.num_synonyms}^{exponent} strings: "
            "too many to enumerate"
        )
    count = num_distinct_strings(grammar)
    num_nodes = grammar.num_tokens + exponent
    # Symbols, and beside them the rule numbers of one level at a time in 8 bytes.
    check_fits(
        count * num_nodes * np.dtype(grammar.symbol_type).itemsize + 8 * count * grammar.num_tokens,
        f"all {count:,} strings of {grammar.num_tokens} tokens",
    )
    levels = [np.arange(grammar.num_features, dtype=grammar.symbol_type)[:, None]]
    for level in range(grammar.depth - 1, -1, -1):
        above = levels[0]
        num_nodes = above.shape[1]
        choices = grammar.num_synonyms**num_nodes
        # Node n uses digit n of the choice's number in base m.
        digits = np.arange(choices)[:, None] // grammar.num_synonyms ** np.arange(num_nodes)
        rules_CN = digits % grammar.num_synonyms
        levels = [np.repeat(symbols, choices, axis=0) for symbols in levels]
        rules_SN = np.tile(rules_CN, (len(above), 1))
        below = grammar.rules[level][levels[0], rules_SN]
        levels.insert(0, below.reshape(len(below), -1))
    return levels
