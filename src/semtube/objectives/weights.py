"""How much an auxiliary term weighs beside the next-token loss, step by step.

A plain number is a constant weight. The classes here are the other choices; all are values:
they print themselves, compare equal and turn into plain dicts.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch

from semtube.objectives.arguments import (
    needs,
    needs_at_least_zero,
    needs_positive,
    needs_share,
    needs_whole,
)
from semtube.objectives.random_keys import draw_below, fold


@dataclass(frozen=True)
class Ramp:
    """From `start` to `weight` over `steps` steps, then constant.

    linear: start + (weight - start) p with p = min((step + 1) / steps, 1), so that the last step
    of the ramp has the full weight; cosine: the same with p replaced by (1 - cos(pi p)) / 2.
    A `start` above `weight` falls instead of rising.

    Args:
        weight: where it ends, at least 0.
        steps: length in optimizer steps; the whole run for the paper's warm-up.
        start: where it begins, at least 0.
        shape: `linear` or `cosine`.

    Source: option lbd_warmup of galilai-group/llm-jepa (linear, over the whole run).
    """

    kind: ClassVar[str] = "ramp"
    weight: float
    steps: int
    start: float = 0.0
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        needs_at_least_zero("weight", self.weight)
        needs_at_least_zero("start", self.start)
        needs_whole("steps", self.steps, 1)
        needs("shape", self.shape, ("linear", "cosine"))

    def at(self, step: int, key: int) -> float:
        """The weight of a step; `key` is not read."""
        part = min((step + 1) / self.steps, 1.0)
        if self.shape == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        return self.start + (self.weight - self.start) * part


@dataclass(frozen=True)
class Dropped:
    """Skip the term in a random share of the steps: weight 0 there, `weight` in the others.

    A skipped step costs nothing extra, not even the term's forward passes. To keep the mean
    pressure of a constant weight w, give w / (1 - rate).

    Args:
        weight: in the steps that have the term, at least 0.
        rate: share of the steps without it, in [0, 1).

    Source: loss dropout of LLM-JEPA, arXiv 2509.14252.
    """

    kind: ClassVar[str] = "dropped"
    weight: float
    rate: float

    def __post_init__(self) -> None:
        needs_at_least_zero("weight", self.weight)
        needs_share("rate", self.rate)

    def at(self, step: int, key: int) -> float:
        """The weight of a step; the same on every process, since it depends on key and step."""
        ticket = draw_below(fold(fold(torch.tensor(0), key), step), torch.tensor(1 << 30))
        return 0.0 if int(ticket) < self.rate * (1 << 30) else self.weight


@dataclass(frozen=True)
class Adaptive:
    """The weight that makes the term's gradient a chosen fraction of the next-token gradient.

    Both are measured at the hidden states, in the backward pass that is made anyway, so there is
    no second one:

        weight = fraction * |g_next_token| / |g_term|,

    where |g| is the norm over all states of an optimizer step (micro-batches and processes
    together) and g_term is the gradient at weight 1. Both squared norms are smoothed over past
    steps, and the step at hand uses the weight that the steps before it gave: it is then one
    number for all parts of a step, however the step is split. The first step, which has no past,
    uses FIRST.

    Args:
        fraction: of the next-token gradient, above 0.
        smoothing: share of the past in the running means, in [0, 1).
        maximum: upper bound of the weight, for a term whose gradient vanishes.
    """

    kind: ClassVar[str] = "adaptive"
    #: Weight of the first step: enough to measure by, too little to matter.
    FIRST: ClassVar[float] = 1e-3
    fraction: float = 0.05
    smoothing: float = 0.9
    maximum: float = 10.0

    def __post_init__(self) -> None:
        needs_positive("fraction", self.fraction)
        needs_share("smoothing", self.smoothing)
        needs_positive("maximum", self.maximum)


#: What an objective's `weight` may be.
Weight = float | Ramp | Dropped | Adaptive

_KINDS = {kind.kind: kind for kind in (Ramp, Dropped, Adaptive)}


def check(weight: Any) -> None:
    """Refuse what is no weight.

    Raises:
        ValueError: saying what is wanted.
    """
    if not isinstance(weight, int | float | Ramp | Dropped | Adaptive):
        raise ValueError(f"weight is {weight!r}: give a number, Ramp, Dropped or Adaptive")
    if isinstance(weight, int | float):
        needs_at_least_zero("weight", weight)


def is_never_used(weight: Weight) -> bool:
    """Whether the term is off for good."""
    if isinstance(weight, Ramp):
        return weight.weight == 0 and weight.start == 0
    if isinstance(weight, Dropped):
        return weight.weight == 0
    return weight == 0


def to_plain(weight: Weight) -> float | dict[str, Any]:
    """A number, or a dict whose `kind` names the class."""
    if isinstance(weight, int | float):
        return weight
    return {"kind": weight.kind, **asdict(weight)}


def from_plain(value: Any) -> Weight:
    """The inverse of `to_plain`.

    Raises:
        ValueError: an unknown kind or field.
    """
    if not isinstance(value, dict):
        return value
    fields = dict(value)
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise ValueError(f"weight has kind {kind!r}: use one of {tuple(_KINDS)}")
    try:
        return _KINDS[kind](**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"weight of kind {kind!r}: {error}") from error
