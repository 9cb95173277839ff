"""Counter-based random integers: a draw is a function of its key, not of a generator's past.

Each document gets a key from the run seed, the step and its own token ids. Its triplets are then
the same whatever the micro-batch, padding, packing or process it lands in, and a resumed run needs
no saved generator state. Plain int64 tensor arithmetic, so CPU and GPU draw alike, with no global
generator touched and no device synchronisation.

Shape letters: N documents.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK_64 = (1 << 64) - 1


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    value &= _MASK_64
    return value - (1 << 64) if value >= 1 << 63 else value


# The odd constants of the splitmix64 generator (Steele, Lea & Flood 2014).
_STEP = 0x9E3779B97F4A7C15
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Shift in zeros: torch shifts int64 arithmetically, copying the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def mix(value: Tensor) -> Tensor:
    """The splitmix64 finaliser: every input bit moves about half of the output bits."""
    value = (value ^ _shift_right(value, 30)) * _FIRST
    value = (value ^ _shift_right(value, 27)) * _SECOND
    return value ^ _shift_right(value, 31)


def fold(key: Tensor, number: int | Tensor) -> Tensor:
    """A new key from a key and a number."""
    offset = (
        _signed(number * _STEP + _STEP)
        if isinstance(number, int)
        else (number + 1) * _signed(_STEP)
    )
    return mix(key + offset)


def document_keys(input_ids: Tensor, document: Tensor, num_documents: int) -> Tensor:
    """Key of each document from its token ids in order, wherever it stands in the batch.

    Args:
        input_ids: any shape, integer.
        document: same shape, index of the document of each token, or -1 for none.
        num_documents: N.

    Returns:
        (N,) int64. Equal documents get equal keys.
    """
    ids, document = input_ids.flatten().long(), document.flatten()
    inside = document >= 0
    # What belongs to no document is summed apart and left out.
    slot, one = torch.where(inside, document, num_documents), inside.long()
    nothing = torch.zeros(num_documents + 1, dtype=torch.long, device=ids.device)
    # Position inside the document: tokens of a document follow each other in flat order, so it is
    # the running count less the count before the document.
    size = nothing.index_add(0, slot, one)
    before = size.cumsum(0) - size
    position = one.cumsum(0) - 1 - before[slot]
    # Integer addition wraps and commutes exactly, so the order of accumulation cannot matter.
    return nothing.index_add(0, slot, fold(mix(ids + 1), position))[:num_documents]


def draw_below(key: Tensor, bound: Tensor) -> Tensor:
    """An integer in [0, bound) for each key; 0 where bound < 1.

    The bias of the remainder is below bound / 2^62.
    """
    return (mix(key) & ((1 << 62) - 1)) % bound.clamp_min(1)
