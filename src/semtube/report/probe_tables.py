"""The tables of a probe, and what it says in a sentence."""

from __future__ import annotations

from typing import Any

from semtube.report.probe_data import NO_LENGTH, Cell, ProbeData, nearest_null
from semtube.report.probe_words import SHOWN_NULLS, SINCE, title
from semtube.report.table import Column, Table

_RANGE = "95 % interval"


def sentences(data: ProbeData) -> list[str]:
    """The tube loss of every checkpoint beside its nulls, then the pairs."""
    layer = data.layers[-1]
    cells = {name: data.cell(name, layer, "tube_loss") for name in data.names}
    found = {name: cell for name, cell in cells.items() if cell is not None}
    if not found:
        return ["No trajectory is long enough for a tube loss."]
    values = ", ".join(f"{name} {_with_interval(cell)}" for name, cell in found.items())
    nulls = data.nulls_of(next(iter(found)), layer, "tube_loss")
    beside = ", ".join(f"{null} {fixed(nulls[null], 2)}" for null in SHOWN_NULLS if null in nulls)
    told = [f"Tube loss in layer {layer}: {values} ({beside or 'no null'})."]
    for name in found:
        if (apart := data.difference(name, layer, "tube_loss")) is not None:
            other = data.compared_with(name)
            told.append(f"{name} minus {other}, row by row: {_with_interval(apart, sign=True)}.")
    for checkpoint in data.checkpoints:
        if not checkpoint["same_tokens"]:
            name, other = checkpoint["name"], data.compared_with(checkpoint["name"])
            told.append(
                f"{name} cuts the rows into other tokens than {other}: what differs between them "
                "is the cut as well as the model."
            )
    return told


def fixed(value: float, digits: int, *, sign: bool = False) -> str:
    """So many digits behind the point, and no minus before a zero."""
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _with_interval(cell: Cell, *, sign: bool = False) -> str:
    shown = fixed(cell.mean, 3, sign=sign)
    if cell.interval is None:
        return shown
    low, high = (fixed(x, 3, sign=sign) for x in (cell.interval.low, cell.interval.high))
    return f"{shown} [{low}, {high}]"


def row_table(data: ProbeData, layer: str, *, length: int = NO_LENGTH) -> Table:
    """Every measure of a row in one layer, beside its nulls.

    Args:
        length: in tokens, for those that have one; else those that have none.
    """
    rows: list[dict[str, Any]] = []
    for measure in data.measures(of_sets=False, with_length=length != NO_LENGTH):
        for name in data.names:
            if (cell := data.cell(name, layer, measure, length)) is None:
                continue
            apart = data.difference(name, layer, measure, length)
            nulls = data.nulls_of(name, layer, measure, length)
            near = nearest_null(nulls, cell.mean)
            rows.append(
                {
                    "measure": title(measure),
                    "checkpoint": name,
                    "mean": cell.mean,
                    "interval": _range(cell),
                    "rows": cell.num_rows,
                    "difference": apart.mean if apart else None,
                    "difference_interval": _range(apart),
                    "nearest": None if near is None else f"{near}: {nulls[near]:.3g}",
                }
            )
    return Table(
        name=f"windows_layer_{layer}" if length else f"rows_layer_{layer}",
        title=f"Trajectories in layer {layer}"
        + (f", windows of {length} tokens" if length else ""),
        caption="Means over rows with 95 % intervals (t); differences, from "
        f"{_references(data)}, are paired by row. Nearest null: of all that there are, the one "
        "with the nearest value. Simulated trajectories have the median length and the width of "
        "these, and for a measure with a unit steps as long; table.csv has them all.",
        columns=[
            Column("measure", "measure"),
            Column("checkpoint", "checkpoint"),
            Column("mean", "mean", "number"),
            Column("interval", _RANGE, "range"),
            Column("rows", "rows", "count"),
            Column("difference", "difference", "number"),
            Column("difference_interval", _RANGE, "range"),
            Column("nearest", "nearest null, its value"),
        ],
        rows=rows,
    )


def set_table(data: ProbeData) -> Table:
    """Every measure of a set, layer by layer, each checkpoint's nulls below it."""
    rows: list[dict[str, Any]] = []
    for measure in data.measures(of_sets=True):
        for name in data.names:
            layers = {
                layer: cell for layer in data.layers if (cell := data.cell(name, layer, measure))
            }
            if not layers:
                continue
            about = {"measure": title(measure), "checkpoint": name}
            rows.append({**about, **{layer: cell.mean for layer, cell in layers.items()}})
            of = {layer: data.nulls_of(name, layer, measure) for layer in layers}
            rows += [
                {**about, "null": null, **{layer: of[layer].get(null) for layer in layers}}
                for null in dict.fromkeys(null for nulls in of.values() for null in nulls)
            ]
    return Table(
        name="sets",
        title="The states as a set, by layer",
        caption="One number for all states of a layer, so without an interval; below it what it is "
        "of states that mean nothing. Capacity and stability are of at most 2,048 states drawn "
        "alike in every checkpoint, transport of 256.",
        columns=[
            Column("measure", "measure"),
            Column("checkpoint", "checkpoint"),
            Column("null", "null"),
            *(Column(layer, layer, "number") for layer in data.layers),
        ],
        rows=rows,
    )


def cone_table(data: ProbeData) -> Table:
    """The cone's exponents with their intervals, or why there is none."""
    rows = []
    for checkpoint in data.checkpoints:
        for cone in checkpoint["cones"]:
            low, high = cone.get("low"), cone.get("high")
            between = None if low is None else f"{fixed(low, 2)} to {fixed(high, 2)}"
            nulls = cone.get("nulls", {})
            steps = "" if low is None else f": {cone['first_step']} to {cone['last_step']}"
            rows.append(
                {"checkpoint": checkpoint["name"], "layer": cone["layer"], "kind": cone["kind"],
                 "since": SINCE[cone["since"]], "left": cone["num_left"],
                 "exponent": cone.get("exponent"), "interval": between,
                 "nulls": ", ".join(f"{null} {fixed(value, 2)}" for null, value in nulls.items()),
                 "steps": cone["steps"] + steps,
                 "prompts": cone.get("num_prompts"), "reason": cone.get("reason")}
            )  # fmt: skip
    return Table(
        name="cone",
        title="The inference cone: how the distance from the right answer grows",
        caption="Exponent of the root mean square distance in the step. Counted from the first "
        "other token it is 1/2 for errors that add up like a Brownian motion (the paper's "
        "Proposition F.1), 1 for a line, 0 for none. Counted from the prompt's end the share of "
        "texts that differ grows, too: once apart tells what such distances give that begin where "
        "these texts differ. Unsaturated steps are those before states are half as far apart as "
        "unrelated ones. 95 % intervals over prompts; look at the curve before an exponent. A "
        "model that is mostly right leaves few texts to fit: more come from --limit and "
        "--cone_prompts.",
        columns=[
            Column("checkpoint", "checkpoint"),
            Column("layer", "layer"),
            Column("kind", "written"),
            Column("since", "steps from"),
            Column("left", "texts that differ", "count"),
            Column("exponent", "exponent", "number"),
            Column("interval", _RANGE, "range"),
            Column("nulls", "nulls"),
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
        apart = data.difference(name, "", "stop_log_probability")
        if loss is None and stop is None:  # not among the cheap measures
            continue
        rows.append(
            {
                "checkpoint": name,
                "rows": checkpoint["num_examples"],
                "loss": loss.mean if loss else None,
                "loss_null": _one(data.nulls_of(name, "", "loss")),
                "stop": stop.mean if stop else None,
                "stop_interval": _range(stop),
                "stop_null": _one(data.nulls_of(name, "", "stop_log_probability")),
                "difference": apart.mean if apart else None,
                "difference_interval": _range(apart),
            }
        )
    return Table(
        name="checkpoints",
        title="Checkpoints",
        caption="Next-token loss in nats a token; stopping is ln p(stop token) behind the right "
        "answer, with a 95 % interval over rows. Alike: of a model that finds all tokens alike. "
        f"Differences are from {_references(data)}.",
        columns=[
            Column("checkpoint", "checkpoint"),
            Column("rows", "rows", "count"),
            Column("loss", "next-token loss", "number"),
            Column("loss_null", "alike", "number"),
            Column("stop", "stopping", "number"),
            Column("stop_interval", _RANGE, "range"),
            Column("stop_null", "alike", "number"),
            Column("difference", "difference", "number"),
            Column("difference_interval", _RANGE, "range"),
        ],
        rows=rows,
    )


def left_out(data: ProbeData) -> list[str]:
    """What was left out and why, a sentence each."""
    told = []
    for checkpoint in data.checkpoints:
        name = checkpoint["name"]
        if number := checkpoint["num_too_long"]:
            told.append(f"{name}: {number} rows are over max_tokens and left out")
        if number := checkpoint["num_without_views"]:
            told.append(f"{name}: {number} rows have no prompt or no answer and so no two views")
        for what, why in checkpoint["not_measured"].items():
            told.append(f"{name}: no {what.replace('_', ' ')}: {why}")
        # Length decides nearly always, and then alike in every layer and measure of that length.
        alike: dict[int, dict[str, None]] = {}
        for left in sorted(checkpoint["left_out"], key=lambda left: left["length"] or 0):
            length = left["length"]
            what = title(left["measure"]) if length is None else f"{length} tokens"
            alike.setdefault(left["num_examples"], {})[what] = None
        told += [
            f"{name}: {number} of {checkpoint['num_examples']} rows are too short, or without a "
            f"direction, for: {', '.join(what)}"
            for number, what in alike.items()
        ]
    return told


def _references(data: ProbeData) -> str:
    return "each run's own start" if data.settings["start"] else data.names[0]


def _one(nulls: dict[str, float]) -> float | None:
    return next(iter(nulls.values()), None)


def _range(cell: Cell | None) -> str | None:
    if cell is None or cell.interval is None:
        return None
    return f"{cell.interval.low:.4g} to {cell.interval.high:.4g}"
