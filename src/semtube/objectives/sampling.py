"""Random triplets s < r < t and spans [start, stop) over the content tokens of each document.

Positions are first drawn as ranks (the j-th content token of a document), then turned into flat
indices of the batch. Everything is vectorised over documents and draws; nothing is read back from
the device.

Shape letters: B rows, T tokens, N documents, K draws per document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from semtube.objectives.random_keys import draw_below, fold

#: `uniform`: every triplet (or span) equally likely; `anchored`: s (or the span's start) is the
#: first content token, the paper's "Zero"; `sequential`: spans only, the authors' code: the start
#: is uniform, then the end is uniform behind it, which favours short spans late in the text.
Law = Literal["uniform", "anchored", "sequential"]


@dataclass(frozen=True)
class ContentRanks:
    """Where the j-th content token of each document stands in the flattened batch."""

    size_N: Tensor
    before_N: Tensor
    running_flat: Tensor

    @classmethod
    def of(cls, content_BT: Tensor, document_BT: Tensor, num_documents: int) -> ContentRanks:
        """From a content mask and the document of each token (-1 outside)."""
        content = (content_BT & (document_BT >= 0)).flatten()
        slot = torch.where(content, document_BT.flatten(), num_documents)
        size = torch.zeros(num_documents + 1, dtype=torch.long, device=slot.device)
        size_N = size.index_add_(0, slot, content.long())[:num_documents]
        return cls(size_N, size_N.cumsum(0) - size_N, content.long().cumsum(0))

    def flat_index(self, rank_NK: Tensor) -> Tensor:
        """Flat index in [0, B*T) of the given ranks; meaningless beyond a document's size."""
        wanted_NK = self.before_N[:, None] + rank_NK + 1
        return torch.searchsorted(self.running_flat, wanted_NK).clamp_max(
            self.running_flat.numel() - 1
        )

    def between(self, span_N2: Tensor, document_BT: Tensor) -> Tensor:
        """(B, T) bool: whether a content token's rank lies in its document's [start, stop).

        Meaningless where the token is no content token.
        """
        document_BT = document_BT.clamp_min(0)
        rank_BT = self.running_flat.view_as(document_BT) - 1 - self.before_N[document_BT]
        start_BT, stop_BT = span_N2[document_BT].unbind(-1)
        return (rank_BT >= start_BT) & (rank_BT < stop_BT)


def draw_triplets(
    size_N: Tensor,
    key_N: Tensor,
    num_draws: int,
    *,
    law: Law = "uniform",
    max_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Ranks s < r < t in [0, size) of every document.

    Args:
        size_N: number of content tokens.
        key_N: random key of each document.
        num_draws: K, independent draws.
        law: `uniform` over the triplets that max_length admits, or `anchored` at s = 0.
        max_length: largest t - s in content tokens, at least 2; None for no limit.

    Returns:
        triplets (N, K, 3) int64 and valid (N,): False, with all ranks 0, where a document has
        fewer than three content tokens.

    Source: Semantic Tube Prediction, section 3 (random s < r < t); "Zero" of its ablation.
    """
    key_NK = _draw_keys(key_N, num_draws)
    size_N1 = size_N[:, None]
    if law == "anchored":
        reach_N1 = size_N1 - 1 if max_length is None else (size_N1 - 1).clamp_max(max_length)
        r_NK, t_NK = _sorted_pair(key_NK, reach_N1)
        triplets_NK3 = torch.stack([torch.zeros_like(r_NK), r_NK + 1, t_NK + 1], dim=-1)
    elif law == "uniform":
        if max_length is None:
            triplets_NK3 = _sorted_triple(key_NK, size_N1)
        else:
            triplets_NK3 = _capped_triple(key_NK, size_N1, max_length)
    else:
        raise ValueError(f"a triplet has no law {law!r}: use 'uniform' or 'anchored'")
    valid_N = size_N >= 3
    return torch.where(valid_N[:, None, None], triplets_NK3, 0), valid_N


def draw_spans(
    size_N: Tensor,
    key_N: Tensor,
    num_draws: int,
    *,
    law: Law = "uniform",
    max_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Spans [start, stop) of ranks, never empty and never the whole document.

    Args:
        size_N, key_N, num_draws: as in `draw_triplets`.
        law: `uniform` over spans, `anchored` at start 0, or `sequential` (see `Law`).
        max_length: largest stop - start, at least 1; None for no limit.

    Returns:
        spans (N, K, 2) int64 and valid (N,): False, with span [0, 0), where a document has fewer
        than two content tokens.

    Source: the authors' code, option random_span (its loop does not end for one token).
    """
    key_NK = _draw_keys(key_N, num_draws)
    size_N1 = size_N[:, None]
    # The whole document is no span, so from start 0 the longest has size - 1 tokens.
    cap_N1 = size_N1 - 1 if max_length is None else (size_N1 - 1).clamp_max(max_length)
    if law == "uniform":
        length_NK, start_NK = _uniform_window(key_NK, cap_N1, size_N1 + 1)
    else:
        start_NK = torch.zeros_like(key_NK)
        if law == "sequential":
            start_NK = draw_below(fold(key_NK, 0), size_N1)
        longest_NK = torch.minimum(cap_N1, size_N1 - start_NK)
        length_NK = 1 + draw_below(fold(key_NK, 1), longest_NK)
    valid_N = size_N >= 2
    spans_NK2 = torch.stack([start_NK, start_NK + length_NK], dim=-1)
    return torch.where(valid_N[:, None, None], spans_NK2, 0), valid_N


def _draw_keys(key_N: Tensor, num_draws: int) -> Tensor:
    return fold(key_N[:, None], torch.arange(num_draws, device=key_N.device)[None, :])


def _sorted_pair(key: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """Two distinct integers in [0, bound), in order, all pairs equally likely."""
    first = draw_below(fold(key, 0), bound)
    second = draw_below(fold(key, 1), bound - 1)
    second = second + (second >= first).long()  # skip the value already taken
    return torch.minimum(first, second), torch.maximum(first, second)


def _sorted_triple(key: Tensor, bound: Tensor) -> Tensor:
    """Three distinct integers in [0, bound), in order, all triples equally likely."""
    low, high = _sorted_pair(key, bound)
    third = draw_below(fold(key, 2), bound - 2)
    third = third + (third >= low).long()
    third = third + (third >= high).long()
    return torch.stack([low, high, third], dim=-1).sort(dim=-1).values


def _capped_triple(key_NK: Tensor, size_N1: Tensor, max_length: int) -> Tensor:
    """All triples with t - s <= max_length equally likely.

    There are (size - w) (w - 1) of them with t - s = w: a place for s and one for r.
    """
    width_W = torch.arange(2, max_length + 1, device=key_NK.device)
    number_NW = (size_N1 - width_W).clamp_min(0) * (width_W - 1)
    running_NW = number_NW.cumsum(-1)
    ticket_NK = draw_below(fold(key_NK, 0), running_NW[:, -1:])
    width_NK = 2 + torch.searchsorted(running_NW, ticket_NK, right=True)
    start_NK = draw_below(fold(key_NK, 1), size_N1 - width_NK)
    middle_NK = start_NK + 1 + draw_below(fold(key_NK, 2), width_NK - 1)
    return torch.stack([start_NK, middle_NK, start_NK + width_NK], dim=-1)


def _uniform_window(key_NK: Tensor, cap_N1: Tensor, places_N1: Tensor) -> tuple[Tensor, Tensor]:
    """Length in [1, cap] and start, all windows equally likely; length w fits places - w times.

    The number of windows of length at most w, w (2 places - w - 1) / 2, is inverted through the
    root of the quadratic, in float64: exact for documents of up to 2^26 tokens.
    """
    ticket_NK = draw_below(fold(key_NK, 0), cap_N1 * (2 * places_N1 - cap_N1 - 1) // 2)
    half = places_N1.double() - 0.5
    root_NK = half - (half**2 - 2 * ticket_NK.double()).clamp_min(0).sqrt()
    length_NK = root_NK.floor().long() + 1
    start_NK = draw_below(fold(key_NK, 1), places_N1 - length_NK)
    return length_NK, start_NK
