"""Iterative Latent Clustering: group tuples that predict alike, level by level.

Shapes: P strings, N = s^(L-l) nodes of level l, G = N / s^2 groups of s sibling blocks of s
symbols; r and q positions of two siblings, t of a symbol in its block; K occurring tuples,
F features, v clusters.

Source: arXiv 2605.27734, Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from semtube.errors import UserError
from semtube.rhm.grammar import CHUNK
from semtube.rhm.sizes import check_fits, check_strings_fit, symbol_type, tuple_codes

Target = Literal["latent", "token", "root"]
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True)
class LatentClustering:
    """The learner. The three targets differ in what a tuple predicts and in nothing else.

    Args:
        target: what stands in for a cousin symbol: "latent", the decoded symbol itself; "token",
            the first visible leaf below it; "root", the label of the string (supervised).
        positions: "all", every tuple counts, with features kept apart by its position among its
            siblings; "one", only the first tuple of a string.
        contexts: "all" symbols of the sibling blocks; "one", the first of the next block.
        num_restarts: of k-means++.

    "one", "one" is the algorithm as printed; "one", "all" looks like the paper's Figure 3; "all",
    "all" needs the fewest strings.
    """

    target: Target
    positions: Literal["one", "all"] = "all"
    contexts: Literal["one", "all"] = "all"
    num_restarts: int = 6

    def recover(
        self,
        tokens: np.ndarray,
        *,
        num_features: int,
        branching: int,
        generator: np.random.Generator,
        root: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Latents of levels 1..L-1, up to names.

        At every level, from the tokens up: a tuple's features are the frequencies of its targets
        less those of all tuples, phi = P[Z = z | tuple] - P[Z = z]; k-means on them, weighted by
        how often a tuple occurs, gives v groups, the symbols of the next level. A tuple without
        features gets a random group.

        Args:
            tokens: (P, s^L), L >= 2, whole numbers below num_features.
            num_features: v, symbols and clusters.
            branching: s.
            root: (P,) or (P, 1) labels, for target "root" only.

        Returns:
            L arrays, level 0 first, as `Grammar.sample` without the root.

        Raises:
            UserError: fewer strings than symbols, fewer occurring tuples than clusters, or sizes
                that do not fit in memory.
            ValueError: tokens that are no strings of depth 2 or more; a root where none is used.
        """
        depth = _depth(tokens, branching)
        if (root is None) == (self.target == "root"):
            raise ValueError(
                f"target {self.target!r} {'takes no' if root is not None else 'needs'} root"
            )
        if len(tokens) < num_features:
            raise UserError(
                f"num_strings is {len(tokens)}: at least num_features, {num_features}, are needed"
            )
        check_strings_fit(len(tokens), num_features, branching, depth)
        levels = [tokens.astype(symbol_type(num_features), copy=False)]
        for level in range(depth - 1):
            shape_PGQT = (len(tokens), -1, branching, branching)
            symbols_PGQT = levels[-1].reshape(shape_PGQT)
            if self.target == "latent":
                targets_PGQT = symbols_PGQT
            elif self.target == "token":
                targets_PGQT = levels[0][:, :: branching**level].reshape(shape_PGQT)
            else:
                labels = np.asarray(root).reshape(-1, 1, 1, 1)
                targets_PGQT = np.broadcast_to(labels, symbols_PGQT.shape)
            labels = self._label_tuples(symbols_PGQT, targets_PGQT, num_features, level, generator)
            levels.append(_relabel(symbols_PGQT, labels, num_features))
        return levels

    def _label_tuples(
        self,
        symbols_PGQT: np.ndarray,
        targets_PGQT: np.ndarray,
        num_features: int,
        level: int,
        generator: np.random.Generator,
    ) -> np.ndarray:
        """(v^s,) cluster of every tuple code, random for those that have no features."""
        branching = symbols_PGQT.shape[-1]
        counts_BKV, support_K = self._count(symbols_PGQT, targets_PGQT, num_features)
        if len(support_K) < num_features:
            raise UserError(
                f"only {len(support_K)} tuples of level {level} occur and {num_features} clusters "
                "are asked for: use more strings, or more num_synonyms"
            )
        features_KF, weights_K = tuple_features(counts_BKV)
        labels = generator.integers(
            num_features, size=num_features**branching, dtype=symbol_type(num_features)
        )
        labels[support_K] = self._cluster(features_KF, weights_K, num_features, generator)
        return labels

    def _blocks(self, branching: int) -> Iterator[tuple[int, int, int]]:
        """The (r, q, t) that are counted."""
        for r in range(branching if self.positions == "all" else 1):
            if self.contexts == "one":
                yield r, (r + 1) % branching, 0
                continue
            for q in range(branching):
                if q != r:
                    yield from ((r, q, t) for t in range(branching))

    def _count(
        self, symbols_PGQT: np.ndarray, targets_PGQT: np.ndarray, num_features: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """How often each tuple goes with each target: (B, K, v), and the (K,) occurring codes.

        Blocks B are those of `_blocks`.
        """
        branching = symbols_PGQT.shape[-1]
        blocks = list(self._blocks(branching))
        if self.positions == "one":
            symbols_PGQT, targets_PGQT = symbols_PGQT[:, :1], targets_PGQT[:, :1]
        num_positions = 1 + max(r for r, _, _ in blocks)
        occurs = np.zeros(num_features**branching, dtype=bool)
        for chunk in _chunks(symbols_PGQT):
            occurs[tuple_codes(chunk[:, :, :num_positions], num_features)] = True
        support_K = np.flatnonzero(occurs)
        first = np.zeros(len(occurs), dtype=np.intp)
        first[support_K] = np.arange(len(support_K)) * num_features
        shape = (len(blocks), len(support_K), num_features)
        # Counts, features and k-means' own: six arrays of 8 bytes a number.
        check_fits(6 * 8 * math.prod(shape), f"the features of {len(support_K):,} tuples")
        counts = np.zeros((shape[0], shape[1] * shape[2]), dtype=np.int64)
        chunks = zip(_chunks(symbols_PGQT), _chunks(targets_PGQT), strict=True)
        for symbols, targets in chunks:
            rows_PGR = first[tuple_codes(symbols[:, :, :num_positions], num_features)]
            for block, (r, q, t) in enumerate(blocks):
                pairs = rows_PGR[:, :, r] + targets[:, :, q, t]
                counts[block] += np.bincount(pairs.ravel(), minlength=counts.shape[1])
        return counts.reshape(shape), support_K

    def _cluster(
        self,
        features_KF: np.ndarray,
        weights_K: np.ndarray,
        num_clusters: int,
        generator: np.random.Generator,
    ) -> np.ndarray:
        """(K,) group of each tuple. Tuples with equal features are one point."""
        from sklearn.cluster import KMeans

        num_points = len(np.unique(features_KF, axis=0))
        kmeans = KMeans(
            n_clusters=min(num_clusters, num_points),
            n_init=self.num_restarts,
            random_state=int(generator.integers(2**31)),
        )
        return kmeans.fit(features_KF, sample_weight=weights_K).labels_


def tuple_features(counts_BKV: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centred conditional frequencies (K, B v), and the (K,) number of times a tuple was counted.

    phi[k, b, z] = n[b, k, z] / n[b, k] - n[b, z] / n[b]; 0 where a tuple never stood in block b.
    """
    totals_BK1 = counts_BKV.sum(2, keepdims=True)
    marginal_B1V = counts_BKV.sum(1, keepdims=True) / counts_BKV.sum((1, 2), keepdims=True)
    frequencies = counts_BKV / np.maximum(totals_BK1, 1)
    centred_BKV = np.where(totals_BK1 > 0, frequencies - marginal_B1V, 0)
    features_KF = centred_BKV.transpose(1, 0, 2).reshape(counts_BKV.shape[1], -1)
    return features_KF, totals_BK1.sum((0, 2)).astype(float)


def _relabel(symbols_PGQT: np.ndarray, labels: np.ndarray, num_features: int) -> np.ndarray:
    """(P, N / s) label of every tuple, a piece at a time: codes are wider than symbols."""
    num_strings, num_groups, branching, _ = symbols_PGQT.shape
    out = np.empty((num_strings, num_groups, branching), dtype=labels.dtype)
    for symbols, target in zip(_chunks(symbols_PGQT), _chunks(out), strict=True):
        target[:] = labels[tuple_codes(symbols, num_features)]
    return out.reshape(num_strings, -1)


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(array), CHUNK):
        yield array[start : start + CHUNK]


def _depth(tokens: np.ndarray, branching: int) -> int:
    depth, width = 0, 1
    while tokens.ndim == 2 and width < tokens.shape[1]:
        depth, width = depth + 1, width * branching
    if depth < 2 or width != tokens.shape[1]:
        raise ValueError(
            f"tokens must be (P, {branching}^L) with L of 2 or more, got {tokens.shape}"
        )
    return depth
