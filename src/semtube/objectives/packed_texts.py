"""Rows of several texts each, put together from a batch's own tokens for an extra forward pass.

Shape letters: N documents, W width of a row or piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semtube.objectives.objective import PADDING_INDEX, VECTOR, widened
from semtube.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class Piece:
    """A stretch of every document's row: what to place, and how many of it count."""

    index_NW: Tensor
    size_N: Tensor


@dataclass(frozen=True)
class PackedTexts:
    """One row per document; its texts follow each other and do not see each other.

    Args:
        index_NW, position_NW: what an `Encoder` takes.
        last_NT: column of the last token of each text; of the one before it where it is empty.
    """

    index_NW: Tensor
    position_NW: Tensor
    last_NT: Tensor


def tokens_of(mask_BT: Tensor, trajectories: Trajectories) -> Piece:
    """The tokens of a mask, in order. Waits for the device once, for the longest."""
    ranks = trajectories.ranks(mask_BT)
    width = int(ranks.size_N.max()) if ranks.size_N.numel() else 0
    rank_W = torch.arange(max(width, 1), device=mask_BT.device)
    return Piece(ranks.flat_index(rank_W.expand(len(ranks.size_N), -1)), ranks.size_N)


def vectors(number: int, like: Piece) -> Piece:
    """The learned vectors 0 to number - 1, in every row."""
    index_W = VECTOR - torch.arange(number, device=like.index_NW.device)
    return Piece(index_W.expand(len(like.size_N), -1), torch.full_like(like.size_N, number))


def pack(texts: Sequence[Sequence[Piece]]) -> PackedTexts:
    """Texts, each of one or more pieces, behind each other in one row per document."""
    first = texts[0][0]
    num_rows, device = len(first.size_N), first.size_N.device
    widest = sum(piece.index_NW.shape[1] for text in texts for piece in text)
    index = torch.full((num_rows, widest + 1), PADDING_INDEX, device=device)
    position = torch.zeros_like(index)
    offset_N = torch.zeros_like(first.size_N)
    lasts = []
    for text in texts:
        begin_N = offset_N
        for piece in text:
            place_W = torch.arange(piece.index_NW.shape[1], device=device)
            used_NW = place_W < piece.size_N[:, None]
            # What does not count goes to a last column that is cut off.
            column_NW = torch.where(used_NW, offset_N[:, None] + place_W, widest)
            index.scatter_(1, column_NW, piece.index_NW)
            position.scatter_(1, column_NW, column_NW - begin_N[:, None])
            offset_N = offset_N + piece.size_N
        lasts.append((offset_N - 1).clamp_min(0))
    width = max(int(offset_N.max()), 1)
    return PackedTexts(index[:, :width], position[:, :width], torch.stack(lasts, dim=-1))


def states_at(states_NWD: Tensor, column_N: Tensor) -> Tensor:
    """(N, D) the state at one column of each row, at least in float32."""
    row_N = torch.arange(len(column_N), device=column_N.device)
    return widened(states_NWD[row_N, column_N])
