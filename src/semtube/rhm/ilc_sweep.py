"""Sweeps of Iterative Latent Clustering over numbers of strings and grammars."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from semtube.errors import UserError
from semtube.rhm.degeneracy import degeneracies
from semtube.rhm.grammar import Grammar
from semtube.rhm.ilc import LatentClustering
from semtube.rhm.paper import ILC_GRID, ILC_SIZES, ILC_THRESHOLDS
from semtube.rhm.scoring import (
    Estimate,
    bootstrap_estimate,
    crossing,
    hungarian_accuracy,
    resampled_medians,
)
from semtube.rhm.sizes import check_learnable, check_sizes, check_strings_fit
from semtube.rhm.sweeps import Cell, cell_generator
from semtube.rhm.theory import latent_threshold, threshold

Accuracy = Literal["p50", "p90"]
"""Where a curve crosses 50 % or 90 %."""
SIZES = ("num_features", "num_synonyms", "branching", "depth")


def threshold_grid(
    target: str, num_features: int, num_synonyms: int, depth: int, *, num_points: int = 14
) -> list[int]:
    """Numbers of strings in steps of sqrt(2), around the target's threshold in theory.

    From 1/4 (latent) or 1/8 (token, root: they cross lower) of it, but not below v.
    """
    theory = threshold(target, num_features, num_synonyms, depth)
    first = max(theory / (4 if target == "latent" else 8), num_features)
    return [round(first * 2 ** (step / 2)) for step in range(num_points)]


def doubling_grid(
    targets: Sequence[str], *, num_features: int, num_synonyms: int, branching: int, depth: int
) -> list[int]:
    """Numbers of strings for several targets together, each twice the one before.

    From v m^3 / 4, but not below v, up to 4 times the largest threshold in theory.

    Raises:
        UserError: see `ilc_cells`.
    """
    _check_learner_sizes(num_features, num_synonyms, branching, depth)
    largest = max(threshold(target, num_features, num_synonyms, depth) for target in targets)
    points = [max(num_features * num_synonyms**3 // 4, num_features)]
    while points[-1] < 4 * largest:
        points.append(2 * points[-1])
    return points


def ilc_cells(
    learner: LatentClustering,
    *,
    num_features: int,
    num_synonyms: int,
    branching: int,
    depth: int,
    num_strings: Iterable[int],
    num_grammars: int,
    seed: int,
    degenerate: Literal["keep", "redraw"] = "keep",
) -> list[Cell]:
    """The cells of one curve: every number of strings for every grammar.

    Raises:
        UserError: impossible sizes, f = 1, a depth without latents below the root, no grammar or
            restart, fewer strings than symbols, or more strings than fit in memory.
    """
    _check_learner_sizes(num_features, num_synonyms, branching, depth)
    for name, value in (("num_grammars", num_grammars), ("num_restarts", learner.num_restarts)):
        if value < 1:
            raise UserError(f"{name} is {value}: at least 1 is needed")
    points = sorted(set(num_strings))
    if not points or points[0] < num_features:
        raise UserError(
            f"num_strings {points[0] if points else 'is empty'}: at least num_features, "
            f"{num_features}, are needed"
        )
    check_strings_fit(points[-1], num_features, branching, depth)
    return [
        {
            "system": "ilc",
            **asdict(learner),
            "num_features": num_features,
            "num_synonyms": num_synonyms,
            "branching": branching,
            "depth": depth,
            "degenerate": degenerate,
            "num_strings": count,
            "grammar": grammar,
            "seed": seed,
        }
        for count in points
        for grammar in range(num_grammars)
    ]


def _check_learner_sizes(num_features: int, num_synonyms: int, branching: int, depth: int) -> None:
    check_sizes(num_features, num_synonyms, branching, depth)
    check_learnable(num_features, num_synonyms, branching)
    if depth < 2:
        raise UserError(f"depth is {depth}: at least 2 is needed, or no latent is below the root")


def run_ilc_cell(cell: Cell) -> dict[str, Any]:
    """Draw grammar and strings, recover the latents, score them on the same strings.

    Grammar, strings and k-means seeds do not depend on the target: arms differ in nothing else.

    Returns:
        accuracy: Hungarian accuracy of levels 1..L-1; degeneracies: of the grammar, in words;
        seconds.
    """
    from threadpoolctl import threadpool_limits

    begin = time.perf_counter()
    sizes = {name: cell[name] for name in SIZES}
    key = sizes | {"grammar": cell["grammar"], "degenerate": cell["degenerate"]}
    grammar = Grammar.draw(
        **sizes,
        degenerate=cell["degenerate"],
        generator=cell_generator(cell["seed"], "grammar", **key),
    )
    key |= {"num_strings": cell["num_strings"]}
    latents = grammar.sample(cell["num_strings"], cell_generator(cell["seed"], "strings", **key))
    learner = LatentClustering(**{part.name: cell[part.name] for part in fields(LatentClustering)})
    # A few dozen points: threads would only wait for each other.
    with threadpool_limits(1):
        recovered = learner.recover(
            latents[0],
            num_features=grammar.num_features,
            branching=grammar.branching,
            generator=cell_generator(cell["seed"], "clusters", **key),
            root=latents[-1] if learner.target == "root" else None,
        )
    accuracy = [
        hungarian_accuracy(
            codes, truth, num_codes=grammar.num_features, num_features=grammar.num_features
        )
        for codes, truth in zip(recovered[1:], latents[1:-1], strict=True)
    ]
    return {
        "accuracy": accuracy,
        "degeneracies": [str(fault) for fault in degeneracies(grammar.rules)],
        "seconds": round(time.perf_counter() - begin, 3),
    }


def crossings(
    rows: Sequence[dict[str, Any]], accuracy_level: float, *, level: int = -1
) -> list[float]:
    """For each grammar of one curve, the number of strings at which it crosses.

    Args:
        rows: of `run_sweep` over the cells of one `ilc_cells`.
        accuracy_level: 0.5 for P50, 0.9 for P90.
        level: place in `accuracy`; the highest level below the root by default.
    """
    found = []
    for grammar in sorted({row["grammar"] for row in rows}):
        curve = sorted(
            (row["num_strings"], row["accuracy"][level])
            for row in rows
            if row["grammar"] == grammar
        )
        found.append(crossing([p for p, _ in curve], [a for _, a in curve], accuracy_level))
    return found


@dataclass(frozen=True)
class Thresholds:
    """Where the grammars of one curve cross 50 % and 90 %.

    Attributes:
        target, num_features, num_synonyms, branching, depth: of the curve.
        num_strings: its grid.
        accuracies: one list for each number of strings: the highest level below the root, by
            grammar.
        p50_by_grammar, p90_by_grammar: see `crossings`.
    """

    target: str
    num_features: int
    num_synonyms: int
    branching: int
    depth: int
    num_strings: list[int]
    accuracies: list[list[float]]
    p50_by_grammar: list[float]
    p90_by_grammar: list[float]

    @property
    def theory(self) -> float:
        """v m^3, v m^(L+1) or v m^L."""
        return threshold(self.target, self.num_features, self.num_synonyms, self.depth)

    def medians(self, accuracy: Accuracy) -> np.ndarray:
        """(1 + resamples,) see `resampled_medians`; paired between targets of equal size."""
        values = self.p50_by_grammar if accuracy == "p50" else self.p90_by_grammar
        sizes = {name: getattr(self, name) for name in SIZES}
        return resampled_medians(values, cell_generator(0, "bootstrap", **sizes))

    def estimate(self, accuracy: Accuracy) -> Estimate:
        """Median over grammars with its 95 % bootstrap interval."""
        return bootstrap_estimate(self.medians(accuracy))

    def num_at_first(self, accuracy: Accuracy) -> int:
        """Grammars that are there at the first point already: their threshold may be lower."""
        values = self.p50_by_grammar if accuracy == "p50" else self.p90_by_grammar
        return sum(value == self.num_strings[0] for value in values)

    def shown(self, accuracy: Accuracy) -> str:
        """The estimate in words."""
        estimate, first = self.estimate(accuracy), self.num_strings[0]
        if not math.isfinite(estimate.value):
            return f"above {self.num_strings[-1]:,}"
        sign = "at most " if estimate.value <= first else ""
        high = f"{estimate.high:,.0f}" if math.isfinite(estimate.high) else "never"
        return f"{sign}{estimate.value:,.0f} ({estimate.low:,.0f} to {high})"

    def as_json(self) -> dict[str, Any]:
        """Plain values; None for what never crosses."""
        values = asdict(self) | {"theory": self.theory}
        values["accuracies"] = [[round(x, 5) for x in row] for row in self.accuracies]
        for accuracy in ("p50", "p90"):
            by_grammar = values[f"{accuracy}_by_grammar"]
            values[f"{accuracy}_by_grammar"] = [x if math.isfinite(x) else None for x in by_grammar]
            values[accuracy] = self.estimate(accuracy).as_json()
            values[f"{accuracy}_at_first_point"] = self.num_at_first(accuracy)
        return values


def thresholds(rows: Sequence[dict[str, Any]]) -> Thresholds:
    """Thresholds of one curve.

    Args:
        rows: of `run_sweep` over the cells of one `ilc_cells`.
    """
    points = sorted({row["num_strings"] for row in rows})
    table = {(row["num_strings"], row["grammar"]): row["accuracy"][-1] for row in rows}
    grammars = sorted({row["grammar"] for row in rows})
    return Thresholds(
        target=rows[0]["target"],
        **{name: rows[0][name] for name in SIZES},
        num_strings=points,
        accuracies=[[table[count, grammar] for grammar in grammars] for count in points],
        p50_by_grammar=crossings(rows, 0.5),
        p90_by_grammar=crossings(rows, 0.9),
    )


def figure_3_cells(size: Literal["small", "paper"], *, seed: int = 0) -> list[Cell]:
    """The grid of the paper's Figure 3 left, or a smaller one: v = 8, s = 3, 3 grammars.

    One position, all contexts, which looks most like the paper's curves. "paper": L = 5,
    m = 6..32, 16 log-spaced points from 512 to 300 v m^3. "small": L = 4, m = 6, 8, 12, 11 points
    from 1/4 to 8 v m^3.
    """
    cells = []
    for num_synonyms in (6, 8, 12) if size == "small" else tuple(ILC_THRESHOLDS):
        theory = latent_threshold(ILC_SIZES["num_features"], num_synonyms)
        if size == "small":
            points = [round(theory * 2 ** (step / 2)) for step in range(-4, 7)]
        else:
            points = np.geomspace(
                ILC_GRID["first"], ILC_GRID["last_over_vm3"] * theory, ILC_GRID["num_points"]
            )
            points = [round(point) for point in points.tolist()]
        cells += ilc_cells(
            LatentClustering("latent", positions="one", contexts="all"),
            num_features=ILC_SIZES["num_features"],
            num_synonyms=num_synonyms,
            branching=ILC_SIZES["branching"],
            depth=4 if size == "small" else ILC_SIZES["depth"],
            num_strings=points,
            num_grammars=ILC_GRID["num_grammars"],
            seed=seed,
        )
    return cells
