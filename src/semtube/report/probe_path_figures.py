"""Trajectories of a probe in their tube, and the cone in which written ones leave the right one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from semtube.report.marks import (
    GREY,
    STROKES,
    Figure,
    Spec,
    choice,
    colour,
    legend_of,
    log_number,
    number,
    tooltip,
)
from semtube.report.probe_data import ProbeData

#: Tokens of a trajectory that are named in its picture; the others at the pointer.
MOST_LABELS = 12
#: Where steps of the cone are counted from -> as it is shown.
SINCE = {"divergence": "the first other token", "prompt": "the prompt's end"}


def cone_figure(data: ProbeData) -> Figure | None:
    """Distance from the right answer's states, step by step, with the cone that the paper has."""
    rows: list[dict[str, Any]] = []
    for curve in data.curves:
        kind, _, since = curve["name"].removeprefix("cone_").partition("_since_")
        if since:
            rows += [
                {"checkpoint": curve["checkpoint"], "kind": kind, "since": SINCE[since],
                 "step": step, "value": value}
                for step, value in enumerate(curve["values"], start=1)
                if value > 0
            ]  # fmt: skip
    if not rows:
        return None
    steps = [2**k for k in range(12) if 2**k <= max(row["step"] for row in rows)]
    rows += [
        {"kind": "cone", "since": since, "step": step, "value": 0.1 * step**0.5}
        for since in SINCE.values()
        for step in steps
    ]
    kinds = [kind for kind in ("greedy", "sampled") if any(row["kind"] == kind for row in rows)]
    colours = colour(data.names, data.names, "checkpoint")
    return Figure(
        name="cone",
        title="The inference cone",
        caption="Root mean square distance of what the model writes from the right answer, state "
        "by state, over that of unrelated states (1). Grey: growth with the root of the step, as "
        "the paper's Proposition F.1 says; only its slope counts. Counted behind the prompt, texts "
        "that have not left the right answer are at 0.",
        columns=("checkpoint", "kind", "since", "step", "value"),
        rows=rows,
        params=[choice("cone_since", "steps counted from", list(SINCE.values()))],
        transform=[{"filter": "datum.since === cone_since"}],
        layers=[
            {"transform": [{"filter": "datum.kind === 'cone'"}],
             "mark": {"type": "line", "strokeDash": [2, 3], "color": GREY}},
            {"transform": [{"filter": "datum.kind !== 'cone'"}],
             "mark": {"type": "line", "strokeWidth": 2, "point": {"filled": True, "size": 25}},
             "encoding": {"color": colours,
                          "strokeDash": {"field": "kind", "type": "nominal", "sort": kinds,
                                         "scale": {"domain": kinds, "range": [[1, 0], [5, 4]]},
                                         "legend": legend_of(kinds) | STROKES},
                          "tooltip": tooltip({"checkpoint": "checkpoint", "kind": "written",
                                              "step": "step", "value": "distance"})}},
        ],
        encoding={
            "x": log_number("step", "step", steps),
            "y": {"field": "value", "type": "quantitative", "title": "distance, relative",
                  "scale": {"type": "log", "nice": False}},
        },
    )  # fmt: skip


def path_figures(data: ProbeData) -> list[Figure]:
    """For every checkpoint its trajectories, all on the same axes, to stand side by side."""
    by_checkpoint = {
        name: [path for path in data.paths if path["checkpoint"] == name] for name in data.names
    }
    return [
        _path_figure(number, name, paths, data.layers)
        for number, (name, paths) in enumerate(by_checkpoint.items(), start=1)
        if paths
    ]


def _path_figure(place: int, name: str, paths: Sequence[Any], layers: Sequence[str]) -> Figure:
    rows: list[dict[str, Any]] = []
    for path in paths:
        shown = f"{path['example']}, layer {path['layer']}"
        radius = float(np.sqrt(np.mean(np.square(path["across"]))))
        every = max(1, -(-len(path["tokens"]) // MOST_LABELS))
        points = zip(path["tokens"], path["x"], path["y"], path["across"], strict=True)
        rows += [
            {"path": shown, "token": number, "text": text, "x": x, "y": y, "across": across,
             "radius": radius, "share": path["share"], "label": number % every == 0}
            for number, (text, x, y, across) in enumerate(points)
        ]  # fmt: skip
    order = {layer: number for number, layer in enumerate(layers)}
    choices = [
        f"{path['example']}, layer {path['layer']}"
        for path in sorted(paths, key=lambda path: -order[path["layer"]])
    ]
    chosen = f"path_shown_{place}"
    return Figure(
        name=f"path_{place}",
        title=f"Trajectories: {name}",
        caption="A row's states by token, along and across the chord from the first to the last, "
        "in units of its length. Band: the root mean square distance from the chord, of which the "
        "drawn direction shows a part (share in the CSV); colour runs from first to last token.",
        columns=("path", "token", "text", "x", "y", "across", "radius", "share"),
        rows=rows,
        params=[choice(chosen, "row", choices)],
        transform=[{"filter": f"datum.path === {chosen}"}],
        layers=[
            {"transform": [{"filter": "datum.token === 0"},
                           {"calculate": "-datum.radius", "as": "below"}],
             "mark": {"type": "rect", "opacity": 0.15, "color": "#2E86C8"},
             "encoding": {"x": {"datum": 0}, "x2": {"datum": 1},
                          "y": {"field": "below", "type": "quantitative"},
                          "y2": {"field": "radius"}}},
            {"transform": [{"filter": "datum.token === 0"}],
             "mark": {"type": "rule", "strokeDash": [5, 4], "color": GREY},
             "encoding": {"x": {"datum": 0}, "x2": {"datum": 1}, "y": {"datum": 0}}},
            {"mark": {"type": "line", "strokeWidth": 1, "opacity": 0.6, "color": GREY},
             "encoding": {"x": _side("x"), "y": _side("y"),
                          "order": {"field": "token", "type": "quantitative"}}},
            {"mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
             "encoding": {"x": _side("x"), "y": _side("y"),
                          "color": {"field": "token", "type": "quantitative", "title": "token",
                                    "scale": {"scheme": "viridis"}},
                          "tooltip": tooltip({"text": "token", "token": "number", "x": "along",
                                              "y": "across, drawn", "across": "across, all"})}},
            {"transform": [{"filter": "datum.label"}],
             "mark": {"type": "text", "align": "left", "dx": 6, "dy": -6, "fontSize": 11,
                      "color": GREY},
             "encoding": {"x": _side("x"), "y": _side("y"), "text": {"field": "text"}}},
        ],
        encoding={},
    )  # fmt: skip


def _side(axis: str) -> Spec:
    return number(axis, "along the chord" if axis == "x" else "across it")
