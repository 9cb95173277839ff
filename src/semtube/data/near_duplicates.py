"""Rows that are nearly the same: Jaccard similarity of their character 5-grams.

A row's text is what its turns say, without the system's; letter case, white space and Unicode's
compatibility forms do not count. Its shingles are the set of all stretches of five characters, and

    similarity(A, B) = |A and B| / |A or B|

Pairs of at least the threshold t are found exactly, without comparing all pairs. Order the
shingles of every set alike, rarest first, and call the first |A| - ceil(t |A|) + 1 of a set its
prefix A'. Sets whose similarity reaches t share a shingle of both prefixes. Moreover, behind the
prefix that ends earlier in the order at most the rest of its set is shared:

    |A and B| <= min(|A|, |B|, |A' and B'| + max(|A - A'|, |B - B'|))

while a similarity of t needs |A and B| >= t / (1 + t) (|A| + |B|). What passes is compared in full.

Source: Broder 1997 (shingles and resemblance); Chaudhuri, Ganti and Kaushik 2006 (prefix filter);
Xiao, Wang, Lin and Yu 2008 (bound on the overlap).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from semtube.data.examples import Example

#: A 0/1 csr_array of rows and shingles; scipy tells type checkers too little of it.
SparseRows = Any
THRESHOLD = 0.8
_SIZE = 5
#: Rows looked up, and pairs confirmed, at a time; both bound the memory only.
_ROWS = 256
_PAIRS = 20_000
#: Rounding must never cost a pair: 0.56 * 25 is a little more than 14.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class NearPair:
    """A row, the row of the other split most like it, and how alike they are.

    Args:
        row: index in the first list.
        other: index in the second one; the first of several equally alike.
        similarity: at least the threshold; 1 for the same shingles.
    """

    row: int
    other: int
    similarity: float


@dataclass(frozen=True)
class NearOverlap:
    """How many rows of one split have a near-duplicate in another."""

    name: str
    other: str
    num_rows: int
    near_row: int
    threshold: float

    def sentence(self) -> str:
        """One line for the log."""
        return (
            f"{self.num_rows:,} {self.name} rows: {self.near_row:,} with a near-duplicate in "
            f"{self.other} (Jaccard similarity of character 5-grams at least {self.threshold:g})"
        )


def count_near(
    name: str,
    examples: Sequence[Example],
    other: str,
    others: Sequence[Example],
    threshold: float = THRESHOLD,
) -> NearOverlap:
    """Count the rows of `examples` that have a near-duplicate in `others`."""
    found = near_overlap(examples, others, threshold)
    return NearOverlap(name, other, len(examples), len(found), threshold)


def near_overlap(
    examples: Sequence[Example], others: Sequence[Example], threshold: float = THRESHOLD
) -> list[NearPair]:
    """For every row of `examples` that has near-duplicates in `others`, the nearest of them.

    Args:
        threshold: the least similarity, in (0, 1].

    Raises:
        ValueError: a threshold out of its range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    if not examples or not others:
        return []
    sets = _shingle_sets([row_text(example) for example in (*examples, *others)])
    prefixes = _prefixes(sets, threshold)
    split = len(examples)
    left, right = sets[:split], sets[split:]
    left_prefix, right_prefix = prefixes[:split], prefixes[split:].T.tocsr()
    sizes, prefix_sizes = np.diff(sets.indptr), np.diff(prefixes.indptr)
    nearest: dict[int, NearPair] = {}
    for start in range(0, split, _ROWS):
        shared = (left_prefix[start : start + _ROWS] @ right_prefix).tocoo()
        rows, columns = shared.row + start, shared.col
        both = sizes[rows], sizes[split + columns]
        rests = both[0] - prefix_sizes[rows], both[1] - prefix_sizes[split + columns]
        at_most = np.minimum(np.minimum(*both), shared.data + np.maximum(*rests))
        possible = at_most * (1 + threshold) >= threshold * (both[0] + both[1]) - _ROUNDING
        rows, columns = rows[possible], columns[possible]
        for at in range(0, len(rows), _PAIRS):
            some = slice(at, at + _PAIRS)
            _keep_nearest(nearest, left, right, rows[some], columns[some], threshold)
    return [nearest[row] for row in sorted(nearest)]


def row_text(example: Example) -> str:
    """What the turns say, the system's left out, in the form that is compared."""
    turns = [message.content for message in example.messages if message.role != "system"]
    text = unicodedata.normalize("NFKC", "\n".join(turns)).casefold()
    return " ".join(text.split())


def _shingle_sets(texts: Sequence[str]) -> SparseRows:
    """0/1 matrix of texts and shingles; columns in order of rarity, sorted within a row.

    A text of fewer than five characters is filled up with zeros, so it has one shingle.
    """
    filled = [text.ljust(_SIZE, "\0") for text in texts]
    encoded = "".join(filled).encode("utf-32-le", "surrogatepass")
    codes = np.frombuffer(encoded, dtype=np.uint32).astype(np.int64)
    # A code point has 21 bits, so three fit one integer; ranks of two overlapping threes fit too.
    threes = (codes[:-2] << 42) | (codes[1:-1] << 21) | codes[2:]
    ranks = np.unique(threes, return_inverse=True)[1]
    fives = (ranks[:-2] << 32) | ranks[2:]
    lengths = np.array([len(text) for text in filled])
    ends = np.cumsum(lengths)
    starts_inside = np.ones(len(codes), dtype=bool)
    for back in range(1, _SIZE):
        starts_inside[ends - back] = False
    inside = starts_inside[: len(fives)]
    shingles = np.unique(fives[inside], return_inverse=True)[1]
    indptr = np.concatenate([[0], np.cumsum(lengths - _SIZE + 1)])
    ones = np.ones(len(shingles), dtype=np.int32)
    sets: SparseRows = csr_array(
        (ones, shingles, indptr), shape=(len(texts), int(shingles.max()) + 1)
    )
    sets.sum_duplicates()
    frequency = np.bincount(sets.indices, minlength=sets.shape[1])
    rank = np.empty(sets.shape[1], dtype=sets.indices.dtype)
    rank[np.argsort(frequency, kind="stable")] = np.arange(sets.shape[1])
    ordered: SparseRows = csr_array(
        (np.ones_like(sets.data), rank[sets.indices], sets.indptr), shape=sets.shape
    )
    ordered.sort_indices()
    return ordered


def _prefixes(sets: SparseRows, threshold: float) -> SparseRows:
    """The first |A| - ceil(t |A|) + 1 shingles of every row."""
    sizes = np.diff(sets.indptr)
    lengths = sizes - np.ceil(threshold * sizes - _ROUNDING).astype(sizes.dtype) + 1
    place = np.arange(sets.nnz) - np.repeat(sets.indptr[:-1], sizes)
    kept = place < np.repeat(lengths, sizes)
    indptr = np.concatenate([[0], np.cumsum(np.minimum(lengths, sizes))])
    return csr_array((sets.data[kept], sets.indices[kept], indptr), shape=sets.shape)


def _keep_nearest(
    nearest: dict[int, NearPair],
    left: SparseRows,
    right: SparseRows,
    rows: np.ndarray,
    columns: np.ndarray,
    threshold: float,
) -> None:
    """Confirm candidate pairs, and note those nearer than what a row has."""
    both = left[rows].multiply(right[columns]).sum(axis=1)
    either = np.diff(left.indptr)[rows] + np.diff(right.indptr)[columns] - both
    similarity = both / either
    for at in np.flatnonzero(similarity >= threshold):
        pair = NearPair(int(rows[at]), int(columns[at]), float(similarity[at]))
        known = nearest.get(pair.row)
        if known is None or (pair.similarity, -pair.other) > (known.similarity, -known.other):
            nearest[pair.row] = pair
