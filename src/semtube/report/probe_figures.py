"""The figures of a probe: by layer, by length, spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semtube.geometry.measures import MEASURES
from semtube.report.marks import (
    GREY,
    Figure,
    Spec,
    choice,
    colour,
    interval_rule,
    log_number,
    named,
    number,
    tooltip,
)
from semtube.report.probe_data import NO_LENGTH, ProbeData
from semtube.report.probe_words import SHOWN_NULLS, title

CURVES = {
    "spectrum": "states",
    "views": "prompt minus answer",
    "views_normalised": "prompt minus answer, each at length 1",
}


def layer_figure(data: ProbeData, *, of_sets: bool) -> Figure | None:
    """Every measure without lengths, from layer to layer."""
    measures = data.measures(of_sets=of_sets)
    rows: list[dict[str, Any]] = []
    for measure in measures:
        for name in data.names:
            for layer in data.layers:
                if cell := data.cell(name, layer, measure):
                    low, high = (None, None) if cell.interval is None else (
                        cell.interval.low, cell.interval.high,
                    )  # fmt: skip
                    rows.append(
                        {"measure": title(measure), "checkpoint": name, "layer": layer,
                         "value": cell.mean, "low": low, "high": high}
                    )  # fmt: skip
    if not rows:
        return None
    nulls = _set_nulls(data, measures) if of_sets else _path_nulls(data, measures)
    colours = colour(data.names, data.names, "checkpoint")
    about = (
        "of the whole set of states. Dashed: each checkpoint's nulls, one dash each, also in "
        "the table."
        if of_sets
        else "means over rows with 95 % intervals. Grey lines: trajectories that mean nothing, of "
        "the same length and width (for a measure with a unit they stand in the table)."
    )
    return Figure(
        name="sets_by_layer" if of_sets else "by_layer",
        title="The states as a set, from layer to layer" if of_sets else "From layer to layer",
        caption=f"Choose a measure; {about} before_norm is what the last norm is given, last what "
        "it makes of it.",
        columns=("measure", "checkpoint", "layer", "value", "low", "high", "null"),
        rows=[*rows, *nulls],
        params=[choice("measure_shown", "measure", [title(m) for m in measures])],
        transform=[{"filter": "datum.measure === measure_shown"}],
        layers=[
            *(_null_lines(colours) if of_sets else _null_rules()),
            {"transform": [{"filter": _MEASURED}],
             "mark": {"type": "line", "strokeWidth": 2},
             "encoding": {"color": colours}},
            *([] if of_sets else [_intervals(_MEASURED, colours)]),
            {"transform": [{"filter": _MEASURED}],
             "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
             "encoding": {"color": colours,
                          "tooltip": tooltip({"checkpoint": "checkpoint", "layer": "layer",
                                              "value": "value", "low": "from", "high": "to"})}},
        ],
        encoding={
            "x": {**named("layer", data.layers, "layer"), "axis": {"labelAngle": 0}},
            "y": number("value", "value"),
        },
    )  # fmt: skip


def length_figure(data: ProbeData) -> Figure | None:
    """Every measure with lengths, by length, in a layer to choose."""
    measures = data.measures(of_sets=False, with_length=True)
    rows = _length_rows(data, measures)
    if not rows:
        return None
    first = "tube_deviation_relative"
    measures.sort(key=lambda measure: measure != first)
    series = colour(data.names, data.names, "series")
    return Figure(
        name="by_length",
        title="Tube and straightness by length",
        caption="Choose a measure and a layer; means over rows with 95 % intervals, lengths in "
        "tokens. Dashed grey lines: trajectories that mean nothing, of the same length and width "
        "(for a measure with a unit they stand in table.csv).",
        columns=("measure", "layer", "series", "kind", "length", "value", "low", "high"),
        rows=rows,
        params=[
            choice("length_measure", "measure", [title(m) for m in measures]),
            choice("length_layer", "layer", data.layers[::-1]),
        ],
        transform=[
            {"filter": "datum.measure === length_measure && datum.layer === length_layer"}
        ],
        layers=[
            {"transform": [{"filter": "datum.kind === 'null'"}],
             "mark": {"type": "line", "strokeDash": [5, 4], "color": GREY},
             "encoding": {"detail": {"field": "series"}}},
            {"transform": [{"filter": "datum.kind === 'null'"},
                           {"window": [{"op": "rank", "as": "from_end"}],
                            "sort": [{"field": "length", "order": "descending"}],
                            "groupby": ["series"]},
                           {"filter": "datum.from_end === 1"}],
             "mark": {"type": "text", "align": "right", "baseline": "bottom", "dy": -3,
                      "fontSize": 11, "color": GREY},
             "encoding": {"text": {"field": "series"}}},
            {"transform": [{"filter": "datum.kind === 'checkpoint'"}],
             "mark": {"type": "line", "strokeWidth": 2}, "encoding": {"color": series}},
            _intervals("datum.kind === 'checkpoint'", series),
            {"transform": [{"filter": "datum.kind === 'checkpoint'"}],
             "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
             "encoding": {"color": series, "tooltip": tooltip(
                 {"series": "checkpoint", "length": "tokens", "value": "value", "low": "from",
                  "high": "to"})}},
        ],
        encoding={
            "x": log_number("length", "length, tokens", sorted({row["length"] for row in rows})),
            "y": number("value", "value"),
        },
    )  # fmt: skip


def curve_figure(data: ProbeData) -> Figure | None:
    """Singular values by rank, as the paper's Figure 6 shows those of the two views."""
    rows = [
        {"curve": CURVES[curve["name"]], "layer": curve["layer"],
         "checkpoint": curve["checkpoint"], "rank": rank, "value": value,
         **({"null": curve["null"]} if curve.get("null") else {})}
        for curve in data.curves
        if curve["name"] in CURVES
        for rank, value in enumerate(curve["values"], start=1)
        if value > 1e-9 * max(curve["values"][0], 1e-30)
    ]  # fmt: skip
    if not rows:
        return None
    names = [CURVES[name] for name in CURVES if any(c["name"] == name for c in data.curves)]
    return Figure(
        name="spectra",
        title="Singular values",
        caption="Choose what of and a layer. Of the states: centred, all content tokens. Of prompt "
        "minus answer: each text encoded alone, its last token's state, not centred; the paper's "
        "Figure 6 has both. A raw spectrum shrinks with the states, one at length 1 does not. "
        "Dashed, of the raw one: prompts minus answers that were dealt out anew.",
        columns=("curve", "layer", "checkpoint", "rank", "value", "null"),
        rows=rows,
        params=[
            choice("curve_shown", "of", names),
            choice("curve_layer", "layer", data.layers[::-1]),
        ],
        transform=[{"filter": "datum.curve === curve_shown && datum.layer === curve_layer"}],
        # One layer: a layer of its own for nulls would be empty, and warn, where there are none.
        layers=[{"mark": "line",
                 "encoding": {"color": colour(data.names, data.names, "checkpoint"),
                              "detail": {"field": "null"},
                              "strokeDash": _if_null([4, 4], [1, 0]),
                              "strokeWidth": _if_null(1, 2)}}],
        encoding={
            "x": log_number("rank", "rank", [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]),
            "y": {"field": "value", "type": "quantitative", "title": "singular value",
                  "scale": {"type": "log", "nice": False}},
        },
    )  # fmt: skip


def _if_null(value: Any, other: Any) -> Spec:
    return {"condition": {"test": "isValid(datum.null)", "value": value}, "value": other}


def _intervals(which: str, colours: Spec) -> Spec:
    rule = interval_rule("y", {}, [{"filter": which}])
    return {**rule, "encoding": {**rule["encoding"], "color": colours}}


def _length_rows(data: ProbeData, measures: Sequence[str]) -> list[dict[str, Any]]:
    """Means of every checkpoint by length, and behind them the nulls that have no unit."""
    rows: list[dict[str, Any]] = []
    for name, layer, measure, length in data.rows:
        if measure in measures and length != NO_LENGTH:
            cell = data.cell(name, layer, measure, length)
            assert cell is not None, "the key is of a row"
            low, high = (None, None) if cell.interval is None else (
                cell.interval.low, cell.interval.high,
            )  # fmt: skip
            rows.append(
                {"measure": title(measure), "layer": layer, "series": name, "kind": "checkpoint",
                 "length": length, "value": cell.mean, "low": low, "high": high}
            )  # fmt: skip
    if not rows:
        return []
    for (name, null_layer, measure, length), nulls in data.nulls.items():
        # Nearly alike for every checkpoint; those with a unit are not.
        if name == data.names[0] and measure in measures and not MEASURES[measure].power:
            rows += [
                {"measure": title(measure), "layer": layer, "series": null, "kind": "null",
                 "length": length, "value": nulls[null]}
                for layer in ([null_layer] if null_layer else data.layers)
                for null in SHOWN_NULLS
                if null in nulls
            ]  # fmt: skip
    return rows


_MEASURED = "isValid(datum.checkpoint) && !isValid(datum.null)"


def _path_nulls(data: ProbeData, measures: Sequence[str]) -> list[dict[str, Any]]:
    """Of the first checkpoint, those that are of any layer; nearly alike for every checkpoint."""
    return [
        {"measure": title(measure), "value": value, "null": null}
        for (name, layer, measure, length), nulls in data.nulls.items()
        if name == data.names[0] and not layer and measure in measures and length == NO_LENGTH
        for null, value in nulls.items()
        if null in SHOWN_NULLS
    ]


def _set_nulls(data: ProbeData, measures: Sequence[str]) -> list[dict[str, Any]]:
    """Of every checkpoint in every layer where it has a number."""
    return [
        {"measure": title(measure), "checkpoint": name, "layer": layer, "value": value,
         "null": null}
        for name, layer, measure, length in data.sets
        if layer and measure in measures
        for null, value in data.nulls_of(name, layer, measure, length).items()
    ]  # fmt: skip


def _null_lines(colours: Spec) -> list[Spec]:
    only: list[Spec] = [{"filter": "isValid(datum.null)"}]
    dashes = {
        "field": "null",
        "type": "nominal",
        "scale": {"range": [[6, 4], [1, 3], [6, 3, 1, 3]]},
        "legend": {"title": "null", "orient": "top"},
    }
    shared = {"color": colours, "detail": {"field": "null"}}
    told = tooltip({"checkpoint": "checkpoint", "null": "null", "value": "value"})
    return [
        {"transform": only,
         "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.8},
         "encoding": shared | {"strokeDash": dashes}},
        {"transform": only, "mark": {"type": "point", "size": 25, "opacity": 0.8},
         "encoding": shared | {"tooltip": told}},
    ]  # fmt: skip


def _null_rules() -> list[Spec]:
    only: list[Spec] = [{"filter": "isValid(datum.null)"}]
    return [
        {"transform": only, "mark": {"type": "rule", "strokeDash": [5, 4], "color": GREY},
         "encoding": {"x": None, "y": {"field": "value", "type": "quantitative"}}},
        {"transform": only,
         "mark": {"type": "text", "align": "left", "baseline": "bottom", "dx": 2, "dy": -2,
                  "fontSize": 11, "color": GREY},
         "encoding": {"x": {"value": 0}, "y": {"field": "value", "type": "quantitative"},
                      "text": {"field": "null"}}},
    ]  # fmt: skip
