"""How far the next-token distribution moves from one layer to the next.

Shape letters: P positions, D hidden size, V vocabulary, C a chunk of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

#: Logits held at a time, in numbers. Ours: 64 MB in float32.
CHUNK_NUMBERS = 1 << 24


def fisher_rao(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Distance 2 arccos(sum sqrt(p q)) of distributions over the last dimension, 0 to pi.

    0 for equal, pi for disjoint ones. Taken as 4 arcsin(|sqrt p - sqrt q| / 2), which keeps small
    distances: the arccosine of a sum near 1 gives 0 below about 1e-3 in float32.

    Args:
        log_p, log_q: log-probabilities (..., V), at least float32; -inf for none.

    Source: SPINAL's thermodynamic length of one step; the chord form is ours.
    """
    squared = ((log_p / 2).exp() - (log_q / 2).exp()).square().sum(-1)
    return _angle(squared)


def layer_transport(
    first_PD: Tensor,
    second_PD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None = None,
    *,
    on_logits: Callable[[Tensor], Tensor] | None = None,
    chunk: int | None = None,
) -> Tensor:
    """(P,) `fisher_rao` of what the head reads from two layers' states.

    The vocabulary is gone through in chunks, twice: for the normalisers, and for the distances.
    Memory is 2 P x chunk numbers, whatever V.

    Args:
        first_PD, second_PD: states at the same positions, already through the last norm.
        weight_VD, bias_V: the head.
        on_logits: what the model does to its logits, number by number (a soft cap, a scale).
        chunk: entries of the vocabulary at a time; None for what `CHUNK_NUMBERS` allows.

    Raises:
        ValueError: shapes that do not fit, or a chunk below 1.
    """
    if first_PD.shape != second_PD.shape or first_PD.shape[-1] != weight_VD.shape[-1]:
        raise ValueError(
            f"wanted states (P, D) of two layers and a head (V, D), got {tuple(first_PD.shape)}, "
            f"{tuple(second_PD.shape)} and {tuple(weight_VD.shape)}"
        )
    if chunk is None:
        chunk = max(1, CHUNK_NUMBERS // max(1, 2 * len(first_PD)))
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: wanted at least 1")
    both_2PD = torch.stack([first_PD, second_PD]).detach().float()

    def logits() -> Iterator[Tensor]:
        for start in range(0, len(weight_VD), chunk):
            weight_CD = weight_VD[start : start + chunk].detach().float()
            found_2PC = both_2PD @ weight_CD.T
            if bias_V is not None:
                found_2PC = found_2PC + bias_V[start : start + chunk].detach().float()
            yield found_2PC if on_logits is None else on_logits(found_2PC)

    normaliser_2P = both_2PD.new_full(both_2PD.shape[:2], -math.inf)
    for found_2PC in logits():
        normaliser_2P = torch.logaddexp(normaliser_2P, found_2PC.logsumexp(-1))
    squared_P = torch.zeros(len(first_PD), dtype=torch.float64, device=both_2PD.device)
    for found_2PC in logits():
        root_2PC = ((found_2PC - normaliser_2P[..., None]) / 2).exp()
        squared_P += (root_2PC[0] - root_2PC[1]).square().sum(-1)
    return _angle(squared_P)


def _angle(squared_chord: Tensor) -> Tensor:
    # The longest chord, of disjoint distributions, is sqrt 2: rounding may go beyond.
    return 4 * torch.asin(squared_chord.clamp(0, 2).sqrt() / 2)
