"""Points of the networks' figures: means over seeds, against P / (v m^3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from semtube.report.panels import Point
from semtube.rhm.slc_settings import SLCSettings

Rows = Sequence[Mapping[str, Any]]
"""Cells of `semtube.rhm.network_sweep` with what they found: settings, result, metrics."""

PAPER_NOTE = "Triangles and dashes: read off the paper's figure, at its own sizes."
OVER_VM3 = "P / (v m^3)"


def latent_theory(row: Mapping[str, Any]) -> int:
    """v m^3."""
    return row["num_features"] * row["num_synonyms"] ** 3


def slc_family(rows: Rows, *varied: str) -> Rows:
    """Runs of SLC that differ in nothing but the seed, P and the named settings.

    Of all such families the one with the most values of what varies, then with the most runs; the
    first of equals.
    """
    fixed = [f.name for f in fields(SLCSettings) if f.name not in ("seed", "num_strings", *varied)]
    families: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        families.setdefault(tuple(row[name] for name in fixed), []).append(row)
    return max(
        families.values(),
        key=lambda family: (
            len({tuple(row[name] for name in varied) for row in family}),
            len(family),
        ),
    )


def means(
    rows: Rows, series: Callable[[Mapping[str, Any]], str], y: Callable[[Mapping[str, Any]], float]
) -> list[Point]:
    """Mean over runs with one series and P, with the lowest and the highest as its bar."""
    found: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        key = series(row), row["num_strings"] / latent_theory(row)
        found.setdefault(key, []).append(y(row))
    return [
        Point(name, "ours", x, sum(values) / len(values), min(values), max(values))
        for (name, x), values in sorted(found.items())
    ]


def listed(rows: Rows, name: str, between: str = ", ") -> str:
    """The values of one setting, in order."""
    values = sorted({row[name] for row in rows})
    return between.join(
        x if isinstance(x, str) else f"{x:,}" if isinstance(x, int) else f"{x:g}" for x in values
    )


def losses_note(rows: Rows) -> str:
    """How runs of SLC weighed and combined their losses."""
    return (
        f"losses combined by {listed(rows, 'aggregation')}, clustering weighed by "
        f"{listed(rows, 'clustering_weight')}, S_m = {listed(rows, 'similarity_threshold')}, "
        f"lambda_spars = {listed(rows, 'sparsity_weight')}"
    )
