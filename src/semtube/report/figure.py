"""The demo's figure: right answers and tube loss against the number of training examples."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt

from semtube.report.demo import (
    ARMS,
    TUBE_LOSS_LINES,
    DemoRun,
    SummaryRow,
    interval_notes,
    summary_rows,
)

# Blue and vermilion of Okabe and Ito's palette, told apart under every common colour blindness.
COLOURS = ("#0072B2", "#D55E00")
SHAPES = ("circle", "triangle-up")
LEGEND = {"ntp": "ntp: next-token loss alone", "tube": "tube: with the tube term"}
PANEL_WIDTH, PANEL_HEIGHT = 430, 340
NOTE_WIDTH_CHARACTERS = 175
# Arms stand to the left and right of their true number, single runs outside their mean: a mark on
# top of another cannot be counted.
MEAN_SHIFT_PIXELS = {"ntp": -6, "tube": 6}
RUN_SHIFT_PIXELS = {"ntp": -17, "tube": 17}
NUM_TICKS = 6
GREY = "#555555"

Panel = Any | alt.FacetChart
Point = dict[str, Any]
"""One mark: arm, num_examples, y, and low and high where it has an interval."""


def write_figure(results: Sequence[DemoRun], path_png: str | Path) -> None:
    """Draw both panels as a PNG: exact match on the left, tube loss on held-out text on the right.

    Left: each run is a small mark, each arm's mean a line, with the 95 % interval of
    `summary_rows` as a bar. Right: each run with its own 95 % interval over test text, means as a
    line, and the reference lines 0, 1 and 1.5. Arms differ in colour and mark. Drawn without
    browser or network.

    Raises:
        UserError: see `summary_rows`.
    """
    rows = summary_rows(results)
    panels = alt.hconcat(_exact_match_panel(results, rows), _tube_loss_panel(results, rows))
    title = alt.TitleParams(
        "What the tube term changes, by size of the training set",
        subtitle=_subtitle(rows),
        anchor="start",
        offset=18,
    )
    chart = (
        panels.properties(title=title, spacing=50, padding=16)
        .configure_title(fontSize=19, subtitleFontSize=13, subtitleColor=GREY, subtitlePadding=6)
        .configure_axis(labelFontSize=13, titleFontSize=14, titleFontWeight="normal")
        .configure_legend(orient="bottom", labelFontSize=14, labelLimit=400, symbolSize=120)
        .configure_view(stroke=None)
    )
    chart.save(str(path_png), format="png", scale_factor=2)


def _subtitle(rows: Sequence[SummaryRow]) -> list[str]:
    reading = (
        "Small open marks: single runs, one for each seed. Lines and filled marks: means over "
        "seeds. Both stand beside their true number of examples."
    )
    paired = (
        "Bars of the two arms can overlap though their paired difference is clear: the table of "
        "the report has that difference with its own interval."
    )
    texts = [reading, *interval_notes(rows), paired]
    return [line for text in texts for line in textwrap.wrap(text, NOTE_WIDTH_CHARACTERS)]


def _exact_match_panel(results: Sequence[DemoRun], rows: Sequence[SummaryRow]) -> Panel:
    runs, means = [], []
    for run in results:
        # From the records, as the means are: a point and its mean have one source.
        share = sum(record["exact_match"] for record in run.records) / len(run.records)
        runs.append(_point(run.arm, run.num_train_examples, 100 * share))
    for row in rows:
        for arm in ARMS:
            summary = getattr(row, arm)
            limits = 100 * summary.interval.low, 100 * summary.interval.high
            means.append(_point(arm, row.num_train_examples, 100 * summary.exact_match, limits))
    y = alt.Y(
        "y:Q",
        title="exact match (% of test rows)",
        # Ends on a tick, as the other panel does, or the panels' titles stand at two heights.
        scale=alt.Scale(zero=False, nice=NUM_TICKS),
        axis=alt.Axis(tickCount=NUM_TICKS),
    )
    x = _x(rows)
    layers = [*_bars(means, MEAN_SHIFT_PIXELS, x, y), *_marks(runs, means, x, y)]
    return _panel(layers, "Right answers: higher is better", "Bars: 95 % interval of the mean")


def _tube_loss_panel(results: Sequence[DemoRun], rows: Sequence[SummaryRow]) -> Panel:
    runs = []
    for run in results:
        loss = run.metrics["tube_loss"]
        limits = loss["low"], loss["high"]
        runs.append(_point(run.arm, run.num_train_examples, loss["mean"], limits))
    means = [
        _point(arm, row.num_train_examples, getattr(row, arm).tube_loss)
        for row in rows
        for arm in ARMS
    ]
    top = max(1.6, *(run["high"] for run in runs))
    y = alt.Y(
        "y:Q",
        title="tube loss on held-out text (0 to 2, no unit)",
        # A little room below 0, so that the straight line's dashes do not lie on the axis.
        scale=alt.Scale(domain=[-0.06, top], nice=False),
        axis=alt.Axis(values=[tick / 5 for tick in range(11)], format=".1f"),
    )
    x = _x(rows)
    layers = [
        *_reference_lines(),
        *_bars(runs, RUN_SHIFT_PIXELS, x, y),
        *_marks(runs, means, x, y),
    ]
    return _panel(
        layers, "Bend of the hidden trajectory: lower is straighter", "Bars: 95 % interval of a run"
    )


def _point(
    arm: str, num_examples: int, y: float, limits: tuple[float, float] | None = None
) -> Point:
    point = {"arm": LEGEND[arm], "num_examples": num_examples, "y": y}
    return point if limits is None else point | {"low": limits[0], "high": limits[1]}


def _x(rows: Sequence[SummaryRow]) -> alt.X:
    sizes = [row.num_train_examples for row in rows]
    # Room for the shifted marks at both ends; a single size has no range of its own.
    room = max(0.1 * math.log(max(sizes) / min(sizes)), 0.25)
    domain = [min(sizes) * math.exp(-room), max(sizes) * math.exp(room)]
    return alt.X(
        "num_examples:Q",
        title="training examples (number, log scale)",
        scale=alt.Scale(type="log", domain=domain, nice=False),
        axis=alt.Axis(values=sizes, format=",d", grid=False, labelOverlap=True),
    )


def _colour() -> alt.Color:
    scale = alt.Scale(domain=[LEGEND[arm] for arm in ARMS], range=list(COLOURS))
    return alt.Color("arm:N", scale=scale, legend=alt.Legend(title=None))


def _shape() -> alt.Shape:
    scale = alt.Scale(domain=[LEGEND[arm] for arm in ARMS], range=list(SHAPES))
    return alt.Shape("arm:N", scale=scale)


def _bars(points: Sequence[Point], shift_pixels: dict[str, int], x: alt.X, y: alt.Y) -> list[Any]:
    low = y.copy()
    low.shorthand = "low:Q"
    return [
        _of_arm(points, arm)
        .mark_rule(strokeWidth=2, opacity=0.6, xOffset=shift_pixels[arm])
        .encode(x=x, y=low, y2="high:Q", color=_colour())
        for arm in ARMS
    ]


def _marks(runs: Sequence[Point], means: Sequence[Point], x: alt.X, y: alt.Y) -> list[Any]:
    """For each arm the line and filled marks of the means, and an open mark for each run."""
    layers = []
    for arm in ARMS:
        beside, outside = MEAN_SHIFT_PIXELS[arm], RUN_SHIFT_PIXELS[arm]
        mean, run = _of_arm(means, arm), _of_arm(runs, arm)
        line = mean.mark_line(strokeWidth=2, xOffset=beside)
        filled = mean.mark_point(size=110, filled=True, opacity=1, xOffset=beside)
        opened = run.mark_point(size=45, opacity=0.9, xOffset=outside)
        encoding = {"x": x, "y": y, "color": _colour()}
        layers += [
            line.encode(**encoding),
            filled.encode(**encoding, shape=_shape()),
            opened.encode(**encoding, shape=_shape()),
        ]
    return layers


def _of_arm(points: Sequence[Point], arm: str) -> alt.Chart:
    return alt.Chart(alt.Data(values=[point for point in points if point["arm"] == LEGEND[arm]]))


def _reference_lines() -> list[Any]:
    """Dashed lines, named to the right of the panel, where no data can cover the names."""
    values = [{"y": y, "name": f"{y:g} {name}"} for y, name in TUBE_LOSS_LINES.items()]
    base = alt.Chart(alt.Data(values=values)).encode(y="y:Q")
    names = base.mark_text(align="left", fontSize=13, color=GREY, dx=6).encode(
        x=alt.value(PANEL_WIDTH), text="name:N"
    )
    return [base.mark_rule(strokeDash=[6, 4], color=GREY), names]


def _panel(layers: Sequence[Any], title: str, subtitle: str) -> Panel:
    return alt.layer(*layers).properties(
        width=PANEL_WIDTH,
        height=PANEL_HEIGHT,
        title=alt.TitleParams(
            title, subtitle=subtitle, fontSize=15, anchor="start", frame="group", offset=12
        ),
    )
