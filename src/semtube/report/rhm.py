"""Figures of the theory lab: clustering curves under both scalings, thresholds against theory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semtube.report.network_points import listed
from semtube.report.panels import Panel, Point, write_panels
from semtube.rhm.acceptance import SET_A_SYNONYMS, SET_C_DEPTH
from semtube.rhm.ilc import TARGETS
from semtube.rhm.ilc_sweep import Thresholds
from semtube.rhm.paper import ILC_SIZES, ILC_THRESHOLDS, SLC_SIZES, SLC_THRESHOLDS
from semtube.rhm.scoring import crossing, log_median
from semtube.rhm.theory import exponent, latent_threshold, threshold

Rows = Sequence[Mapping[str, Any]]
"""One dict for every run: num_features, num_synonyms, branching, depth, num_strings, grammar, and
accuracy, a share of 1 or a list of them by level, the highest level last."""


def draw_figure_3(ilc: Rows, slc: Rows, stem: Path) -> None:
    """Accuracy against P / (v m^3), and the 50 % threshold against m.

    First two panels Iterative Latent Clustering, then Stacked Latent Clustering if there are runs.
    Curves are means over grammars; the paper has a threshold for each m and, of the curve, the
    point at 50 % that belongs to it.

    Source: arXiv 2605.27734, Figure 3.
    """
    panels, notes = [], []
    for name, rows, thresholds, sizes in _systems(ilc, slc):
        panels += [
            _curves(name, rows, "P / (v m^3)", _over_vm3, thresholds, sizes),
            _thresholds_in_m(name, rows, thresholds, sizes),
        ]
        notes.append(f"{name}: {size_note(rows)} {_paper_note(sizes)}{PROBE_NOTES[name]}")
    write_panels(
        panels,
        title="Learning from one's own latents, in the scaling P / (v m^3)",
        notes=[
            *notes,
            "Lines: means over grammars. Triangles and dashes: read off the paper's figure.",
        ],
        stem=stem,
    )


def draw_figure_11(ilc: Rows, slc: Rows, stem: Path) -> None:
    """The curves of Figure 3 in the scaling of token prediction, which does not fit them.

    Clustering against P / m^(L+1), the network against P / (v m^(L+1)), as in the paper.

    Source: arXiv 2605.27734, Figure 11.
    """
    panels, notes = [], []
    for name, rows, thresholds, sizes in _systems(ilc, slc):
        if name == ILC:
            x_title, scale = "P / m^(L+1)", _over_m_tokens
        else:
            x_title, scale = "P / (v m^(L+1))", _over_vm_tokens
        panels.append(_curves(name, rows, x_title, scale, thresholds, sizes))
        paper = _paper_note(sizes) + PROBE_NOTES[name]
        notes.append(f"{name}: {size_note(rows)} {paper} {_spread_note(rows)}")
    write_panels(
        panels,
        title="The same curves in the scaling of tokens",
        notes=[
            *notes,
            "Lines: means over grammars. Triangles and dashes: read off the paper's figure.",
        ],
        stem=stem,
    )


def draw_ilc(rows: Rows, measured: Sequence[Thresholds], stem: Path) -> None:
    """Accuracy against the number of strings, one curve a target, with theory's thresholds."""
    points = []
    for curve in measured:
        for count, values in zip(curve.num_strings, curve.accuracies, strict=True):
            middle = float(log_median(np.array(values)))
            points.append(Point(curve.target, "ours", count, middle, min(values), max(values)))
    panel = Panel(
        "Highest level below the root", "strings P", "accuracy", points, y_domain=(0, 1),
        rules={curve.theory: f"{curve.target}: {curve.theory:,.0f}" for curve in measured},
    )  # fmt: skip
    write_panels(
        [panel],
        title="Accuracy by what is predicted",
        notes=[
            f"Iterative Latent Clustering, {size_note(rows)} Lines: median over grammars; bars: "
            "lowest to highest grammar. Upright dashes: thresholds in theory, constant 1."
        ],
        stem=stem,
    )


def draw_thresholds(curves: Sequence[Mapping[str, Any]], stem: Path) -> None:
    """Measured 50 % thresholds beside those of theory, against depth and against m.

    Args:
        curves: `Thresholds.as_json` of sets A and C, see `semtube.rhm.acceptance`.
    """
    # Targets in one order, or panels would give them different colours.
    curves = sorted(curves, key=lambda curve: TARGETS.index(curve["target"]))
    by_depth = [p for c in curves if c["num_synonyms"] == SET_A_SYNONYMS for p in _pair(c, "depth")]
    by_synonyms = [
        point
        for curve in curves
        if curve["depth"] == SET_C_DEPTH and curve["target"] != "root"
        for point in _pair(curve, "num_synonyms")
    ]
    panels = [
        Panel(
            f"Against depth, m = {SET_A_SYNONYMS}", "depth L", "strings at 50 %", by_depth,
            log_x=False, log_y=True, x_ticks=sorted({p.x for p in by_depth}),
        ),
        Panel(
            f"Against the number of rules, L = {SET_C_DEPTH}", "rules of a symbol, m",
            "strings at 50 %", by_synonyms, log_y=True, x_ticks=sorted({p.x for p in by_synonyms}),
        ),
    ]  # fmt: skip
    first = curves[0]
    notes = [
        f"Iterative Latent Clustering, v = {first['num_features']}, s = {first['branching']}, "
        f"{len(first['p50_by_grammar'])} grammars a point. Marks: median over grammars of the "
        "number of strings at which the highest level below the root crosses 50 %; bars: 95 % "
        "bootstrap interval over grammars, where it is finite.",
        "Dots: theory with constant 1: latent v m^3, token v m^(L+1), root v m^L.",
    ]
    floors = [c for c in curves if c["p50"]["value"] == c["num_strings"][0]]
    notes += [
        f"{c['target']}, L = {c['depth']}, m = {c['num_synonyms']}: at 50 % at the first point of "
        "its grid already, so at most what is drawn."
        for c in floors
    ]
    write_panels(panels, title="Strings needed, by what is predicted", notes=notes, stem=stem)


def _pair(curve: Mapping[str, Any], axis: str) -> list[Point]:
    """The measured point and that of theory."""
    p50, name, x = curve["p50"], curve["target"], curve[axis]
    value = math.inf if p50["value"] is None else p50["value"]
    return [
        Point(name, "ours", x, value, p50["low"], p50["high"]),
        Point(name, "theory", x, curve["theory"]),
    ]


def size_note(rows: Rows) -> str:
    """The size that was run, in one sentence."""
    v, s, depth = (listed(rows, name) for name in ("num_features", "branching", "depth"))
    grammars = len({row["grammar"] for row in rows})
    p = [row["num_strings"] for row in rows]
    return (
        f"v = {v}, s = {s}, L = {depth}, m = {listed(rows, 'num_synonyms')}, P = {min(p):,} to "
        f"{max(p):,}, {grammars} grammar{'s' if grammars > 1 else ''} a point."
    )


def mean_curves(rows: Rows) -> dict[int, list[tuple[int, float]]]:
    """m -> (P, accuracy averaged over grammars), P increasing."""
    found: dict[int, dict[int, list[float]]] = {}
    for row in rows:
        accuracy = row["accuracy"]
        value = accuracy[-1] if isinstance(accuracy, Sequence) else accuracy
        found.setdefault(row["num_synonyms"], {}).setdefault(row["num_strings"], []).append(value)
    return {
        m: [(p, sum(values) / len(values)) for p, values in sorted(curve.items())]
        for m, curve in sorted(found.items())
    }


def curve_thresholds(rows: Rows) -> dict[int, float]:
    """m -> strings at which its mean curve crosses 50 %; infinity if it does not."""
    return {
        m: crossing([p for p, _ in curve], [a for _, a in curve], 0.5)
        for m, curve in mean_curves(rows).items()
    }


ILC, SLC = "Iterative clustering (k-means)", "Stacked network"
#: What `accuracy` is, and what the notes say of it.
ACCURACIES = {ILC: "accuracy, highest level", SLC: "accuracy, root, MLP probe"}
PROBE_NOTES = {ILC: "", SLC: " The paper's probe of the root is linear."}
Scale = Callable[[int, int, int], float]
"""(v, m, L) -> what P is divided by."""


def _over_vm3(v: int, m: int, depth: int) -> float:
    return latent_threshold(v, m)


def _over_m_tokens(v: int, m: int, depth: int) -> float:
    return float(m ** (depth + 1))


def _over_vm_tokens(v: int, m: int, depth: int) -> float:
    return threshold("token", v, m, depth)


def _systems(ilc: Rows, slc: Rows) -> list[tuple[str, Rows, dict[int, float], dict[str, int]]]:
    systems = [
        (ILC, ilc, ILC_THRESHOLDS, ILC_SIZES),
        (SLC, slc, SLC_THRESHOLDS, SLC_SIZES),
    ]
    return [system for system in systems if system[1]]


def _curves(
    name: str,
    rows: Rows,
    x_title: str,
    scale: Scale,
    paper_thresholds: Mapping[int, float],
    paper_sizes: Mapping[str, int],
) -> Panel:
    """Mean accuracy of each m against P over its scale, and the paper's points at 50 %."""
    v, depth = rows[0]["num_features"], rows[0]["depth"]
    paper_v, paper_depth = paper_sizes["num_features"], paper_sizes["depth"]
    curves = mean_curves(rows)
    points = [
        Point(f"m = {m}", "ours", p / scale(v, m, depth), accuracy)
        for m, curve in curves.items()
        for p, accuracy in curve
    ]
    points += [
        Point(f"m = {m}", "paper", paper_thresholds[m] / scale(paper_v, m, paper_depth), 0.5)
        for m in curves
        if m in paper_thresholds
    ]
    return Panel(name, x_title, ACCURACIES[name], points, y_domain=(0, 1))


def _thresholds_in_m(
    name: str, rows: Rows, paper_thresholds: Mapping[int, float], paper_sizes: Mapping[str, int]
) -> Panel:
    """P* against m with both slopes of theory."""
    v, depth = rows[0]["num_features"], rows[0]["depth"]
    own = f"L = {depth}"
    found = curve_thresholds(rows)
    points = [Point(own, "ours", m, p) for m, p in found.items()]
    paper = f"paper, L = {paper_sizes['depth']}"
    points += [Point(paper, "paper", m, p) for m, p in paper_thresholds.items()]
    for m in sorted({*found, *paper_thresholds}):
        points.append(Point("v m^3", "theory", m, threshold("latent", v, m, depth)))
        if m in found:
            points.append(Point("v m^(L+1)", "theory", m, threshold("token", v, m, depth)))
    return Panel(
        f"{name}: threshold", "rules of a symbol, m", "strings at 50 %", points, log_y=True,
        x_ticks=sorted({int(p.x) for p in points}),
    )  # fmt: skip


def _paper_note(sizes: Mapping[str, int]) -> str:
    return f"Paper: v = {sizes['num_features']}, s = {sizes['branching']}, L = {sizes['depth']}."


def _spread_note(rows: Rows) -> str:
    """How far apart the curves lie in either scaling."""
    v, depth = rows[0]["num_features"], rows[0]["depth"]
    found = {m: p for m, p in curve_thresholds(rows).items() if math.isfinite(p)}
    if len(found) < 2:
        return "Fewer than two curves cross 50 %."
    factors = [
        max(ratios) / min(ratios)
        for target in ("latent", "token")
        for ratios in [[p / _power(target, m, depth) for m, p in found.items()]]
    ]
    return (
        f"The 50 % points of {len(found)} values of m spread by a factor {factors[0]:.1f} in "
        f"P / (v m^3) and {factors[1]:.1f} in P / (v m^{exponent('token', depth)}), v = {v}."
    )


def _power(target: str, m: int, depth: int) -> float:
    return float(m ** exponent(target, depth))
