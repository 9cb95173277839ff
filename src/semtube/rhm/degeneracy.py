"""What makes one drawn grammar harder than its sizes say: absent symbols, nearly equal parents.

Shapes: v symbols, m rules for each, s children, L levels; r and q two positions among siblings,
t a child's position.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from semtube.rhm.sizes import check_fits

#: Two parents whose contexts are closer than this share of the typical distance are nearly equal.
#: Telling them apart takes about 1 / 0.25^2 = 16 times the strings of a typical pair.
NEARLY_EQUAL = 0.25


@dataclass(frozen=True)
class Degeneracy:
    """One fault of a grammar.

    Attributes:
        kind: "absent", a symbol that no string holds at its level; "nearly equal", two symbols
            whose tuples can hardly be told apart by their contexts.
        level: of the symbols; 0 = tokens.
        symbols: one or two of them.
    """

    kind: Literal["absent", "nearly equal"]
    level: int
    symbols: tuple[int, ...]

    def __str__(self) -> str:
        names = " and ".join(str(symbol) for symbol in self.symbols)
        what = {"absent": "never occurs", "nearly equal": "have nearly equal contexts"}[self.kind]
        return f"level {self.level}: symbol {names} {what}"


def symbol_probabilities(rules: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Exact probability of every symbol at every level, averaged over the level's positions.

    p_L = 1/v, and p_l(x) = sum_a p_{l+1}(a) #{(j, r): rule j of a has x at r} / (m s).

    Args:
        rules: rules[l] (v, m, s), see `semtube.rhm.grammar.Grammar`.

    Returns:
        L + 1 arrays (v,), level 0 first; each sums to 1.
    """
    num_features, num_synonyms, branching = rules[0].shape
    levels = [np.full(num_features, 1 / num_features)]
    for rules_VMS in reversed(rules):
        weights = np.repeat(levels[0], num_synonyms * branching) / (num_synonyms * branching)
        levels.insert(0, np.bincount(rules_VMS.ravel(), weights, minlength=num_features))
    return levels


def child_probabilities(rules_VMS: np.ndarray) -> np.ndarray:
    """(v, s, v) P[child at t is z | parent a], as [a, t, z]."""
    num_features, num_synonyms, branching = rules_VMS.shape
    out = np.zeros((num_features, branching, num_features))
    parents = np.arange(num_features)[:, None, None]
    np.add.at(out, (parents, np.arange(branching), rules_VMS), 1 / num_synonyms)
    return out


def context_vectors(rules: Sequence[np.ndarray], level: int) -> np.ndarray:
    """Exact mean context of every parent: Phi[a, r, q, t, z].

    P[child t of sibling q is z | the node at position r among its siblings is a], for nodes of
    level + 1 and symbols z of `level`, averaged over the groups of siblings of that level. These
    are the vectors that clustering has to tell apart, for every choice of context.

    Args:
        rules: rules[l] (v, m, s).
        level: of the context's symbols, 0..L-2.

    Returns:
        (v, s, s, s, v); NaN where a symbol never stands at position r, and where q = r.

    Source: arXiv 2605.27734, section 3 (Lemma 1).
    """
    above = symbol_probabilities(rules)[level + 2]
    siblings_VMS = rules[level + 1]
    num_features, num_synonyms, branching = siblings_VMS.shape
    children_ATZ = child_probabilities(rules[level])
    # Joint law of (node at r, child t of sibling q), grandparents weighted by their probability.
    shape = (num_features, branching, branching, branching, num_features)
    check_fits(4 * 8 * math.prod(shape), f"the contexts of {num_features:,} symbols")
    joint = np.zeros(shape)
    mass = np.zeros((num_features, branching))
    for r in range(branching):
        weights = np.repeat(above / num_synonyms, num_synonyms)
        mass[:, r] = np.bincount(siblings_VMS[:, :, r].ravel(), weights, minlength=num_features)
        for q in range(branching):
            if q == r:
                joint[:, r, q] = np.nan
                continue
            context = children_ATZ[siblings_VMS[:, :, q].ravel()] * weights[:, None, None]
            np.add.at(joint[:, r, q], siblings_VMS[:, :, r].ravel(), context)
    with np.errstate(invalid="ignore"):
        return joint / mass[:, :, None, None, None]


def separations(rules: Sequence[np.ndarray], level: int) -> np.ndarray:
    """(v, v) distances between the parents' contexts, in units of the typical distance.

    sqrt(mean over (r, q, t) of ||Phi_a - Phi_b||^2) / (sqrt(2 (1 - f)) / m). NaN where the two
    symbols share no position. At f = 1 there is no typical distance: 0 everywhere.

    Source: the scale is arXiv 2605.27734, Assumption 1; the factor sqrt(2) is ours, so that
    typical pairs have about 1.
    """
    num_features, num_synonyms, branching = rules[0].shape
    contexts = context_vectors(rules, level).reshape(num_features, -1, num_features)
    squared = np.full((num_features, num_features), np.nan)
    for a in range(num_features):
        distances_VK = ((contexts - contexts[a]) ** 2).sum(-1)
        shared = ~np.isnan(distances_VK)
        counts = shared.sum(1)
        sums = np.where(shared, distances_VK, 0).sum(1)
        squared[a] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    fraction = num_synonyms / num_features ** (branching - 1)
    if fraction == 1:
        return np.zeros_like(squared)
    return np.sqrt(squared) / (np.sqrt(2 * (1 - fraction)) / num_synonyms)


def degeneracies(rules: Sequence[np.ndarray]) -> Iterator[Degeneracy]:
    """Every absent symbol below the root, then every pair of nearly equal parents.

    Parents of levels 1..L-1 are compared, those that contexts can teach.
    """
    probabilities = symbol_probabilities(rules)
    for level, present in enumerate(probabilities[:-1]):
        for symbol in np.flatnonzero(present == 0).tolist():
            yield Degeneracy("absent", level, (symbol,))
    for level in range(len(rules) - 1):
        close = separations(rules, level) < NEARLY_EQUAL
        for pair in np.argwhere(np.triu(close, 1)).tolist():
            yield Degeneracy("nearly equal", level + 1, tuple(pair))
