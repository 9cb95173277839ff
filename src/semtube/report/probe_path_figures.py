"""Trajectories of a probe in their tube, and the cone in which written ones leave the right one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
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
from semtube.report.probe_words import SINCE

#: Tokens of a trajectory that are named in its picture; the others at the pointer.
MOST_LABELS = 12
#: Of a trajectory's plot, in pixels: two stand side by side.
SIDE = 300
#: Ticks of distances over that of unrelated states: 1 among them, which a log axis may leave out.
DISTANCES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
#: Where a picture is: its row, layer and plane.
Place = tuple[str, str, str]


def cone_figure(data: ProbeData) -> Figure | None:
    """Distance from the right answer's states, step by step, with the cone that the paper has."""
    rows: list[dict[str, Any]] = [
        {"checkpoint": cone["checkpoint"], "layer": cone["layer"], "kind": cone["kind"],
         "since": SINCE[cone["since"]], "step": step["step"], "value": step["value"],
         "low": step["low"] or None, "high": step["high"] if step["low"] else None,
         "prompts": step["num_prompts"]}
        for cone in data.cones
        for step in cone["steps"]
        if step["value"] > 0
    ]  # fmt: skip
    if not rows:
        return None
    steps = [2**k for k in range(12) if 2**k <= max(row["step"] for row in rows)]
    layers = [layer for layer in reversed(data.layers) if any(r["layer"] == layer for r in rows)]
    rows += [
        {"layer": layer, "kind": "cone", "since": SINCE["divergence"], "step": step,
         "value": 0.1 * step**0.5}
        for layer in layers
        for step in steps
    ]  # fmt: skip
    kinds = [kind for kind in ("greedy", "sampled") if any(row["kind"] == kind for row in rows)]
    colours = colour(data.names, data.names, "checkpoint")
    colours["legend"] = colours["legend"] | {"symbolType": "stroke", "symbolSize": 400}
    dashes = {"field": "kind", "type": "nominal", "sort": kinds,
              "scale": {"domain": kinds, "range": [[1, 0], [5, 4]]},
              "legend": legend_of(kinds) | STROKES}  # fmt: skip
    written: list[Spec] = [{"filter": "datum.kind !== 'cone'"}]
    return Figure(
        name="cone",
        title="The inference cone",
        caption="Root mean square distance of what the model writes from the right answer, state "
        "by state, over that of unrelated states (1), with 95 % intervals over prompts. Later "
        "steps are of fewer texts: their number is told at the pointer. Grey, from the first "
        "other token on: growth with the root of the step, as the paper's Proposition F.1 says; "
        "only its slope counts. Counted from the prompt's end, texts that have not left the right "
        "answer are at 0, so the curve grows as they leave, too.",
        columns=("checkpoint", "layer", "kind", "since", "step", "value", "low", "high", "prompts"),
        rows=rows,
        params=[
            choice("cone_since", "steps counted from", list(SINCE.values())),
            choice("cone_layer", "layer", layers),
        ],
        transform=[{"filter": "datum.since === cone_since && datum.layer === cone_layer"}],
        layers=[
            {"transform": [{"filter": "datum.kind === 'cone'"}],
             "mark": {"type": "line", "strokeDash": [2, 3], "color": GREY}},
            {"transform": [*written, {"filter": "isValid(datum.low)"}],
             "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.5},
             "encoding": {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"},
                          "color": colours}},
            {"transform": written, "mark": {"type": "line", "strokeWidth": 2},
             "encoding": {"color": colours, "strokeDash": dashes}},
            {"transform": written, "mark": {"type": "point", "filled": True, "size": 25},
             "encoding": {"color": colours,
                          "tooltip": tooltip({"checkpoint": "checkpoint", "kind": "written",
                                              "step": "step", "value": "distance", "low": "from",
                                              "high": "to", "prompts": "prompts"})}},
        ],
        encoding={
            "x": log_number("step", "step", steps),
            "y": {"field": "value", "type": "quantitative", "title": "distance, relative",
                  "scale": {"type": "log", "nice": False}, "axis": {"values": DISTANCES}},
        },
    )  # fmt: skip


def path_figures(data: ProbeData) -> list[Figure]:
    """For every checkpoint its trajectories, on the same axes of one unit, to stand side by side.

    Their controls have one name in all of them: the page sets them together.
    """
    squares = _squares(data.paths)
    return [
        _path_figure(number, name, paths, data.layers, squares)
        for number, name in enumerate(data.names, start=1)
        if (paths := [path for path in data.paths if path["checkpoint"] == name])
    ]


def _place(path: Mapping[str, Any]) -> Place:
    return path["example"], path["layer"], path["plane"]


def _squares(paths: Sequence[Mapping[str, Any]]) -> dict[Place, list[dict[str, float]]]:
    """Two corners of the square in which all checkpoints' trajectories of a place lie."""
    spans: dict[Place, list[list[float]]] = defaultdict(lambda: [[], []])
    for path in paths:
        for axis, values in zip(spans[_place(path)], (path["x"], path["y"]), strict=True):
            axis += values
    squares = {}
    for place, axes in spans.items():
        half = 0.55 * max(max(axis) - min(axis) for axis in axes)
        middle = [(max(axis) + min(axis)) / 2 for axis in axes]
        squares[place] = [
            {"x": middle[0] + side * half, "y": middle[1] + side * half} for side in (-1, 1)
        ]
    return squares


def _tube(path: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chord and, at the states' root mean square distance from it, the walls, as drawn."""
    points = np.stack([path["x"], path["y"]], 1)
    start, end = points[0], points[-1]
    length = float(np.hypot(*(end - start)))
    if length < 1e-9:
        return []
    across = np.array([start[1] - end[1], end[0] - start[0]]) / length
    radius = math.sqrt(float(np.mean(((points - start) @ across) ** 2)))
    return [
        {"mark": mark, "x": from_x, "y": from_y, "x2": to_x, "y2": to_y}
        for mark, away in (("chord", 0.0), ("wall", radius), ("wall", -radius))
        for (from_x, from_y), (to_x, to_y) in [
            ((start + away * across).tolist(), (end + away * across).tolist())
        ]
    ]


def _path_figure(
    number_of: int,
    name: str,
    paths: Sequence[Mapping[str, Any]],
    layers: Sequence[str],
    squares: Mapping[Place, list[dict[str, float]]],
) -> Figure:
    rows: list[dict[str, Any]] = []
    for path in paths:
        example, layer, plane = _place(path)
        place = {"row": example, "layer": layer, "plane": plane}
        every = max(1, -(-len(path["tokens"]) // MOST_LABELS))
        points = zip(path["tokens"], path["x"], path["y"], strict=True)
        rows += [
            {**place, "mark": "state", "token": token, "text": text, "x": x, "y": y,
             "share": path["share"], "label": token % every == 0}
            for token, (text, x, y) in enumerate(points)
        ]  # fmt: skip
        rows += [{**place, **part} for part in _tube(path)]
        rows += [{**place, "mark": "corner", **corner} for corner in squares[_place(path)]]
    drawn = [layer for layer in reversed(layers) if any(path["layer"] == layer for path in paths)]
    axes = {"x": number("x", "lengths of the chord"), "y": number("y", "lengths of the chord")}
    for axis in axes.values():
        axis["scale"] = {"zero": False, "nice": False}
    return Figure(
        name=f"path_{number_of}",
        title=f"Trajectories: {name}",
        caption="A row's states by token, colour from first to last; in the two directions in "
        "which they spread most, or along the chord and where they leave it most. Dashed: the "
        "chord from the first state to the last. Grey: walls of the tube, at the drawn states' "
        "root mean square distance from it. How much of the spread the plane shows is told at the "
        "pointer. Axes have one unit, the same for all checkpoints.",
        columns=("row", "layer", "plane", "mark", "token", "text", "x", "y", "x2", "y2", "share"),
        rows=rows,
        params=[
            choice("path_row", "row", list(dict.fromkeys(path["example"] for path in paths))),
            choice("path_layer", "layer", drawn),
            choice("path_plane", "plane", list(dict.fromkeys(path["plane"] for path in paths))),
        ],
        transform=[
            {"filter": "datum.row === path_row && datum.layer === path_layer "
                       "&& datum.plane === path_plane"}
        ],
        layers=[
            {"transform": [{"filter": "datum.mark === 'corner'"}],
             "mark": {"type": "point", "opacity": 0}, "encoding": axes},
            _lines("wall", {"strokeWidth": 5, "opacity": 0.3}),
            _lines("chord", {"strokeDash": [5, 4]}),
            {"transform": [_STATES], "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.6,
                                              "color": GREY},
             "encoding": {**axes, "order": {"field": "token", "type": "quantitative"}}},
            {"transform": [_STATES],
             "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
             "encoding": {**axes,
                          "color": {"field": "token", "type": "quantitative", "title": "token",
                                    "scale": {"scheme": "viridis"}},
                          "tooltip": tooltip({"text": "token", "token": "number", "x": "x",
                                              "y": "y", "share": "share of the spread shown"})}},
            {"transform": [{"filter": "datum.label"}],
             "mark": {"type": "text", "align": "left", "dx": 6, "dy": -6, "fontSize": 11,
                      "color": GREY},
             "encoding": {**axes, "text": {"field": "text"}}},
        ],
        encoding={},
        side=SIDE,
    )  # fmt: skip


_STATES: Spec = {"filter": "datum.mark === 'state'"}


def _lines(mark: str, look: Spec) -> Spec:
    return {
        "transform": [{"filter": f"datum.mark === '{mark}'"}],
        "mark": {"type": "rule", "color": GREY, **look},
        "encoding": {"x": {"field": "x", "type": "quantitative"}, "x2": {"field": "x2"},
                     "y": {"field": "y", "type": "quantitative"}, "y2": {"field": "y2"}},
    }  # fmt: skip
