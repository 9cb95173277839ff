"""Figures of the final runs: accuracy by fraction and by arm; differences to the baseline."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from semtube.report.marks import (
    FRACTION_LABEL,
    Figure,
    Spec,
    bar_height,
    colour,
    interval_over_bars,
    interval_rule,
    log_number,
    named,
    number,
    shape,
    shift,
    tooltip,
)
from semtube.report.study_cells import Cell, place_name, point_choice
from semtube.report.study_comparisons import Comparison
from semtube.report.study_data import Place, StudyData
from semtube.statistics.intervals import Interval

INTERVAL_NOTE = (
    "Bars are 95 % Student intervals over seeds; a cell with one seed has none, as one seed cannot "
    "say how seeds differ."
)
PAIRED_NOTE = (
    "Intervals of two arms may overlap though their paired difference is clear: read the "
    "differences for that."
)


def fraction_figure(data: StudyData, cells: Sequence[Cell]) -> Figure | str:
    """Accuracy against the fraction of training rows, the form of the paper's Figures 1b and 12."""
    scored = [c for c in cells if c.mean is not None and "fraction" in dict(c.place)]
    fractions = sorted({dict(c.place)["fraction"] for c in scored})
    if len(fractions) < 2:
        return "accuracy against fraction needs scores at two fractions"
    lines = _other_axes(scored, ("fraction",))
    names = list(dict.fromkeys(_line_name(c, lines) for c in scored))
    domain = names if lines else list(data.study.arms)
    rows = []
    for cell in scored:
        fraction = dict(cell.place)["fraction"]
        common = {"arm": _line_name(cell, lines), "fraction": fraction}
        low, high = limits(cell.interval)
        for seed, score in zip(cell.seeds, cell.scores, strict=True):
            rows.append({**common, "what": "run", "seed": seed, "score": 100 * score})
        rows.append({**common, "what": "mean", "examples": cell.num_examples,
                     "score": 100 * (cell.mean or 0.0), "low": low, "high": high})  # fmt: skip
    layers: list[Spec] = []
    for position, name in enumerate(names):
        at = {"xOffset": shift(position, len(names)) if len(names) <= 6 else 0}
        mine = {"filter": {"field": "arm", "equal": name}}
        means, runs = {"filter": "datum.what == 'mean'"}, {"filter": "datum.what == 'run'"}
        layers += [
            interval_rule("y", {"opacity": 0.6, **at}, [mine, means]),
            {"mark": {"type": "line", "strokeWidth": 2, **at}, "transform": [mine, means]},
            {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1, **at},
             "transform": [mine, means], "encoding": {"shape": shape(domain, names)}},
            {"mark": {"type": "point", "size": 14, "opacity": 0.7, **at},
             "transform": [mine, runs], "encoding": {"shape": shape(domain, names)}},
        ]  # fmt: skip
    return Figure(
        name="accuracy_by_fraction",
        title=f"{data.study.score_title} against the share of the training examples",
        caption="Form of the paper's Figures 1b and 12. Higher is better. Lines and filled marks "
        "are means over seeds, small open marks single runs; arms stand beside each other at the "
        f"same fraction. {INTERVAL_NOTE} {PAIRED_NOTE}",
        columns=("arm", "fraction", "examples", "what", "seed", "score", "low", "high"),
        rows=rows,
        layers=layers,
        encoding={
            "x": log_number("fraction", "fraction of the training examples", fractions,
                            FRACTION_LABEL),
            "y": number("score", f"{data.study.primary}, %"),
            "color": colour(domain, names),
            "tooltip": tooltip({"arm": "arm", "fraction": "fraction", "what": "what",
                                "seed": "seed", "score": "%", "low": "low", "high": "high"}),
        },
    )  # fmt: skip


def difference_figure(data: StudyData, comparisons: Sequence[Comparison]) -> Figure | str:
    """Each arm's difference to the baseline, with the margin of equivalence."""
    shown = [c for c in comparisons if c.difference is not None]
    if not shown:
        return "differences need an arm and the baseline scored under a same seed"
    arms = list(dict.fromkeys(c.arm for c in shown))
    every = list(data.study.arms)
    names = list(dict.fromkeys(place_name(c.places[0]) for c in shown))
    margin = 100 * data.study.margin
    rows = [
        {
            "arm": c.arm,
            "point": place_name(c.places[0]),
            "seeds": c.num_seeds,
            "difference": 100 * c.difference,
            "low": None if c.t_interval is None else 100 * c.t_interval.low,
            "high": None if c.t_interval is None else 100 * c.t_interval.high,
            "margin": margin,
            "equivalent": {True: "yes", False: "not shown", None: None}[c.is_equivalent],
        }
        for c in shown
        if c.difference is not None
    ]
    band = {"x": {"datum": -margin, "type": "quantitative"}, "x2": {"datum": margin},
            "y": {"value": 0}, "y2": {"value": "height"}}  # fmt: skip
    layers = [
        {"data": {"values": [{}]}, "mark": {"type": "rect", "opacity": 0.15, "color": "#8A8A8A"},
         "encoding": band | {"color": {"value": "#8A8A8A"}}},
        {"data": {"values": [{}]}, "mark": {"type": "rule", "strokeDash": [4, 3]},
         "encoding": {"x": {"datum": 0}, "y": band["y"], "y2": band["y2"],
                      "color": {"value": "#8A8A8A"}}},
    ]  # fmt: skip
    y = named("point", names)
    body = {"x": number("difference", f"difference to {data.study.baseline}, points"), "y": y,
            "yOffset": named("arm", arms), "color": colour(every, arms),
            "tooltip": tooltip({"arm": "arm", "point": "point", "difference": "points",
                                "low": "low", "high": "high", "seeds": "seeds",
                                "equivalent": "equivalent"})}  # fmt: skip
    rule = interval_rule("x", {"opacity": 0.7})
    layers += [
        {**rule, "encoding": body | rule["encoding"]},
        {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
         "encoding": body | {"shape": shape(every, arms)}},
    ]  # fmt: skip
    return Figure(
        name="differences",
        title=f"Difference to {data.study.baseline}, paired by seed",
        caption="Right of the dashed line an arm is better than the baseline. Bars are 95 % "
        "Student intervals of the paired difference over seeds; one that crosses the line says "
        f"that no difference is shown. The grey band is the margin (±{margin:g} points): an arm is "
        "equivalent whose 90 % interval, shorter than its bar, lies within it. So a bar inside "
        "the band says equivalent, and one that leaves it by a little may: the table tells.",
        columns=("arm", "point", "seeds", "difference", "low", "high", "margin", "equivalent"),
        rows=rows,
        layers=layers,
        encoding={},
        height=bar_height(len(names) * len(arms)),
    )


def arm_figure(data: StudyData, cells: Sequence[Cell], first: Place | None) -> Figure | str:
    """Bars of every arm at one point, the form of the paper's Figures 5 and 8 (its ablation).

    Of several tasks or models all stand side by side, as in Figure 5; other axes are chosen from.
    """
    scored = [c for c in cells if c.mean is not None]
    if not scored:
        return "bars of the arms need a run with a score"
    every = list(data.study.arms)
    arms = [arm for arm in every if any(c.arm == arm for c in scored)]
    grouping = [axis for axis in _other_axes(scored, ()) if axis in ("task", "model")]

    def rest(place: Place) -> Place:
        return tuple(pair for pair in place if pair[0] not in grouping)

    short = _short_names({str(dict(c.place)[axis]) for c in scored for axis in grouping})
    rows: list[dict[str, Any]] = []
    for cell in scored:
        low, high = limits(cell.interval)
        group = ", ".join(short[str(dict(cell.place)[axis])] for axis in grouping)
        rows.append({"arm": cell.arm, "group": group, "point": place_name(rest(cell.place)),
                     "seeds": len(cell.seeds), "score": 100 * (cell.mean or 0), "low": low,
                     "high": high})  # fmt: skip
    places = [rest(cell.place) for cell in scored]
    params, transform = point_choice(places, None if first is None else rest(first))
    groups = list(dict.fromkeys(row["group"] for row in rows))
    bar: Spec = {"type": "bar", "opacity": 0.85}
    by: Spec = {"color": colour(every, arms)}
    beside = ""
    if grouping:
        by |= {"y": named("group", groups), "yOffset": named("arm", arms)}
        height = bar_height(len(groups) * len(arms), 22)
        beside = f" Every {' and '.join(grouping)} has its own group of bars."
    else:
        by |= {"y": named("arm", arms)}
        by["color"] |= {"legend": None}
        bar |= {"height": {"band": 0.7}}
        height = bar_height(len(arms), 34)
    return Figure(
        name="arms",
        title=f"{data.study.score_title} of every arm",
        caption="Form of the paper's Figures 5 and 8 (its ablation). Longer is better; bars begin "
        f"at 0.{beside} Thin lines are 95 % Student intervals over seeds. {PAIRED_NOTE}",
        columns=("arm", "group", "point", "seeds", "score", "low", "high"),
        rows=rows,
        layers=[{"mark": bar}, interval_over_bars()],
        encoding={
            "x": number("score", f"{data.study.primary}, %", scale={"zero": True}),
            **by,
            "tooltip": tooltip({"arm": "arm", "group": "of", "score": "%", "low": "low",
                                "high": "high", "seeds": "seeds"}),
        },
        params=params,
        transform=transform,
        height=height,
    )  # fmt: skip


def limits(interval: Interval | None) -> tuple[float | None, float | None]:
    """The interval in per cent, within what a rate can be."""
    if interval is None:
        return None, None
    return 100 * max(interval.low, 0.0), 100 * min(interval.high, 1.0)


def _other_axes(cells: Sequence[Cell], shown: Sequence[str]) -> list[str]:
    """Axes beside those shown on which the cells differ."""
    values: dict[str, set[Any]] = {}
    for cell in cells:
        for axis, value in cell.place:
            values.setdefault(axis, set()).add(value)
    return [axis for axis, found in values.items() if len(found) > 1 and axis not in shown]


def _short_names(names: Set[str]) -> dict[str, str]:
    """The last part of hub names and folders, where that tells them apart: there is little room."""
    short = {name: name.rstrip("/").rsplit("/", 1)[-1] for name in names}
    return short if len(set(short.values())) == len(names) else {name: name for name in names}


def _line_name(cell: Cell, axes: Sequence[str]) -> str:
    place = dict(cell.place)
    return ", ".join([cell.arm, *(f"{axis} {place[axis]}" for axis in axes)])
