"""Trajectories that mean nothing, to hold every measure against, and what a measure says of them.

Shape letters: N paths, T tokens, D hidden size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from semtube.geometry.draws import generator_of
from semtube.geometry.measured import Measured
from semtube.geometry.paths import Paths

Simulator = Callable[[Tensor, Tensor], Tensor]
"""From a direction (N, 1, D) and noise (N, T, D), all standard normal, to paths (N, T, D)."""


def straight_line(direction_N1D: Tensor, noise_NTD: Tensor) -> Tensor:
    """Equal steps in one direction; tube loss 0."""
    return _time(noise_NTD) * direction_N1D


def independent_increments(direction_N1D: Tensor, noise_NTD: Tensor) -> Tensor:
    """Brownian: steps that know nothing of each other; tube loss 1."""
    return noise_NTD.cumsum(1)


def memoryless(direction_N1D: Tensor, noise_NTD: Tensor) -> Tensor:
    """Points that know nothing of each other; tube loss 1.5."""
    return noise_NTD


def autoregressive(correlation: float) -> Simulator:
    """h_t = rho h_{t-1} + sqrt(1 - rho^2) e_t, stationary from the first token on.

    Raises:
        ValueError: not -1 < rho < 1.
    """
    if not -1 < correlation < 1:
        raise ValueError(f"correlation is {correlation}: wanted one between -1 and 1")

    def simulate(direction_N1D: Tensor, noise_NTD: Tensor) -> Tensor:
        states = [noise_NTD[:, 0]]
        for noise_ND in noise_NTD[:, 1:].unbind(1):
            states.append(correlation * states[-1] + math.sqrt(1 - correlation**2) * noise_ND)
        return torch.stack(states, 1)

    return simulate


def line_plus_noise(slope: float) -> Simulator:
    """h_t = slope t v + e_t, with v and e_t standard normal: a step is `slope` of the noise."""

    def simulate(direction_N1D: Tensor, noise_NTD: Tensor) -> Tensor:
        return slope * _time(noise_NTD) * direction_N1D + noise_NTD

    return simulate


#: The nulls beside every measure of a trajectory; the numbers are those of our own table.
NULLS: dict[str, Simulator] = {
    "straight line": straight_line,
    "independent increments": independent_increments,
    "memoryless points": memoryless,
    "autoregressive 0.5": autoregressive(0.5),
    "autoregressive 0.9": autoregressive(0.9),
    "autoregressive 0.98": autoregressive(0.98),
    "line plus noise 0.01": line_plus_noise(0.01),
    "line plus noise 0.1": line_plus_noise(0.1),
    "line plus noise 1": line_plus_noise(1.0),
}


def simulate(
    null: str, *, num_tokens: int, width: int, num_paths: int, seed: int, first: int = 0
) -> Paths:
    """Paths of a null (float32), by its name in `NULLS`.

    Args:
        num_tokens, width: T and D, those of the trajectories to compare with.
        seed: and the number of a path name it: path k is the same whatever num_paths.
        first: number of the first path.

    Raises:
        ValueError: no such null.
    """
    if null not in NULLS:
        raise ValueError(f"null is {null!r}: wanted one of {sorted(NULLS)}")
    drawn_NTD = torch.stack(
        [_normal(seed, first + k, num_tokens + 1, width) for k in range(num_paths)]
    )
    paths = Paths.of(NULLS[null](drawn_NTD[:, :1], drawn_NTD[:, 1:]))
    # A path's triplets are its own: with the same ones in all, their errors would not average out.
    return replace(paths, key_N=torch.arange(first, first + num_paths))


@dataclass(frozen=True)
class NullValue:
    """What a measure says of a null: mean over paths, and the mean's standard error.

    (W,) each for a measure by length, else without shape; NaN-free: `defined` tells where there
    is a value.
    """

    mean: Tensor
    standard_error: Tensor
    defined: Tensor


def null_value(
    measure: Callable[[Paths], Measured],
    null: str,
    *,
    num_tokens: int,
    width: int,
    num_paths: int = 32,
    seed: int = 0,
) -> NullValue:
    """A measure of paths, on `num_paths` simulated ones of the same length and width.

    One path at a time, so memory does not grow with their number. 32 is ours.

    Raises:
        ValueError: fewer than two paths, of which there is no standard error.
    """
    return pooled(
        [
            measure(
                simulate(null, num_tokens=num_tokens, width=width, num_paths=1, seed=seed, first=k)
            )
            for k in range(num_paths)
        ]
    )


def pooled(found: Sequence[Measured]) -> NullValue:
    """Mean and standard error over all paths; defined where every path has a value.

    Raises:
        ValueError: fewer than two paths, of which there is no standard error.
    """
    value = torch.cat([each.value for each in found])
    if len(value) < 2:
        raise ValueError(f"num_paths is {len(value)}: wanted at least 2")
    defined = torch.cat([each.defined for each in found]).all(0)
    error = value.std(0) / math.sqrt(len(value))
    return NullValue(value.mean(0).where(defined, 0), error.where(defined, 0), defined)


def _normal(seed: int, path: int, num_tokens: int, width: int) -> Tensor:
    generator = generator_of(seed, "null", path)
    return torch.randn(num_tokens, width, generator=generator)


def _time(noise_NTD: Tensor) -> Tensor:
    return torch.arange(noise_NTD.shape[1], dtype=noise_NTD.dtype)[:, None]
