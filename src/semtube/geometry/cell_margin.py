"""How far a state is from choosing another token.

Shape letters: P positions, D hidden size, V vocabulary, C a chunk of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from semtube.geometry.measured import Measured

#: Logits held at a time, in numbers. Ours: 32 MB in float64.
CHUNK_NUMBERS = 1 << 22
#: Rows of a head that differ by less than this part of their length are one. Ours: float32's own.
SAME_ROW = 1e-6


def cell_margin(
    states_PD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    token_P: Tensor,
    *,
    chunk: int | None = None,
) -> Measured:
    """(P,) signed distance of a state to the nearest face of a token's cell, in units of states.

    min over j != y of (z_y - z_j) / |w_y - w_j|, with logits z = W h + b: how far the state can
    move in any direction with y still the most likely token; negative where it is not. A function
    that rises with each logit, such as a soft cap, moves no face.

    A token with the row of y (SAME_ROW) has no face with it: it is passed over, but where its bias
    is larger y has no cell and no margin. There is none either where no other row is left.

    Args:
        states_PD: already through the last norm.
        weight_VD, bias_V: the head.
        token_P: y of each state.
        chunk: entries of the vocabulary at a time; None for what CHUNK_NUMBERS allows.

    Raises:
        ValueError: shapes that do not fit, or a chunk below 1.
    """
    if states_PD.shape[1:] != weight_VD.shape[1:] or token_P.shape != states_PD.shape[:1]:
        raise ValueError(
            "wanted states (P, D), a head (V, D) and tokens (P,), got "
            f"{tuple(states_PD.shape)}, {tuple(weight_VD.shape)} and {tuple(token_P.shape)}"
        )
    chunk = max(1, CHUNK_NUMBERS // max(1, len(states_PD))) if chunk is None else chunk
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: wanted at least 1")
    bias_V = weight_VD.new_zeros(len(weight_VD)) if bias_V is None else bias_V
    bias_V = bias_V.detach().double()
    states_PD, own_PD = states_PD.detach().double(), weight_VD[token_P].detach().double()
    own_P, own_length_P = (states_PD * own_PD).sum(1), own_PD.square().sum(1)
    margin_P = own_P.new_full(own_P.shape, math.inf)
    is_empty_P = torch.zeros_like(token_P, dtype=torch.bool)
    for start in range(0, len(weight_VD), chunk):
        weight_CD = weight_VD[start : start + chunk].detach().double()
        ahead_PC = bias_V[token_P][:, None] - bias_V[start : start + chunk]
        length_PC = own_length_P[:, None] + weight_CD.square().sum(1)
        apart_PC = length_PC - 2 * own_PD @ weight_CD.T
        same_PC = apart_PC <= SAME_ROW**2 * length_PC
        is_empty_P |= (same_PC & (ahead_PC < 0)).any(1)
        ahead_PC = ahead_PC + own_P[:, None] - states_PD @ weight_CD.T
        face_PC = ahead_PC / apart_PC.where(~same_PC, 1).sqrt()
        margin_P = torch.minimum(margin_P, face_PC.masked_fill(same_PC, math.inf).amin(1))
    defined_P = margin_P.isfinite() & ~is_empty_P
    return Measured(margin_P.where(defined_P, 0), defined_P)
