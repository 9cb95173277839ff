"""Every measure under its name: unit, range, cost and what it is to be held against."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from semtube.geometry.measured import Measured
from semtube.geometry.nulls import NullValue, pooled, simulate
from semtube.geometry.paths import Paths
from semtube.geometry.straightness import (
    SPANS,
    chord_over_path,
    curvature,
    span_loss_by_length,
    step_length,
    tube_loss,
    tube_loss_by_width,
    turning_angle_rad,
)
from semtube.geometry.tube_radius import WINDOWS, straightening_lemma, tube_radius

#: Version of what is stored of a probe: another where a number of one name means something else.
PROBE_FORMAT = 3
#: `cheap` measures are for every batch of a training run's log; `dear` ones for a probe.
Cost = Literal["cheap", "dear"]


@dataclass(frozen=True)
class Measure:
    """What a number means.

    Args:
        name: its name in tables.
        over: what has one value: a document's trajectory, a set of states, a pair of neighbouring
            layers, or a pair of checkpoints.
        unit: "" for a pure number, "rad", "nats", "state" for the unit of the states, "1/state".
        low, high: range; `math.inf` for none.
        null: what it is held against. "simulated": the nulls of `nulls.NULLS`, at the same length
            and width, and for a measure with a unit with steps of the same length.
        cost: see `Cost`.
        lengths: in tokens, where there is a value for each; else empty.
    """

    name: str
    over: Literal["document", "set", "layers", "checkpoints"]
    unit: str
    low: float
    high: float
    null: str = "simulated"
    cost: Cost = "cheap"
    lengths: tuple[int, ...] = ()

    @property
    def power(self) -> int:
        """Which power of the states' unit it is measured in: 0 for a ratio or an angle."""
        return {"state": 1, "1/state": -1}.get(self.unit, 0)


@dataclass(frozen=True)
class Family:
    """Measures of a document that are computed together.

    Args:
        compute: from paths to the value of each measure, in the order of `measures`.
        increments: whether it wants `Paths.of_increments`.
    """

    compute: Callable[[Paths], tuple[Measured, ...]]
    measures: tuple[Measure, ...]
    increments: bool = False


def _tube(paths: Paths) -> tuple[Measured, ...]:
    tube = tube_radius(paths)
    return (
        tube.largest,
        tube.largest_relative,
        tube.mean_relative,
        tube.parallel,
        tube.perpendicular,
        tube.noise_to_signal,
    )


def _lemma(paths: Paths) -> tuple[Measured, ...]:
    lemma = straightening_lemma(paths)
    return lemma.largest_ratio, lemma.mean_ratio, lemma.num_violations


def _document(name: str, unit: str, high: float, **rest: object) -> Measure:
    return Measure(name, "document", unit, 0.0, high, **rest)  # type: ignore[arg-type]


def _dear(name: str, unit: str, high: float) -> Measure:
    return _document(name, unit, high, cost="dear", lengths=WINDOWS)


FAMILIES: tuple[Family, ...] = (
    Family(lambda paths: (tube_loss(paths),), (_document("tube_loss", "", 2),)),
    Family(
        lambda paths: (tube_loss(paths, form="span"),),
        (_document("span_loss", "", 2),),
        increments=True,
    ),
    Family(
        lambda paths: (turning_angle_rad(paths),), (_document("turning_angle", "rad", math.pi),)
    ),
    Family(lambda paths: (step_length(paths),), (_document("step_length", "state", math.inf),)),
    Family(lambda paths: (curvature(paths),), (_document("curvature", "1/state", math.inf),)),
    Family(lambda paths: (chord_over_path(paths),), (_document("chord_over_path", "", 1),)),
    Family(
        lambda paths: (tube_loss_by_width(paths),),
        (_document("tube_loss_by_width", "", 2, cost="dear", lengths=SPANS),),
    ),
    Family(
        lambda paths: (span_loss_by_length(paths),),
        (_document("span_loss_by_length", "", 2, cost="dear", lengths=SPANS),),
        increments=True,
    ),
    Family(
        _tube,
        (
            _dear("tube_radius", "state", math.inf),
            _dear("tube_radius_relative", "", math.inf),
            _dear("tube_deviation_relative", "", math.inf),
            _dear("parallel", "state", math.inf),
            _dear("perpendicular", "state", math.inf),
            _dear("noise_to_signal", "", math.inf),
        ),
    ),
    Family(
        _lemma,
        (
            _dear("lemma_largest_ratio", "", 1),
            _dear("lemma_mean_ratio", "", 1),
            _dear("lemma_num_violations", "", math.inf),
        ),
    ),
)

#: Name -> share of the positions whose transport is below. Ours.
TRANSPORT_QUANTILES = (("tenth", 0.1), ("median", 0.5), ("nine_tenths", 0.9))

_GAUSSIAN = "Gaussian states of the same number and width"
_INDEPENDENT = f"{_GAUSSIAN}; independent coordinates of the same variances"
_EVEN = "directions spread evenly (0)"
_DEALT = "answers dealt out anew"
_SHUFFLED = "the same states in classes dealt out anew"

#: Measures that no family computes: what does is named in their own files.
OTHERS: tuple[Measure, ...] = (
    Measure("loss", "set", "nats", 0, math.inf, "all tokens alike", "dear"),
    Measure(
        "stop_log_probability", "document", "nats", -math.inf, 0, "all tokens alike", "dear"
    ),
    Measure("effective_rank", "set", "", 0, math.inf, _INDEPENDENT),
    Measure("first_share", "set", "", 0, 1, _INDEPENDENT),
    Measure("anisotropy", "set", "", -1, 1, _GAUSSIAN),
    Measure("spectral_tail", "set", "", -math.inf, math.inf, _INDEPENDENT),
    Measure("spectral_tail_r_squared", "set", "", 0, 1, _INDEPENDENT),
    Measure("views_mean_singular_value", "set", "state", 0, math.inf, _DEALT, "dear"),
    Measure("views_residual", "set", "state", 0, math.inf, _DEALT, "dear"),
    Measure("views_residual_share", "set", "", 0, 1, _DEALT, "dear"),
    Measure("concept_within", "set", "", -1, 1, "other phrases", "dear"),
    Measure("concept_across", "set", "", -1, 1, _EVEN, "dear"),
    *(
        Measure(
            f"cone_exponent_{kind}_since_{since}",
            "set",
            "",
            -math.inf,
            math.inf,
            # Since the prompt a curve is also of how many have left, and when.
            "Brownian (1/2), saturated (0)"
            if since == "divergence"
            else "Brownian once apart, saturated once apart",
            "dear",
        )
        for kind in ("greedy", "sampled")
        for since in ("prompt", "divergence")
    ),
    *(
        Measure(
            f"cone_distance_{kind}_since_{since}", "document", "", 0, math.inf,
            "unrelated states (1)", "dear",
        )
        for kind in ("greedy", "sampled")
        for since in ("prompt", "divergence")
    ),
    *(
        Measure(
            f"nearest_other_{kind}", "document", "", 0, math.inf,
            "none: it is theirs" if kind == "gold" else "the gold texts'", "dear",
        )
        for kind in ("gold", "greedy", "sampled")
    ),
    *(
        Measure(f"near_collision_share_{kind}", "set", "", 0, 1, "the gold texts'", "dear")
        for kind in ("greedy", "sampled")
    ),
    Measure("cell_margin", "document", "state", -math.inf, math.inf, "other tokens", "dear"),
    Measure("capacity", "set", "", 0, math.inf, _SHUFFLED, "dear"),
    Measure("capacity_dimension", "set", "", 0, math.inf, _SHUFFLED, "dear"),
    Measure("capacity_radius", "set", "", 0, math.inf, _SHUFFLED, "dear"),
    Measure("capacity_utility", "set", "", 0, math.inf, _SHUFFLED, "dear"),
    Measure("feature_stability", "set", "", -1, 1, _GAUSSIAN, "dear"),
    Measure("feature_stability_raw", "set", "", -1, 1, _GAUSSIAN, "dear"),
    *(
        Measure(f"transport{of}", "layers", "rad", 0, math.pi, "other positions", "dear")
        for of in ("", *(f"_{name}" for name, _ in TRANSPORT_QUANTILES))
    ),
    Measure("drift", "checkpoints", "", 0, 2, "nothing in common (1)", "dear"),
)  # fmt: skip

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (*(m for family in FAMILIES for m in family.measures), *OTHERS)
}


def measure_documents(states: Paths, increments: Paths, *, dear: bool) -> dict[str, Measured]:
    """Every measure of every document, by name: (N,), or (N, W) for one with lengths.

    Args:
        states, increments: `Paths.of_documents` and `Paths.of_increments` of one batch.
        dear: with those of that cost.
    """
    found = {}
    for family in FAMILIES:
        if dear or family.measures[0].cost == "cheap":
            values = family.compute(increments if family.increments else states)
            found |= {m.name: value for m, value in zip(family.measures, values, strict=True)}
    return found


def null_values(
    null: str, *, num_tokens: int, width: int, dear: bool, num_paths: int = 32, seed: int = 0
) -> dict[str, NullValue]:
    """What every measure of a document says of a null, see `nulls.null_value`."""
    found = []
    for k in range(num_paths):
        paths = simulate(null, num_tokens=num_tokens, width=width, num_paths=1, seed=seed, first=k)
        # Without template between the tokens, increments run along the path itself.
        found.append(measure_documents(paths, paths, dear=dear))
    return {name: pooled([each[name] for each in found]) for name in found[0]}
