"""Random triplets s < r < t and spans [start, stop) over the content tokens of each document.

Positions are first drawn as ranks (the j-th content token of a document), then turned into flat
indices of the batch. Everything is vectorised over documents and draws; nothing is read back from
the device.

Shape letters: B rows, T tokens, N documents, K draws per document, E edges, S segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
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
        """From a content mask and the document of each token, which is -1 only outside it."""
        slot = torch.where(content_BT, document_BT, num_documents).flatten()
        one = content_BT.flatten().long()
        size_N = one.new_zeros(num_documents + 1).index_add(0, slot, one)[:num_documents]
        return cls(size_N, size_N.cumsum(0) - size_N, one.cumsum(0))

    def flat_index(self, rank_N: Tensor) -> Tensor:
        """Flat index in [0, B*T) of ranks (N, ...); meaningless beyond a document's size."""
        before_N = self.before_N.view(-1, *[1] * (rank_N.dim() - 1))
        found = torch.searchsorted(self.running_flat, before_N + rank_N + 1)
        return found.clamp_max(self.running_flat.numel() - 1)

    def between(self, span_N2: Tensor, document_BT: Tensor) -> Tensor:
        """(B, T) bool: whether a content token's rank lies in its document's [start, stop).

        Meaningless where the token is no content token.
        """
        rank_BT = self._rank_BT(document_BT)
        start_BT, stop_BT = span_N2[document_BT.clamp_min(0)].unbind(-1)
        return (rank_BT >= start_BT) & (rank_BT < stop_BT)

    def cut(self, spans_NK2: Tensor, document_BT: Tensor) -> tuple[Tensor, Tensor]:
        """The S = 2K + 1 segments into which the edges of K spans cut each document.

        Returns:
            (B, T) int64 segment of each content token, meaningless for others; (N, K, S) bool
            whether a segment, if it has any token, lies in a span.
        """
        edges_NE = spans_NK2.flatten(1)
        # A token's segment is the number of edges at it or before it.
        rank_BT1 = self._rank_BT(document_BT)[..., None]
        segment_BT = (rank_BT1 >= edges_NE[document_BT.clamp_min(0)]).sum(-1)
        start_NK1, stop_NK1 = (spans_NK2[..., None] >= edges_NE[:, None, None]).sum(-1).split(1, -1)
        segment_S = torch.arange(edges_NE.shape[1] + 1, device=edges_NE.device)
        return segment_BT, (segment_S >= start_NK1) & (segment_S < stop_NK1)

    def _rank_BT(self, document_BT: Tensor) -> Tensor:
        running_BT = self.running_flat.view_as(document_BT)
        return running_BT - 1 - self.before_N[document_BT.clamp_min(0)]


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
        triplets_NK3 = F.pad(1 + _distinct(key_NK, reach_N1, 2), (1, 0))
    elif law == "uniform":
        if max_length is None:
            triplets_NK3 = _distinct(key_NK, size_N1, 3)
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


def _distinct(key_NK: Tensor, bound_N1: Tensor, number: int) -> Tensor:
    """(N, K, number) distinct integers in [0, bound), in order, all sets equally likely."""
    place = torch.arange(number, device=key_NK.device)
    drawn = draw_below(fold(key_NK[..., None], place), bound_N1[..., None] - place)
    chosen, *others = drawn.split(1, dim=-1)
    for other in others:
        for taken in chosen.unbind(-1):  # skip the values already taken, in their order
            other = other + (other >= taken[..., None])
        chosen = torch.cat([chosen, other], dim=-1).sort(dim=-1).values
    return chosen


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
