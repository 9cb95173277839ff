"""Do the trajectories of different prompts come as near as their own steps are long?

Shape letters: N prompts, L longest trajectory, T tokens, D hidden size, A and B blocks of prompts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from semtube.geometry.measured import Measured
from semtube.geometry.rounding import shortest_displacement
from semtube.objectives.random_keys import fold

#: A text nearly collides where it comes nearer to another than all but this part of the right
#: answers do: in many dimensions no length of a step would tell. Ours.
NEAR = 0.05
#: Texts, below which such a part of them is not known. Ours.
MIN_TEXTS = 20
#: Distances held at a time, in numbers. Ours: 32 MB in float64.
CHUNK_NUMBERS = 1 << 22


def prefix_keys(ids_T: Tensor) -> Tensor:
    """A key for every token (..., T) of a text, made of it and all before it.

    Two are equal only where the texts up to there are (or by chance, in one of 2^64).
    """
    key, keys = torch.zeros_like(ids_T[..., 0], dtype=torch.long), []
    for token in ids_T.long().unbind(-1):
        key = fold(key, token)
        keys.append(key)
    return torch.stack(keys, -1)


def near_collisions(
    states_NLD: Tensor, size_N: Tensor, key_NL: Tensor, *, chunk: int = CHUNK_NUMBERS
) -> Measured:
    """(N,) smallest distance to a state of another prompt's trajectory, over the own median step.

    Between two trajectories, states of what their texts have in common are left out: they are one.
    Not defined without a step of some length, or where nothing else is left. In layers near the
    embedding a token makes most of its state, and equal tokens of any texts collide: hold
    generated trajectories against the gold ones of the same prompts.

    Args:
        states_NLD, size_N: a prompt's trajectory each.
        key_NL: of `prefix_keys`, of the text up to each state.
        chunk: distances held at a time; those of two trajectories at least.

    Raises:
        ValueError: shapes that do not fit, or a chunk below 1.

    Source: Semantic Tube Prediction, arXiv 2602.22617, appendix F (the collision, not measured
        there); the ratio is ours.
    """
    if states_NLD.dim() != 3 or key_NL.shape != states_NLD.shape[:2] or chunk < 1:
        raise ValueError(
            "wanted states (N, L, D), keys (N, L) and a chunk of 1 at least, "
            f"got {tuple(states_NLD.shape)}, {tuple(key_NL.shape)} and {chunk}"
        )
    states_NLD = states_NLD.detach()
    inside_NL = torch.arange(key_NL.shape[1], device=size_N.device) < size_N[:, None]
    step_N = _median_step(states_NLD, inside_NL)
    nearest_N = _nearest(states_NLD, inside_NL, key_NL, chunk)
    length_NL = torch.linalg.vector_norm(states_NLD, dim=-1).double().masked_fill(~inside_NL, 0)
    shortest_N = shortest_displacement(length_NL.sum(1) / size_N.clamp_min(1))
    defined_N = nearest_N.isfinite() & (step_N > shortest_N)
    return Measured.ratio(nearest_N.where(defined_N, 0), step_N.where(defined_N, 0))


def near_collision_share(nearest: Measured, gold: Measured) -> Measured:
    """Part of the prompts (a number without shape) nearer than a part NEAR of the right answers.

    Both of `near_collisions`. NEAR itself where generated texts come as near as right ones; not
    defined of fewer than MIN_TEXTS right answers.
    """
    among = gold.value[gold.defined]
    if len(among) < MIN_TEXTS:
        return Measured(nearest.value.new_zeros(()), torch.tensor(False))
    is_near = nearest.defined & (nearest.value < among.quantile(NEAR))
    return Measured(is_near.double(), nearest.defined).mean()


def _median_step(states_NLD: Tensor, inside_NL: Tensor) -> Tensor:
    """(N,) median length of a trajectory's steps; NaN where there is none."""
    step_NL = torch.linalg.vector_norm(states_NLD.diff(dim=1), dim=-1).double()
    step_NL = step_NL.masked_fill(~inside_NL[:, 1:], math.nan)
    # A step that is not there, so that every trajectory has some.
    return torch.nn.functional.pad(step_NL, (0, 1), value=math.nan).nanquantile(0.5, dim=1)


def _nearest(states_NLD: Tensor, inside_NL: Tensor, key_NL: Tensor, chunk: int) -> Tensor:
    """(N,) distance to the nearest state of another trajectory; infinite where there is none."""
    number, longest = key_NL.shape
    rows = max(1, math.isqrt(chunk) // longest)
    blocks = [slice(start, start + rows) for start in range(0, number, rows)]
    place_N = torch.arange(number, device=key_NL.device)
    # From the mean, in float64: squares of large states would leave nothing of a small distance.
    mean_D = states_NLD[inside_NL].double().mean(0)
    nearest_N = torch.full((number,), math.inf, dtype=torch.float64, device=key_NL.device)
    for first, ours in enumerate(blocks):
        for theirs in blocks[first:]:
            both = inside_NL[ours, :, None, None] & inside_NL[theirs]
            same = both & (key_NL[ours, :, None, None] == key_NL[theirs])
            shared = same.any(3, keepdim=True) | same.any(1, keepdim=True)
            own = place_N[ours, None, None, None] == place_N[theirs, None]
            squared = _squared_distances(states_NLD[ours] - mean_D, states_NLD[theirs] - mean_D)
            squared = squared.clamp_min(0).masked_fill(~both | shared | own, math.inf)
            nearest_N[ours] = torch.minimum(nearest_N[ours], squared.amin((1, 2, 3)))
            nearest_N[theirs] = torch.minimum(nearest_N[theirs], squared.amin((0, 1, 3)))
    return nearest_N.sqrt()


def _squared_distances(first_ALD: Tensor, second_BLD: Tensor) -> Tensor:
    """(A, L, B, L) squared distances of all states."""
    product = torch.einsum("ikd,jld->ikjl", first_ALD, second_BLD)
    square = first_ALD.square().sum(-1)[:, :, None, None] + second_BLD.square().sum(-1)
    return square - 2 * product
