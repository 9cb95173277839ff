"""The tables of a probe, and what it says in a sentence."""

from __future__ import annotations

from typing import Any

from semtube.report.probe_data import NO_LENGTH, Cell, ProbeData
from semtube.report.probe_figures import SHOWN_NULLS
from semtube.report.probe_path_figures import SINCE
from semtube.report.probe_words import WORDS, title
from semtube.report.table import Column, Table

_RANGE = "95 % interval"


def sentences(data: ProbeData) -> list[str]:
    """The tube loss of every checkpoint among its nulls, then what each is near to, and pairs."""
    layer = data.layers[-1]
    cells = {name: data.cell(name, layer, "tube_loss") for name in data.names}
    found = {name: cell for name, cell in cells.items() if cell is not None}
    if not found:
        return ["No trajectory is long enough for a tube loss."]
    values = ", ".join(f"{name} {_with_interval(cell)}" for name, cell in found.items())
    nulls = {null: of.get(("tube_loss", NO_LENGTH)) for null, of in data.nulls.items()}
    beside = [
        f"{null} {value:.2f}" for null in SHOWN_NULLS if (value := nulls.get(null)) is not None
    ]
    told = [f"Tube loss in layer {layer}: {values} ({', '.join(beside) or 'no null'})."]
    for name, cell in found.items():
        if near := data.nearest_null("tube_loss", NO_LENGTH, cell.mean):
            told.append(f"{name} is nearest to the null {near}.")
        if (apart := data.difference(name, layer, "tube_loss")) is not None:
            told.append(
                f"{name} minus {data.names[0]}, row by row: {_with_interval(apart, sign=True)}."
            )
    return told


def _with_interval(cell: Cell, *, sign: bool = False) -> str:
    shown = f"{cell.mean:+.3f}" if sign else f"{cell.mean:.3f}"
    if cell.interval is None:
        return shown
    low, high = cell.interval.low, cell.interval.high
    return f"{shown} [{low:+.3f}, {high:+.3f}]" if sign else f"{shown} [{low:.3f}, {high:.3f}]"


def row_table(data: ProbeData, layer: str) -> Table:
    """Every measure of a row in one layer, beside its nulls."""
    nulls = [null for null in SHOWN_NULLS if null in data.nulls]
    rows: list[dict[str, Any]] = []
    for measure in data.measures(of_sets=False):
        for name in data.names:
            if (cell := data.cell(name, layer, measure)) is None:
                continue
            apart = data.difference(name, layer, measure)
            rows.append(
                {
                    "measure": title(measure),
                    "checkpoint": name,
                    "mean": cell.mean,
                    "interval": _range(cell),
                    "rows": cell.num_rows,
                    "difference": apart.mean if apart else None,
                    "difference_interval": _range(apart),
                    **{null: data.nulls[null].get((measure, NO_LENGTH)) for null in nulls},
                    "nearest": data.nearest_null(measure, NO_LENGTH, cell.mean),
                    "note": WORDS.get(measure, ("", ""))[1],
                }
            )
    return Table(
        name=f"rows_layer_{layer}",
        title=f"Trajectories in layer {layer}",
        caption=f"Means over rows with 95 % intervals (t); differences from {data.names[0]} are "
        "paired by row. Nulls have the median length and the width of the trajectories; nearest is "
        "the null, of all that were simulated, with the nearest value.",
        columns=[
            Column("measure", "measure"),
            Column("checkpoint", "checkpoint"),
            Column("mean", "mean", "number"),
            Column("interval", _RANGE, "range"),
            Column("rows", "rows", "count"),
            Column("difference", "minus the first", "number"),
            Column("difference_interval", _RANGE, "range"),
            *(Column(null, null, "number") for null in nulls),
            Column("nearest", "nearest null"),
            Column("note", "what it is"),
        ],
        rows=rows,
    )


def set_table(data: ProbeData) -> Table:
    """Every measure of a set, layer by layer."""
    rows: list[dict[str, Any]] = []
    for measure in data.measures(of_sets=True):
        nulls = [
            f"{of[measure, NO_LENGTH]:.4g} ({null})"
            for null, of in data.nulls.items()
            if (measure, NO_LENGTH) in of
        ]
        for name in data.names:
            values = {
                layer: cell.mean
                for layer in data.layers
                if (cell := data.cell(name, layer, measure)) is not None
            }
            if values:
                rows.append(
                    {"measure": title(measure), "checkpoint": name, **values,
                     "null": "; ".join(nulls) or None, "note": WORDS.get(measure, ("", ""))[1]}
                )  # fmt: skip
    return Table(
        name="sets",
        title="The states as a set, by layer",
        caption="One number for all states of a layer, so without an interval. Capacity and "
        "stability are of at most 2,048 states drawn alike in every checkpoint, transport of 256.",
        columns=[
            Column("measure", "measure"),
            Column("checkpoint", "checkpoint"),
            *(Column(layer, layer, "number") for layer in data.layers),
            Column("null", "null"),
            Column("note", "what it is"),
        ],
        rows=rows,
    )


def cone_table(data: ProbeData) -> Table:
    """The cone's exponents with their intervals, or why there is none."""
    rows = []
    for checkpoint in data.checkpoints:
        for cone in checkpoint["cones"]:
            low, high = cone.get("low"), cone.get("high")
            between = None if low is None else f"{low:.2f} to {high:.2f}"
            steps = "" if low is None else f": {cone['first_step']} to {cone['last_step']}"
            rows.append(
                {"checkpoint": checkpoint["name"], "kind": cone["kind"],
                 "since": SINCE[cone["since"]], "left": cone["num_left"],
                 "exponent": cone.get("exponent"), "interval": between,
                 "steps": cone["steps"] + steps,
                 "prompts": cone.get("num_prompts"), "reason": cone.get("reason")}
            )  # fmt: skip
    return Table(
        name="cone",
        title="The inference cone: how the distance from the right answer grows",
        caption="Exponent of the root mean square distance in the step: 1/2 for errors that add up "
        "like a Brownian motion (the paper's Proposition F.1), 1 for a line, 0 for none. "
        "Unsaturated steps are those before states are half as far apart as unrelated ones. 95 % "
        "intervals over prompts; look at the curve before an exponent.",
        columns=[
            Column("checkpoint", "checkpoint"),
            Column("kind", "written"),
            Column("since", "steps from"),
            Column("left", "texts that differ", "count"),
            Column("exponent", "exponent", "number"),
            Column("interval", _RANGE, "range"),
            Column("steps", "steps"),
            Column("prompts", "prompts", "count"),
            Column("reason", "why not"),
        ],
        rows=rows,
    )


def checkpoint_table(data: ProbeData) -> Table:
    """Each checkpoint's rows, next-token loss and stopping."""
    rows = []
    for checkpoint in data.checkpoints:
        name = checkpoint["name"]
        loss = data.cell(name, "", "loss")
        stop = data.cell(name, "", "stop_log_probability")
        rows.append(
            {
                "checkpoint": name,
                "rows": checkpoint["num_examples"],
                "loss": loss.mean if loss else None,
                "stop": stop.mean if stop else None,
                "stop_interval": _range(stop),
            }
        )
    return Table(
        name="checkpoints",
        title="Checkpoints",
        caption="Next-token loss in nats a token; stopping is ln p(stop token) behind the right "
        "answer, with a 95 % interval over rows.",
        columns=[
            Column("checkpoint", "checkpoint"),
            Column("rows", "rows", "count"),
            Column("loss", "next-token loss", "number"),
            Column("stop", "stopping", "number"),
            Column("stop_interval", _RANGE, "range"),
        ],
        rows=rows,
    )


def missing(data: ProbeData) -> list[str]:
    """What was left out, a sentence each."""
    told = []
    for checkpoint in data.checkpoints:
        name = checkpoint["name"]
        if number := checkpoint["num_too_long"]:
            told.append(f"{name}: {number} rows are over max_tokens and left out")
        if number := checkpoint["num_without_views"]:
            told.append(f"{name}: {number} rows have no prompt or no answer and so no two views")
        told += [f"{name}: no {what}: {why}" for what, why in checkpoint["not_measured"].items()]
        # Length decides nearly always, and then alike in every layer and measure of that length.
        alike: dict[int, set[str]] = {}
        for left in checkpoint["left_out"]:
            length = left["length"]
            what = title(left["measure"]) if length is None else f"{length} tokens"
            alike.setdefault(left["num_examples"], set()).add(what)
        told += [
            f"{name}: {number} of {checkpoint['num_examples']} rows are too short, or without a "
            f"direction, for: {', '.join(sorted(what))}"
            for number, what in alike.items()
        ]
    return told


def _range(cell: Cell | None) -> str | None:
    if cell is None or cell.interval is None:
        return None
    return f"{cell.interval.low:.4g} to {cell.interval.high:.4g}"
