"""Figures of the test rows: accuracy by their group; on which rows two arms agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from semtube.report.marks import (
    Figure,
    bar_height,
    colour,
    interval_over_bars,
    legend_of,
    named,
    number,
    tooltip,
)
from semtube.report.study_cells import CONFIDENCE, Cell, place_name, point_choice
from semtube.report.study_comparisons import Comparison
from semtube.report.study_data import Place, RowScores, StudyData
from semtube.report.study_figures import limits
from semtube.statistics.cells import summarise_cell


def ending_figure(data: StudyData, cells: Sequence[Cell], first: Place | None) -> Figure | str:
    """Accuracy by the group of a row, for regexes by the ending of the right answer."""
    rows: list[dict[str, Any]] = []
    for cell in cells:
        runs = [data.runs[p.run].readings["test"].rows for p in data.final(cell.arm, cell.place)]
        for group in sorted({g for run in runs for g in run.groups if g is not None}):
            values = [_group_score(run, group) for run in runs]
            known = [value for value, count in values if count]
            if not known:
                continue
            low, high = limits(summarise_cell(known, CONFIDENCE).interval)
            rows.append({
                "arm": cell.arm, "point": place_name(cell.place), "group": group,
                "rows": max(count for _, count in values), "seeds": len(known),
                "score": 100 * float(np.mean(known)),
                "low": low, "high": high,
            })  # fmt: skip
    if not rows:
        return "accuracy by group needs a task whose rows have groups"
    every = list(data.study.arms)
    arms = [arm for arm in every if any(row["arm"] == arm for row in rows)]
    groups = sorted({row["group"] for row in rows})
    counts = {group: max(r["rows"] for r in rows if r["group"] == group) for group in groups}
    for row in rows:
        row["label"] = f"{row['group']} ({counts[row['group']]})"
    labels = [f"{group} ({counts[group]})" for group in groups]
    params, transform = point_choice([c.place for c in cells if c.mean is not None], first)
    y, offset = named("label", labels), named("arm", arms)
    layers = [
        {"mark": {"type": "bar", "opacity": 0.85}},
        interval_over_bars(),
    ]  # fmt: skip
    return Figure(
        name="endings",
        title="Accuracy by the group of the test row",
        caption="Form of the paper's Table 1, which splits regexes by how the right answer ends. "
        "The number of test rows stands behind each group: a group of 25 rows says little. "
        "Accuracy that falls only where an answer could go on tells of stopping, not of meaning. "
        "Thin lines are 95 % Student intervals over seeds.",
        columns=("arm", "point", "group", "rows", "seeds", "score", "low", "high"),
        rows=rows,
        layers=layers,
        encoding={
            "x": number("score", f"{data.study.primary}, %", scale={"zero": True}),
            "y": y,
            "yOffset": offset,
            "color": colour(every, arms),
            "tooltip": tooltip({"arm": "arm", "group": "group", "score": "%", "low": "low",
                                "high": "high", "rows": "test rows"}),
        },
        params=params,
        transform=transform,
        height=bar_height(len(groups) * len(arms), 22),
    )  # fmt: skip


def agreement_figure(data: StudyData, comparisons: Sequence[Comparison]) -> Figure | str:
    """How often an arm and the baseline are right on the same rows."""
    baseline = data.study.baseline
    kinds = ("both right", "only the arm right", f"only {baseline} right", "both wrong")
    rows: list[dict[str, Any]] = []
    for c in comparisons:
        if c.counts is None:
            continue
        total = sum(c.counts)
        for order, (kind, count) in enumerate(zip(kinds, c.counts, strict=True)):
            rows.append({"bar": f"{c.arm}, {place_name(c.places[0])}", "arm": c.arm,
                         "point": place_name(c.places[0]), "kind": kind, "order": order,
                         "count": count, "share": 100 * count / total})  # fmt: skip
    if not rows:
        return "agreement needs an arm and the baseline scored under a same seed"
    bars = list(dict.fromkeys(row["bar"] for row in rows))
    scale = {"domain": list(kinds), "range": ["#8FB8DE", "#2E86C8", "#D55E00", "#BDBDBD"]}
    return Figure(
        name="agreement",
        title=f"Test rows on which an arm and {baseline} agree",
        caption="Every bar holds all pairs of a test row and a seed. Only the two middle colours "
        "tell the arms apart: where they are as long as each other, the arms are right equally "
        "often, though on other rows.",
        columns=("arm", "point", "kind", "count", "share"),
        rows=rows,
        layers=[{"mark": {"type": "bar", "height": {"band": 0.75}}}],
        encoding={
            "x": number("share", "% of rows x seeds", scale={"domain": [0, 100]}),
            "y": named("bar", bars),
            "order": {"field": "order"},
            "color": {"field": "kind", "type": "nominal", "scale": scale,
                      "legend": legend_of(kinds)},
            "tooltip": tooltip({"bar": "arm", "kind": "rows", "count": "rows x seeds",
                                "share": "%"}),
        },
        height=bar_height(len(bars), 26),
    )  # fmt: skip


def _group_score(run: RowScores, group: str) -> tuple[float, int]:
    values = run.right[[g == group for g in run.groups]]
    judged = values[values >= 0]
    return (float(judged.mean()) if len(judged) else 0.0), len(judged)
