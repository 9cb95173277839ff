"""The inference cone: how a generated text's states drift from those of the right text.

Shape letters: N prompts, L most steps behind a prompt, K steps of a window, D hidden size,
P positions, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from semtube.geometry.draws import generator_of
from semtube.geometry.measured import Measured
from semtube.geometry.rounding import is_one_point
from semtube.scaling.resampling import seed_stretch
from semtube.statistics.intervals import t_interval

#: What step 1 is: the first token behind the prompt, or the first that differs from the gold text.
Since = Literal["prompt", "divergence"]
#: An exponent is fitted to this many prompts and steps at least: through three steps, it may be
#: anything. Ours.
MIN_PROMPTS, MIN_STEPS = 20, 6
#: A step is saturated where distances are above this part of that of unrelated states. Ours: a
#: distance that tends to a bound as sqrt(1 - exp(-k)) still grows there with exponent 0.43.
SATURATED = 0.5


def first_differences(generated: Sequence[Sequence[int]], gold: Sequence[Sequence[int]]) -> Tensor:
    """(N,) place of the first token, counted from 0, in which two texts behind a prompt differ.

    Where one goes on as the other ends, the place behind the shorter: give both their stop tokens,
    or stopping early is no difference.

    Raises:
        ValueError: not one gold text for every generated one.
    """
    places = []
    for ours, theirs in zip(generated, gold, strict=True):
        pairs = enumerate(zip(ours, theirs, strict=False))
        shorter = min(len(ours), len(theirs))
        places.append(next((place for place, (a, b) in pairs if a != b), shorter))
    return torch.tensor(places, dtype=torch.long)


def state_distances(
    generated_NLD: Tensor,
    gold_NLD: Tensor,
    size_N: Tensor,
    diverged_N: Tensor,
    *,
    since: Since,
) -> Measured:
    """(N, L) distance of generated and teacher-forced states at steps 1 to L, in units of states.

    States of one and the same text are one: before two texts differ the distance is 0, whatever
    rounding left of it.

    since "prompt" is the paper's t: how far from the error-free text is a text so long behind its
    prompt? Texts that have not left it count as 0, so the growth is both of how many have left and
    of how far they went. since "divergence": once a token is another, how does the distance grow?
    Texts that never leave have no value.

    Args:
        generated_NLD, gold_NLD: the state of the k-th token behind the prompt at place k - 1.
        size_N: int64, how many tokens both texts have behind the prompt.
        diverged_N: of `first_differences`.

    Raises:
        ValueError: shapes that do not fit, or another `since`.

    Source: Semantic Tube Prediction, arXiv 2602.22617, Proposition F.1.
    """
    if generated_NLD.shape != gold_NLD.shape or generated_NLD.dim() != 3:
        raise ValueError(
            "wanted states (N, L, D) of both texts, "
            f"got {tuple(generated_NLD.shape)} and {tuple(gold_NLD.shape)}"
        )
    if since not in ("prompt", "divergence"):
        raise ValueError(f"since is {since!r}: wanted 'prompt' or 'divergence'")
    apart_NLD = generated_NLD.detach().double() - gold_NLD.detach().double()
    distance_NL = torch.linalg.vector_norm(apart_NLD, dim=-1)
    place_L = torch.arange(distance_NL.shape[1], device=size_N.device)
    inside_NL = place_L < size_N[:, None]
    away_NL = inside_NL & (place_L >= diverged_N[:, None])
    distance_NL = distance_NL.where(away_NL, 0)
    if since == "prompt":
        return Measured(distance_NL, inside_NL)
    place_NL = diverged_N[:, None] + place_L
    inside_NL = place_NL < size_N[:, None]
    shifted_NL = distance_NL.gather(1, place_NL.where(inside_NL, 0))
    return Measured(shifted_NL.where(inside_NL, 0), inside_NL)


def unrelated_distance(states_PD: Tensor) -> float:
    """Root mean square distance of two different states of a set: sqrt(2) times their deviation.

    0 where all are equal but for rounding. The space of states is bounded in effect, so every
    distance ends near this.

    Raises:
        ValueError: fewer than two states.
    """
    if len(states_PD) < 2:
        raise ValueError(f"there are {len(states_PD)} states: wanted at least 2")
    states_PD = states_PD.detach().double()
    variance = float(states_PD.var(0).sum())
    if is_one_point(variance * (len(states_PD) - 1), float(states_PD.square().sum())):
        return 0.0
    return math.sqrt(2 * variance)


def relative_distances(distances: Measured, unrelated: float) -> Measured:
    """Distances in units of `unrelated_distance`: 0 on the gold text, 1 for unrelated states.

    Raises:
        ValueError: states that do not differ.
    """
    if not unrelated > 0:
        raise ValueError(f"unrelated states are {unrelated} apart: wanted more than 0")
    return Measured(distances.value / unrelated, distances.defined)


@dataclass(frozen=True)
class ConeStep:
    """Root mean square distance at a step, over the prompts that have it.

    Args:
        low, high: where it lies over prompts: the roots of a t interval of the mean square; None
            of one prompt.
    """

    step: int
    value: float
    low: float | None
    high: float | None
    num_prompts: int


def cone_curve(distances: Measured, confidence: float = 0.95) -> list[ConeStep]:
    """Every step that some prompt has. Later steps may be of other prompts than earlier ones."""
    steps = []
    for k in range(distances.value.shape[1]):
        squared = distances.value[distances.defined[:, k], k].square().tolist()
        if not squared:
            continue
        interval = t_interval(squared, confidence)
        low, high = (None, None) if interval is None else (
            math.sqrt(max(0.0, interval.low)), math.sqrt(interval.high),
        )  # fmt: skip
        value = math.sqrt(sum(squared) / len(squared))
        steps.append(ConeStep(k + 1, value, low, high, len(squared)))
    return steps


@dataclass(frozen=True)
class ConeFit:
    """Distance = scale * step ** exponent, over a window of steps.

    Args:
        exponent: 1/2 for errors that add up like a Brownian motion, 1 for a line, 0 for distances
            that do not grow.
        low, high: its interval over prompts.
        scale: the fitted distance at step 1, in the unit of the distances (the paper's sigma).
        first_step, last_step: the window, counted from 1, both in it.
        num_prompts: those that have all of its steps.
    """

    exponent: float
    low: float
    high: float
    scale: float
    first_step: int
    last_step: int
    num_prompts: int


@dataclass(frozen=True)
class NoCone:
    """There is no exponent, and why."""

    reason: str


def fit_cone(
    distances: Measured,
    *,
    unrelated: float | None = None,
    first_step: int = 1,
    last_step: int | None = None,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> ConeFit | NoCone:
    """The exponent of growth: log of the root mean square over prompts = a + exponent * log k.

    Least squares, every step alike. All steps are of the same prompts, those that reach the last
    one, so that no step is of other texts than the step before. The window begins at the first step
    from `first_step` on at which MIN_PROMPTS prompts are off the gold text (a distance of 0 has no
    logarithm) and ends before the first that is saturated.

    The interval holds percentiles of prompts drawn anew, stretched as for few seeds (see
    `seed_stretch`); the window is not drawn anew.

    Args:
        distances: (N, L) of `state_distances`; where defined, from the first step on.
        unrelated: `unrelated_distance` of the gold states; None to keep saturated steps, for an
            exponent of the whole curve.
        last_step: last of the window, if no step before is saturated; None for the last that half
            of the prompts with any step reach, and MIN_PROMPTS of them.

    Raises:
        ValueError: steps below 1 or in the wrong order, or a confidence outside (0, 1).
    """
    reached_N = distances.defined.sum(1)
    reached_N = reached_N[reached_N > 0]
    if last_step is None:
        order = reached_N.sort(descending=True).values
        if len(order) < MIN_PROMPTS:
            return NoCone(f"{len(order)} prompts have a step: {MIN_PROMPTS} are needed")
        last_step = max(first_step, int(order[max((len(order) - 1) // 2, MIN_PROMPTS - 1)]))
    if not 1 <= first_step <= last_step:
        raise ValueError(f"steps are {first_step} to {last_step}: wanted 1 <= first <= last")
    used_N = distances.defined.sum(1) >= last_step
    num_prompts = int(used_N.sum())
    if num_prompts < MIN_PROMPTS:
        return NoCone(f"{num_prompts} prompts reach step {last_step}: {MIN_PROMPTS} are needed")
    squared_NK = distances.value[used_N, :last_step].square()
    window = _window(squared_NK, first_step, unrelated)
    if isinstance(window, NoCone):
        return window
    first, last = window
    squared_NK = squared_NK[:, first - 1 :]
    squared_NK = squared_NK[:, : last - first + 1]
    step_K = torch.arange(first, last + 1, dtype=torch.float64, device=squared_NK.device)
    exponent, level = _power_law(squared_NK.mean(0), step_K)
    slope_R, _ = _power_law(_resampled(squared_NK, num_resamples, seed), step_K)
    tail = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2]).to(slope_R)
    # Chance of a resample without any text that has left: below exp(-MIN_PROMPTS).
    drawn = slope_R[slope_R.isfinite()].quantile(tail)
    low, high = exponent + seed_stretch(num_prompts, confidence) * (drawn - exponent)
    return ConeFit(
        float(exponent), float(low), float(high), float(level.exp()), first, last, num_prompts
    )


def _window(squared_NK: Tensor, first: int, unrelated: float | None) -> tuple[int, int] | NoCone:
    """First and last step to fit, counted from 1."""
    off_K = ((squared_NK > 0).sum(0) >= MIN_PROMPTS).tolist()
    limit = math.inf if unrelated is None else (SATURATED * unrelated) ** 2
    free_K = (squared_NK.mean(0) <= limit).tolist()
    last = len(off_K)
    first = next((k for k in range(first, last + 1) if off_K[k - 1]), last + 1)
    if first > last:
        return NoCone(f"at no step are {MIN_PROMPTS} prompts off the gold text")
    if not free_K[first - 1]:
        return NoCone(f"saturated at step {first}, the first: distances are those of other texts")
    last = next((k for k in range(first, last) if not (off_K[k] and free_K[k])), last)
    if last - first + 1 < MIN_STEPS:
        return NoCone(f"only steps {first} to {last} can be fitted: {MIN_STEPS} are needed")
    return first, last


def _power_law(squared: Tensor, step_K: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept of half the log of mean squares (..., K) against log k."""
    log_K, log_distance = step_K.log(), squared.log() / 2
    centred_K = log_K - log_K.mean()
    slope = log_distance @ centred_K / centred_K.square().sum()
    return slope, log_distance.mean(-1) - slope * log_K.mean()


def _resampled(squared_NK: Tensor, num_resamples: int, seed: int) -> Tensor:
    """(R, K) means over prompts drawn with replacement, whole curves at a time."""
    number = len(squared_NK)
    generator = generator_of(seed, "cone")
    drawn_RN = torch.randint(number, (num_resamples, number), generator=generator)
    count_RN = torch.zeros(num_resamples, number, dtype=torch.float64)
    count_RN.scatter_add_(1, drawn_RN, torch.ones_like(drawn_RN, dtype=torch.float64))
    return count_RN.to(squared_NK) @ squared_NK / number
