"""Panels of curves, ours beside a paper's and a theory's, as PNG, SVG and CSV."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import altair as alt

from semtube.run_folder import write_text

# Okabe and Ito's palette, told apart under every common colour blindness; its yellow, too light
# for a line, comes last.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442",
)  # fmt: skip
GREY = "#555555"
DASHES = {"ours": [1, 0], "paper": [6, 4], "theory": [2, 3]}
MARKS = {"ours": "circle", "paper": "triangle-up"}
PANEL_WIDTH, PANEL_HEIGHT = 430, 320
NOTE_WIDTH_CHARACTERS = 80
# Numbers below 1 as they are, large ones as 20k: SI's milli is not for shares.
TICK_LABEL = "datum.value < 1 ? format(datum.value, '.2~g') : format(datum.value, '.3~s')"

Source = Literal["ours", "paper", "theory"]


@dataclass(frozen=True)
class Point:
    """One mark.

    Attributes:
        series: the curve it belongs to, as the legend names it.
        source: whose number it is; "theory" is drawn as a line without marks.
        low, high: its interval, if it has one.
    """

    series: str
    source: Source
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        x_ticks: where the horizontal axis has ticks; chosen by the scale if None.
        rules: vertical reference lines, place -> name.
        y_domain: where the vertical axis begins and ends; by the data if None.
    """

    title: str
    x_title: str
    y_title: str
    points: Sequence[Point]
    log_x: bool = True
    log_y: bool = False
    y_domain: tuple[float, float] | None = None
    x_ticks: Sequence[float] | None = None
    rules: dict[float, str] = field(default_factory=dict)


def write_panels(panels: Sequence[Panel], *, title: str, notes: Sequence[str], stem: Path) -> None:
    """Write stem.png, stem.svg and stem.csv, which holds every drawn number.

    Points that are not finite, or not positive on a log axis, stand in the CSV alone.

    Args:
        notes: sentences below the title: the size that was run, what the marks mean.
        stem: a path without suffix; its folder is made.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    chart = figure(panels, title=title, notes=notes)
    for kind in ("png", "svg"):
        scale: dict[str, Any] = {"scale_factor": 2} if kind == "png" else {}
        part = stem.with_name(f".{stem.name}.part.{kind}")
        chart.save(str(part), format=kind, **scale)
        part.replace(stem.with_name(f"{stem.name}.{kind}"))
    write_text(stem.with_name(f"{stem.name}.csv"), as_csv(panels))


def as_csv(panels: Sequence[Panel]) -> str:
    """One line a point: panel, series, source, x, y, low, high."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["panel", "series", "source", "x", "y", "low", "high"])
    for panel in panels:
        for p in panel.points:
            numbers = ["" if n is None else f"{n:.6g}" for n in (p.x, p.y, p.low, p.high)]
            writer.writerow([panel.title, p.series, p.source, *numbers])
    return text.getvalue()


def figure(panels: Sequence[Panel], *, title: str, notes: Sequence[str]) -> Any:
    """The panels side by side, two in a row."""
    lines = [line for note in notes for line in textwrap.wrap(note, _note_width(panels))]
    return (
        alt.concat(*[_panel(panel) for panel in panels], columns=2)
        .resolve_scale(color="independent", strokeDash="shared", shape="shared")
        .properties(
            title=alt.TitleParams(title, subtitle=lines, anchor="start", offset=18),
            spacing=50,
            padding=16,
        )
        .configure_title(fontSize=19, subtitleFontSize=13, subtitleColor=GREY, subtitlePadding=6)
        .configure_axis(labelFontSize=12, titleFontSize=13, titleFontWeight="normal")
        .configure_legend(orient="bottom", labelFontSize=12, titleFontSize=12, labelLimit=400)
        .configure_view(stroke=None)
    )


def _note_width(panels: Sequence[Panel]) -> int:
    return NOTE_WIDTH_CHARACTERS * min(len(panels), 2)


def _panel(panel: Panel) -> Any:
    drawn = [p for p in panel.points if _is_drawn(p, panel)]
    values = [
        {"series": p.series, "source": p.source, "x": p.x, "y": p.y, "low": p.low, "high": p.high}
        for p in drawn
    ]
    y = alt.Y("y:Q", title=panel.y_title, scale=_scale(panel.log_y, panel.y_domain))
    x = alt.X("x:Q", title=panel.x_title, scale=_scale(panel.log_x, None))
    ticks: dict[str, Any] = {} if panel.x_ticks is None else {"values": list(panel.x_ticks)}
    x = x.axis(alt.Axis(labelExpr=TICK_LABEL, labelOverlap=True, grid=False, **ticks))
    if panel.log_y:
        y = y.axis(alt.Axis(labelExpr=TICK_LABEL, labelOverlap=True))
    names = list(dict.fromkeys(p.series for p in panel.points))
    if len(names) > len(COLOURS):
        raise ValueError(f"a panel has at most {len(COLOURS)} series, got {len(names)}")
    colour = alt.Color(
        "series:N",
        scale=alt.Scale(domain=names, range=list(COLOURS[: len(names)])),
        legend=alt.Legend(title=None, columns=4, symbolOpacity=1),
    )
    sources = list(dict.fromkeys(p.source for p in panel.points))
    dash = alt.StrokeDash(
        "source:N",
        scale=alt.Scale(domain=list(DASHES), range=list(DASHES.values())),
        legend=alt.Legend(title=None, values=sources, symbolSize=900),
    )
    marked = [v for v in values if v["source"] != "theory"]
    shape = alt.Shape(
        "source:N",
        scale=alt.Scale(domain=list(MARKS), range=list(MARKS.values())),
        legend=None,
    )
    barred = [v for v in values if v["low"] is not None and v["high"] is not None]
    low = y.copy()
    low.shorthand = "low:Q"
    layers = [
        *_rules(panel),
        alt.Chart(alt.Data(values=barred))
        .mark_rule(strokeWidth=2, opacity=0.5)
        .encode(x=x, y=low, y2="high:Q", color=colour),
        alt.Chart(alt.Data(values=values))
        .mark_line(strokeWidth=2)
        .encode(x=x, y=y, color=colour, strokeDash=dash, order="x:Q"),
        alt.Chart(alt.Data(values=marked))
        .mark_point(size=45, filled=True, opacity=1)
        .encode(x=x, y=y, color=colour, shape=shape),
    ]
    return alt.layer(*layers).properties(
        width=PANEL_WIDTH,
        height=PANEL_HEIGHT,
        title=alt.TitleParams(
            panel.title,
            fontSize=15,
            anchor="start",
            frame="group",
            offset=24 if panel.rules else 12,
        ),
    )


def _scale(is_log: bool, domain: tuple[float, float] | None) -> alt.Scale:
    options: dict[str, Any] = {"nice": False, "padding": 12}
    options |= {"type": "log"} if is_log else {"zero": False}
    if domain is not None:
        options |= {"domain": list(domain), "padding": 0}
    return alt.Scale(**options)


def _is_drawn(point: Point, panel: Panel) -> bool:
    is_finite = math.isfinite(point.x) and math.isfinite(point.y)
    is_on_axes = (point.x > 0 or not panel.log_x) and (point.y > 0 or not panel.log_y)
    return is_finite and is_on_axes


def _rules(panel: Panel) -> list[Any]:
    if not panel.rules:
        return []
    values = [{"x": x, "name": name} for x, name in panel.rules.items()]
    base = alt.Chart(alt.Data(values=values)).encode(x="x:Q")
    names = base.mark_text(align="center", baseline="bottom", fontSize=12, color=GREY, dy=-4)
    return [
        base.mark_rule(strokeDash=[6, 4], color=GREY),
        names.encode(y=alt.value(0), text="name:N"),
    ]
