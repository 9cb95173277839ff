"""Figures of the training runs: losses by step, what the weight does, what an arm costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from semtube.report.marks import (
    STROKES,
    Figure,
    Spec,
    bar_height,
    colour,
    interval_over_bars,
    interval_rule,
    legend_of,
    log_number,
    named,
    number,
    shape,
    tooltip,
)
from semtube.report.study_cells import CONFIDENCE, Cell, place_name, point_choice
from semtube.report.study_data import MOST_TRACE_POINTS, Place, Planned, StudyData
from semtube.report.study_figures import PAIRED_NOTE, limits
from semtube.statistics.cells import summarise_cell

#: Points of the axes whose traces stand in the page; all are in the runs' folders.
MOST_TRACED_POINTS = 12
TERMS = {
    "loss": ("next-token loss", "nats a token"),
    "term_loss": ("auxiliary term", "loss of the term"),
}
#: Of the two losses of held-out rows: the mark of each.
MARKS = {"next-token loss": "circle", "tube loss": "square"}


def trace_figure(data: StudyData, cells: Sequence[Cell], name: str, first: Place | None) -> Any:
    """One training loss by step, a mean over seeds; a Figure, or why there is none.

    Args:
        name: one of TERMS.
        first: the point that is shown at first.
    """
    title, unit = TERMS[name]
    places = list(dict.fromkeys(cell.place for cell in cells))
    places.sort(key=lambda place: place != first)
    rows: list[dict[str, Any]] = []
    traced: list[Place] = []
    for place in places:
        here = [
            row for cell in cells if cell.place == place for row in _trace_rows(data, cell, name)
        ]
        if here and len(traced) < MOST_TRACED_POINTS:
            traced.append(place)
            rows += here
    if not rows:
        return f"no run that is done has logged its {title}"
    every = list(data.study.arms)
    arms = [arm for arm in every if any(row["arm"] == arm for row in rows)]
    params, transform = point_choice(traced, first)
    left_out = len(places) - len(traced)
    note = f" {left_out} more points are left out here." if left_out > 0 else ""
    reference = (
        " For the tube a straight line of states has 0, independent increments 1, memoryless "
        "points 1.5."
        if name == "term_loss"
        else ""
    )
    if name == "term_loss" and data.study.baseline not in arms:
        reference += (
            f" {data.study.baseline} trains no term, so it has no line; where its tube loss on the "
            "test rows was measured, the table of every arm has it."
        )
    return Figure(
        name=f"trace_{name}",
        title=f"Training: {title} by step",
        caption="Form of the paper's Figure 4a. Lower is better fitted, not better answered. Means "
        f"over seeds and stretches of steps, {MOST_TRACE_POINTS} points at most.{reference}{note}",
        columns=("arm", "point", "step", "value", "seeds"),
        rows=rows,
        layers=[{"mark": {"type": "line", "strokeWidth": 2}}],
        encoding={
            "x": number("step", "optimizer step"),
            "y": number("value", unit, scale={"zero": name == "term_loss"}),
            "color": colour(every, arms),
            "tooltip": tooltip({"arm": "arm", "step": "step", "value": "loss", "seeds": "seeds"}),
        },
        params=params,
        transform=transform,
    )


def _trace_rows(data: StudyData, cell: Cell, name: str) -> list[dict[str, Any]]:
    traces = [data.runs[p.run].trace.get(name) for p in data.final(cell.arm, cell.place)]
    known = [trace for trace in traces if trace is not None]
    if not known:
        return []
    # Runs of a cell log the same steps; one that logged fewer counts as far as it goes.
    length = min(len(steps) for steps, _ in known)
    values = np.mean([values[:length] for _, values in known], axis=0)
    steps = known[0][0][:length]
    return [
        {"arm": cell.arm, "point": place_name(cell.place), "step": round(step, 1),
         "value": float(f"{value:.5g}"), "seeds": len(known)}
        for step, value in zip(steps, values, strict=True)
    ]  # fmt: skip


def weight_figure(data: StudyData) -> Figure | str:
    """Accuracy against the weight of the term, on a log axis, beside the baseline's."""
    rows = [row for row in _weight_rows(data) if row["score"] is not None]
    if len(_positive(rows)) < 2:
        return "accuracy against weight needs runs at two weights above 0"
    lines = list(dict.fromkeys(row["line"] for row in rows))
    baseline = {"filter": "datum.what == 'baseline'"}
    note = ""
    if any(row["what"] == "baseline" for row in rows):
        note = (
            f" The dashed line in its band is {data.study.baseline}, which has no term: its mean "
            f"and interval, on the same rows. {PAIRED_NOTE}"
        )
    level: Spec = {"x": {"value": 0}, "x2": {"value": "width"}}
    band = {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}
    intervals: list[Spec] = []
    known = {row["what"] for row in rows if row["low"] is not None}
    if "baseline" in known:  # a layer without a value has no scale, of which Vega warns
        intervals.append({
            "mark": {"type": "rect", "opacity": 0.12},
            "transform": [baseline, {"filter": "isValid(datum.low)"}], "encoding": level | band,
        })  # fmt: skip
    if "weight" in known:
        intervals.append(
            interval_rule("y", {"opacity": 0.5}, [{"filter": "datum.what == 'weight'"}])
        )
    return Figure(
        name="accuracy_by_weight",
        title=f"{data.study.score_title} against the weight of the term",
        caption="Form of the paper's Figures 7 and 13. Each mark is the mean over the seeds of one "
        "setting, tuning runs on validation rows and final runs on test rows; of several other "
        "settings at a weight the most accurate is drawn. Bars are 95 % Student intervals over "
        f"seeds; one seed has no interval. A flat line: the weight does not matter.{note}"
        f"{_zero_note(rows)}",
        columns=("line", "what", "arm", "point", "split", "weight", "score", "low", "high", "loss",
                 "tube_loss", "seeds"),
        rows=rows,
        layers=[
            *intervals,
            {"mark": {"type": "rule", "strokeWidth": 1.5, "strokeDash": [6, 4]},
             "transform": [baseline], "encoding": level},
            {"mark": {"type": "line", "strokeWidth": 2}},
            {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
             "encoding": {"shape": shape(lines, lines, "line")}},
        ],
        encoding={
            "x": _weight_axis(rows),
            "y": number("score", f"{data.study.primary}, %"),
            "color": colour(lines, lines, "line"),
            "tooltip": tooltip({"line": "arm", "weight": "weight", "score": "%", "low": "low",
                                "high": "high", "seeds": "seeds"}),
        },
    )  # fmt: skip


def landscape_figure(data: StudyData) -> Figure | str:
    """Both losses of held-out rows against the weight, the form of the paper's Figure 4b."""
    rows = []
    kept = ("line", "what", "arm", "point", "split", "weight", "x", "seeds")
    for row in _weight_rows(data):
        for name, term in zip(("loss", "tube_loss"), MARKS, strict=True):
            if row[name] is not None:
                rows.append({key: row[key] for key in kept} | {"term": term, "value": row[name]})
    if len(_positive(rows)) < 2:
        return "losses against weight need runs at two weights above 0"
    lines = list(dict.fromkeys(row["line"] for row in rows))
    terms = list(dict.fromkeys(row["term"] for row in rows))
    note = ""
    if any(row["what"] == "baseline" for row in rows):
        note = f" At 0: {data.study.baseline}, which has no term."
    return Figure(
        name="losses_by_weight",
        title="Losses of held-out rows against the weight of the term",
        caption="Form of the paper's Figure 4b: its next-token loss stays flat for weights "
        "up to 0.08 while its tube loss falls from about 1.4 to 0.6. Solid with circles: "
        "next-token loss in nats; dashed with squares: tube loss (0 to 2), measured alike for "
        "every run. Means over seeds; of several other settings at a weight the most accurate is "
        f"drawn, so that no loss was chosen for being low.{note}{_zero_note(rows)}",
        columns=("line", "what", "arm", "point", "split", "weight", "term", "value", "seeds"),
        rows=rows,
        layers=[
            {"mark": {"type": "line", "strokeWidth": 2},
             "encoding": {"strokeDash": {
                 "field": "term", "type": "nominal", "sort": terms,
                 "scale": {"domain": terms, "range": [[1, 0], [5, 4]]},
                 "legend": legend_of(terms) | STROKES}}},
            # Marks of their own layers, as a shape would enter the legend of the dashes.
            *({"mark": {"type": "point", "filled": True, "size": 50, "opacity": 1, "shape": mark},
               "transform": [{"filter": {"field": "term", "equal": term}}]}
              for term, mark in MARKS.items()),
        ],
        encoding={
            "x": _weight_axis(rows),
            "y": number("value", "loss", scale={"zero": True}),
            "color": colour(lines, lines, "line"),
            "tooltip": tooltip({"line": "arm", "term": "loss of", "weight": "weight",
                                "value": "loss", "seeds": "seeds"}),
        },
    )  # fmt: skip


def _positive(rows: Sequence[dict[str, Any]]) -> list[float]:
    return sorted({row["weight"] for row in rows if row["weight"]})


def _weight_axis(rows: Sequence[dict[str, Any]]) -> Spec:
    """A log axis of `x`, on which 0 has the place that `_weight_rows` gave it."""
    smallest = _positive(rows)[0]
    label = f"datum.value < {smallest!r} ? '0' : format(datum.value, '~g')"
    return log_number("x", "weight", [row["x"] for row in rows], label)


def _zero_note(rows: Sequence[dict[str, Any]]) -> str:
    if all(row["weight"] for row in rows):
        return ""
    return " A log axis has no 0: it stands a step below the smallest weight."


def _weight_rows(data: StudyData) -> list[dict[str, Any]]:
    """A row for each arm, point, split and weight: means over seeds, the best of other settings.

    Only where an arm was run at two weights; the baseline beside it, if it is next-token
    prediction, at weight 0. `x` is where a weight stands on a log axis.
    """
    groups: dict[tuple[str, Place, str, float], dict[str, list[Planned]]] = {}
    for planned in data.plan:
        run = data.runs[planned.run]
        weight = run.config.get("weight")
        if run.config.get("objective") == "ntp":
            # What else it reads of a weight changes nothing of it.
            weight = 0.0 if planned.arm == data.study.baseline else None
        if weight is None:
            continue
        for split in planned.read:
            if split in run.readings:
                place = tuple((a, v) for a, v in planned.place if a != "weight")
                key = (planned.arm, place, split, float(weight))
                others = {k: v for k, v in planned.tried.items() if k != "weight"}
                groups.setdefault(key, {}).setdefault(repr(others), []).append(planned)
    weights: dict[tuple[str, Place, str], set[float]] = {}
    for arm, place, split, weight in groups:
        weights.setdefault((arm, place, split), set()).add(weight)
    drawn = {line[1:] for line, found in weights.items() if len(found) > 1}
    rows = [
        _weight_row(data, arm, place, split, weight, list(tried.values()))
        for (arm, place, split, weight), tried in groups.items()
        if len(weights[arm, place, split]) > 1
        or ((place, split) in drawn and arm == data.study.baseline and not weight)
    ]
    positive = _positive(rows)
    below = positive[0] ** 2 / positive[1] if len(positive) > 1 else None
    rows = [row | {"x": row["weight"] or below} for row in rows]
    arms = list(data.study.arms)
    return sorted(rows, key=lambda row: (arms.index(row["arm"]), row["line"], row["weight"]))


def _weight_row(
    data: StudyData,
    arm: str,
    place: Place,
    split: str,
    weight: float,
    settings: Sequence[Sequence[Planned]],
) -> dict[str, Any]:
    def values(runs: Sequence[Planned], name: str) -> list[float]:
        # A run that has no weight stands at all of them: once a seed.
        each = {p.seed: data.runs[p.run].readings[split].metrics.get(name) or {} for p in runs}
        return [m["mean"] for m in each.values() if m.get("mean") is not None]

    def mean(runs: Sequence[Planned], name: str) -> float | None:
        known = values(runs, name)
        return float(np.mean(known)) if known else None

    best = max(settings, key=lambda runs: mean(runs, data.study.primary) or 0.0)
    scores = values(best, data.study.primary)
    low, high = limits(summarise_cell(scores, CONFIDENCE).interval if scores else None)
    return {
        "line": ", ".join([arm, *([place_name(place)] if place else []), split]),
        "what": "weight" if weight or arm != data.study.baseline else "baseline",
        "arm": arm,
        "point": place_name(place),
        "split": split,
        "weight": weight,
        "score": 100 * float(np.mean(scores)) if scores else None,
        "low": low,
        "high": high,
        "loss": mean(best, "loss"),
        "tube_loss": mean(best, "tube_loss"),
        "seeds": len({p.seed for p in best}),
    }


def cost_figure(data: StudyData) -> Figure | str:
    """Seconds a step of every arm, relative to the baseline."""
    seconds: dict[str, list[float]] = {}
    for planned in data.finals():
        run = data.runs[planned.run]
        if run.status == "done" and run.seconds_per_step is not None:
            seconds.setdefault(planned.arm, []).append(run.seconds_per_step)
    baseline = seconds.get(data.study.baseline)
    if not baseline:
        return "cost needs a baseline run that was trained in one go"
    usual = float(np.median(baseline))
    arms = [arm for arm in data.study.arms if arm in seconds]
    rows: list[dict[str, Any]] = []
    for arm in arms:
        low, middle, high = np.quantile(seconds[arm], [0.25, 0.5, 0.75])
        rows.append({"arm": arm, "runs": len(seconds[arm]), "seconds_per_step": float(middle),
                     "relative": float(middle) / usual, "low": float(low) / usual,
                     "high": float(high) / usual})  # fmt: skip
    layers: list[Spec] = [
        {"mark": {"type": "bar", "opacity": 0.85, "height": {"band": 0.7}}},
        interval_over_bars(),
    ]  # fmt: skip
    return Figure(
        name="cost",
        title=f"Training time of a step, relative to {data.study.baseline}",
        caption=f"1 is the baseline's median ({usual:.3g} s a step). Bars are medians over the "
        "final runs, thin lines their quartiles; runs that were resumed are left out, as their "
        "time is known in part only. Runs that shared a machine slow each other down.",
        columns=("arm", "runs", "seconds_per_step", "relative", "low", "high"),
        rows=rows,
        layers=layers,
        encoding={
            "x": number("relative", "times the baseline", scale={"zero": True}),
            "y": named("arm", arms),
            "color": colour(list(data.study.arms), arms) | {"legend": None},
            "tooltip": tooltip({"arm": "arm", "seconds_per_step": "s a step",
                                "relative": "relative", "runs": "runs"}),
        },
        height=bar_height(len(arms), 34),
    )  # fmt: skip
