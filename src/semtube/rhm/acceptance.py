"""The measurement that the lab has to show: thresholds of own latents against those of tokens.

v = 16 symbols, s = 2 children, 4 grammars, k-means restarted 6 times. Set A varies the depth L at
m = 4 rules; set C varies m at L = 4. Targets "latent" and "token" take all positions and contexts,
"root" one position. The threshold P50 of a grammar is where the accuracy of level L - 1 crosses
50 %, P90 where it crosses 90 %; a set's is the median over grammars, all of them counted, with a
95 % bootstrap interval over grammars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from semtube.rhm.ilc import LatentClustering, Target
from semtube.rhm.ilc_sweep import Thresholds, ilc_cells, threshold_grid
from semtube.rhm.scoring import Estimate, bootstrap_estimate, log_log_slope
from semtube.rhm.sweeps import Cell
from semtube.rhm.theory import exponent, threshold

NUM_FEATURES, BRANCHING = 16, 2
SET_A_SYNONYMS, SET_C_DEPTH = 4, 4
#: Target -> depths of set A.
SET_A: dict[Target, tuple[int, ...]] = {
    "latent": (3, 4, 5, 6), "token": (3, 4, 5), "root": (2, 3, 4),
}  # fmt: skip
#: Target -> numbers of rules of set C.
SET_C: dict[Target, tuple[int, ...]] = {"latent": (2, 3, 4, 6, 8), "token": (2, 3, 4, 5)}
#: What of both sets takes seconds.
SMALL_A: dict[Target, tuple[int, ...]] = {"latent": (3, 4, 5, 6), "token": (3, 4), "root": (2, 3)}
SMALL_C: dict[Target, tuple[int, ...]] = {"latent": (2, 3, 4), "token": (2, 3, 4)}


@dataclass(frozen=True)
class Curve:
    """Accuracy against the number of strings for one target at one size."""

    target: Target
    num_synonyms: int
    depth: int

    @property
    def theory(self) -> float:
        """v m^3, v m^(L+1) or v m^L."""
        return threshold(self.target, NUM_FEATURES, self.num_synonyms, self.depth)

    def cells(self, *, num_grammars: int = 4, seed: int = 0) -> list[Cell]:
        """14 numbers of strings for every grammar."""
        if self.target == "root":
            learner = LatentClustering("root", positions="one", contexts="one")
        else:
            learner = LatentClustering(self.target)
        grid = threshold_grid(self.target, NUM_FEATURES, self.num_synonyms, self.depth)
        return ilc_cells(
            learner,
            num_features=NUM_FEATURES,
            num_synonyms=self.num_synonyms,
            branching=BRANCHING,
            depth=self.depth,
            num_strings=grid,
            num_grammars=num_grammars,
            seed=seed,
        )


def acceptance_curves(size: Literal["small", "full"]) -> list[Curve]:
    """Sets A and C without repetition, the cheap ones first."""
    set_a, set_c = (SET_A, SET_C) if size == "full" else (SMALL_A, SMALL_C)
    curves = [Curve(t, SET_A_SYNONYMS, depth) for t, depths in set_a.items() for depth in depths]
    curves += [Curve(t, m, SET_C_DEPTH) for t, rules in set_c.items() for m in rules]
    return sorted(dict.fromkeys(curves), key=lambda curve: curve.theory)


@dataclass(frozen=True)
class Check:
    """One thing to show: an estimate and the range it should lie in."""

    name: str
    estimate: Estimate
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the estimate itself lies in the range."""
        return self.low <= self.estimate.value <= self.high


def acceptance_checks(measured: Sequence[Thresholds]) -> list[Check]:
    """Depth, growth, slopes and ratio, as far as both curves of each were measured."""
    found = {(t.target, t.num_synonyms, t.depth): t for t in measured}

    def along(target: Target, set_name: Literal["A", "C"]) -> dict[int, np.ndarray]:
        """Depth (A) or m (C) -> medians."""
        if set_name == "A":
            keys = {depth: (target, SET_A_SYNONYMS, depth) for depth in SET_A[target]}
        else:
            keys = {m: (target, m, SET_C_DEPTH) for m in SET_C[target]}
        return {x: found[key].medians("p50") for x, key in keys.items() if key in found}

    checks = []
    latent, token = along("latent", "A"), along("token", "A")
    if len(latent) > 1:
        stacked = np.stack(list(latent.values()))
        ratio = stacked.max(0) / stacked.min(0)
        name = f"latent: largest over smallest P50, L = {_listed(latent)}"
        checks.append(Check(name, bootstrap_estimate(ratio), 1, 1.5))
    for depth in token:
        if depth + 1 in token:
            growth = token[depth + 1] / token[depth]
            name = f"token: P50 at L = {depth + 1} over L = {depth}"
            checks.append(Check(name, bootstrap_estimate(growth), 3, 6))
    for target in ("latent", "token"):
        medians = along(target, "C")
        if len(medians) > 1:
            slope = bootstrap_estimate(log_log_slope(list(medians), list(medians.values())))
            want = exponent(target, SET_C_DEPTH)
            name = f"{target}: slope of log P50 in log m, m = {_listed(medians)}"
            checks.append(Check(name, slope, want - 0.3, want + 0.3))
    if 5 in latent and 5 in token:
        ratio = bootstrap_estimate(token[5] / latent[5])
        checks.append(Check("token over latent P50 at L = 5", ratio, 20, np.inf))
    return checks


def _listed(numbers: Mapping[int, Any]) -> str:
    return ", ".join(map(str, numbers))
