"""What the figures of a page share: colours, axes, and a specification that fits the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semtube.report.table import as_csv

Spec = dict[str, Any]
"""A Vega-Lite specification, or a part of one."""

# Okabe and Ito's palette, told apart under every common colour blindness, with its blue lightened
# and grey for its black: both have contrast on white and on a dark page.
COLOURS = (
    "#2E86C8", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#8A8A8A", "#7B61C9",
)  # fmt: skip
SHAPES = ("circle", "triangle-up", "square", "diamond", "cross", "triangle-down")
INK = "#333333"
GREY = "#8A8A8A"
#: Of a legend of dashes, which have no colour of their own.
STROKES = {"symbolType": "stroke", "symbolSize": 400, "symbolStrokeColor": GREY,
           "symbolStrokeWidth": 2}  # fmt: skip
SHIFT_PIXELS = 7
LABEL_PIXELS = 170
#: Characters of a name that leaves room for another one beside it on a phone.
SHORT_NAME = 14
MOST_TICKS = 8


@dataclass(frozen=True)
class Figure:
    """One figure of the report.

    Args:
        name: of its files, without suffix.
        caption: how to read it.
        columns: of its CSV file.
        rows: its data, which the specification draws.
        layers: the marks.
        encoding: what all layers share.
        params: controls, such as the choice of a point.
        transform: what all layers see of the rows.
        height: in pixels, or by the number of bars.
        side: of a square plot in pixels, for two axes of one unit; None for the page's width.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    layers: Sequence[Spec]
    encoding: Spec
    params: Sequence[Spec] = ()
    transform: Sequence[Spec] = ()
    height: Any = 300
    side: int | None = None

    def spec(self, width: Any = "container") -> Spec:
        """As Vega-Lite draws it."""
        fit = {"type": "fit-x", "contains": "padding"} if self.side is None else {"type": "pad"}
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
            "description": self.title,
            "width": self.side or width,
            "height": self.side or self.height,
            "autosize": fit,
            "data": {"values": list(self.rows)},
            "params": list(self.params),
            "transform": list(self.transform),
            "encoding": self.encoding,
            "layer": list(self.layers),
            "config": CONFIG,
        }

    @property
    def chosen(self) -> str:
        """What its controls show first, in words: what a picture without controls shows."""
        controls = [param for param in self.params if "bind" in param]
        return ", ".join(f"{param['bind']['name'].strip()}: {param['value']}" for param in controls)

    def csv(self) -> str:
        """The drawn numbers."""
        return as_csv(self.columns, self.rows)


CONFIG: Spec = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
             "labelLimit": LABEL_PIXELS},
    "legend": {"orient": "top", "direction": "horizontal", "labelFontSize": 12,
               "labelLimit": 260, "symbolSize": 80},
    "view": {"stroke": None},
}  # fmt: skip


def colour(names: Sequence[str], shown: Sequence[str], field: str = "arm") -> Spec:
    """One colour a name, in the order of all names, so that an arm has one in every figure.

    Args:
        shown: those that the legend names.
    """
    return _by_name(names, shown, field, COLOURS)


def shape(names: Sequence[str], shown: Sequence[str], field: str = "arm") -> Spec:
    """One mark a name; stands in the legend of the colours."""
    return _by_name(names, shown, field, SHAPES)


def _by_name(names: Sequence[str], shown: Sequence[str], field: str, values: Sequence[str]) -> Spec:
    scale = {"domain": list(names), "range": list(_cycled(values, len(names)))}
    legend = legend_of(shown) | {"values": list(shown)}
    return {"field": field, "type": "nominal", "scale": scale, "legend": legend}


def legend_of(names: Sequence[str]) -> Spec:
    """Two names beside each other where they are short enough for a phone."""
    columns = 2 if max(map(len, names), default=0) <= SHORT_NAME else 1
    return {"title": None, "columns": columns, "symbolOpacity": 1}


def _cycled(values: Sequence[str], count: int) -> Sequence[str]:
    return [values[number % len(values)] for number in range(count)]


def number(field: str, title: str, **options: Any) -> Spec:
    """A quantitative axis; does not begin at 0 unless the scale says so."""
    scale = {"zero": False} | options.pop("scale", {})
    axis = {"tickCount": MOST_TICKS}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis,
            **options}  # fmt: skip


def log_number(field: str, title: str, values: Sequence[float], expression: str = "") -> Spec:
    """A logarithmic axis with a tick at every value that occurs, as far as there is room."""
    axis = {"values": sorted(set(values)), "labelOverlap": "greedy", "grid": False,
            "labelExpr": expression or "format(datum.value, '~g')"}  # fmt: skip
    scale = {"type": "log", "padding": 24, "nice": False}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


#: 0.125 as 1/8, where it is one over a whole number.
FRACTION_LABEL = (
    "datum.value < 1 && abs(1 / datum.value - round(1 / datum.value)) < 1e-9 "
    "? '1/' + format(1 / datum.value, 'd') : format(datum.value, '~g')"
)


def named(field: str, names: Sequence[str], title: str | None = None) -> Spec:
    """Bars or points by name, in the order of the names."""
    return {"field": field, "type": "nominal", "sort": list(names), "title": title}


def choice(name: str, label: str, options: Sequence[str]) -> Spec:
    """A list to choose one value from; the first is chosen."""
    bind = {"input": "select", "options": list(options), "name": f"{label} "}
    return {"name": name, "value": options[0], "bind": bind}


def tooltip(fields: Mapping[str, str]) -> list[Spec]:
    """What is shown at a mark: field -> its name."""
    return [{"field": field, "title": title} for field, title in fields.items()]


def shift(position: int, count: int) -> float:
    """Pixels that one of several marks at the same place moves aside."""
    return SHIFT_PIXELS * (position - (count - 1) / 2)


def interval_rule(axis: str, mark: Spec, transform: Sequence[Spec] = ()) -> Spec:
    """A line from low to high, where there is an interval."""
    return {
        "mark": {"type": "rule", "strokeWidth": 2, **mark},
        "transform": [{"filter": "isValid(datum.low)"}, *transform],
        "encoding": {axis: {"field": "low", "type": "quantitative"},
                     f"{axis}2": {"field": "high"}},
    }  # fmt: skip


def interval_over_bars() -> Spec:
    """The interval of a horizontal bar; the page draws it in the colour of its text."""
    rule = interval_rule("x", {})
    return {"name": "interval", **rule, "encoding": rule["encoding"] | {"color": {"value": INK}}}


def bar_height(count: int, pixels: int = 24) -> int:
    """Height of so many bars."""
    return max(90, count * pixels)
