"""Tables of a study's results: cells, comparisons, data multiplier, learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semtube.report.study_cells import Cell, place_name, shown_settings
from semtube.report.study_comparisons import Comparison
from semtube.report.study_curves import ArmCurve, ArmMultiplier
from semtube.report.study_data import StudyData
from semtube.report.table import Column, Table


def cell_table(data: StudyData, cells: Sequence[Cell]) -> Table:
    """Mean, deviation and Student interval of every cell."""
    rows = []
    for cell in cells:
        low, high = (cell.interval.low, cell.interval.high) if cell.interval else (None, None)
        interval: Any = cell.withheld and f"withheld: {cell.withheld}"
        if low is not None and high is not None:
            interval = f"{100 * low:.1f} to {100 * high:.1f}"
        rows.append({
            "arm": cell.arm, "point": place_name(cell.place), "seeds": len(cell.seeds),
            "missing": cell.num_missing, "examples": cell.num_examples, "mean": cell.mean,
            "deviation": cell.deviation, "interval": interval, "low": low, "high": high,
            "stopped": cell.metrics.get("stopped"), "loss": cell.metrics.get("loss"),
            "tube_loss": cell.metrics.get("tube_loss"), "chosen": shown_settings(cell.chosen),
            "seconds_per_step": cell.seconds_per_step,
        })  # fmt: skip
    return Table(
        "cells",
        "Every arm at every point",
        f"{data.study.score_title} on the test rows: mean over seeds, deviation between seeds "
        "(dividing by seeds - 1), and the 95 % Student interval of the mean. Missing: planned "
        "seeds without a score. Stopped: answers that ended by themselves. Losses are of the test "
        "rows: next-token loss in nats a token; tube loss, 0 to 2, measured alike for all arms.",
        [
            Column("arm", "arm"),
            Column("point", "at"),
            Column("seeds", "seeds", "count"),
            Column("missing", "missing", "count"),
            Column("examples", "training examples", "count"),
            Column("mean", "mean, %", "percent"),
            Column("deviation", "deviation, points", "percent"),
            Column("interval", "95 % interval, %", "range"),
            Column("stopped", "stopped, %", "percent"),
            Column("loss", "next-token loss", "number"),
            Column("tube_loss", "tube loss", "number"),
            Column("seconds_per_step", "s a step", "number"),
            Column("chosen", "tuned settings"),
        ],
        rows,
    )


def comparison_table(data: StudyData, comparisons: Sequence[Comparison]) -> Table:
    """Every arm against the baseline, by seed and by row, corrected for their number."""
    rows = []
    for c in comparisons:
        row: dict[str, Any] = {
            "arm": c.arm, "point": " and ".join(map(place_name, c.places)), "seeds": c.num_seeds,
            "rows": c.num_rows, "difference": c.difference, "detectable": c.detectable,
            "p_two_sided": c.p_two_sided, "p_one_sided": c.p_one_sided, "p_holm": c.p_holm,
            "p_rows": c.p_rows, "p_equivalence": c.p_equivalence,
            "equivalent": {True: "yes", False: "not shown", None: None}[c.is_equivalent],
            "note": c.withheld or ("scored alike on every row" if c.is_scored_alike else ""),
        }  # fmt: skip
        for name, interval in (("t", c.t_interval), ("bootstrap", c.bootstrap)):
            if interval is not None:
                row[f"{name}_low"], row[f"{name}_high"] = interval.low, interval.high
                low, high = 100 * interval.low, 100 * interval.high
                row[name] = f"{low:+.1f} to {high:+.1f}"
        rows.append(row)
    return Table(
        "comparisons",
        f"Every arm against {data.study.baseline}",
        "Differences are arm minus baseline in points, paired by seed (and by test row for the "
        "bootstrap and the test by row). One-sided: the arm is better. Holm: the two-sided p, "
        f"corrected for the {len(comparisons)} comparisons of this table. Bootstrap: over test "
        "rows, and over seeds too from two seeds on. By row: McNemar's test for one seed, its sign "
        "flips over several; it speaks of these trained models on new rows, not of new seeds. "
        "Equivalent: both one-sided tests against the margin of "
        f"{100 * data.study.margin:g} points reject at 5 %. Detectable: the true difference that "
        "four of five such studies would find.",
        [
            Column("arm", "arm"),
            Column("point", "at"),
            Column("seeds", "seeds", "count"),
            Column("rows", "rows", "count"),
            Column("difference", "difference, points", "points"),
            Column("t", "95 % by seed", "range"),
            Column("bootstrap", "95 % bootstrap", "range"),
            Column("p_two_sided", "p, two-sided", "p"),
            Column("p_one_sided", "p, one-sided", "p"),
            Column("p_holm", "p, Holm", "p"),
            Column("p_rows", "p, by row", "p"),
            Column("equivalent", "equivalent"),
            Column("p_equivalence", "p, equivalence", "p"),
            Column("detectable", "detectable, points", "percent"),
            Column("note", "note"),
        ],
        rows,
    )


def multiplier_table(data: StudyData, multipliers: Sequence[ArmMultiplier]) -> Table:
    """How many times fewer examples an arm needs for the baseline's accuracy."""
    rows = []
    for found in multipliers:
        m = found.multiplier
        flags = [f"{m.bound} {m.limit:.3g}"] if m.bound and m.limit is not None else []
        flags += ["beyond the arm's sizes"] if m.extrapolates else []
        flags += [m.note] if m.note else []
        flags += ["one seed: interval withheld"] if m.low is None and not m.note else []
        flags += ["two seeds: holds in 89 to 93 % only"] if len(found.seeds) == 2 else []
        rows.append({
            "arm": found.arm, "point": place_name(found.place) if found.place else "",
            "seeds": len(found.seeds), "method": m.method, "at": m.num_examples,
            "level": m.level, "value": m.value, "low": m.low, "high": m.high,
            "flag": ", ".join(flags),
        })  # fmt: skip
    return Table(
        "data_multiplier",
        "Data multiplier",
        f"k: the arm reaches with 1/k of the training examples what {data.study.baseline} reaches "
        "with all of those named. 1 says no saving, below 1 that the arm needs more. By monotone "
        "interpolation between the fractions that were run, and by a fitted power law plus "
        "constant; intervals resample the seeds that both arms have at every fraction. Where the "
        "arm does not reach the accuracy between its own sizes there is a bound and no value: "
        "nothing is extrapolated. In simulations intervals from three seeds hold the truth at "
        "their rate, those from two in 89 to 93 %.",
        [
            Column("arm", "arm"),
            Column("point", "at"),
            Column("seeds", "seeds", "count"),
            Column("method", "by"),
            Column("at", "baseline's examples", "count"),
            Column("level", "its accuracy, %", "percent"),
            Column("value", "k", "factor"),
            Column("low", "95 % from", "factor"),
            Column("high", "to", "factor"),
            Column("flag", "note"),
        ],
        rows,
    )


def curve_table(data: StudyData, curves: Sequence[ArmCurve]) -> Table:
    """The law through every arm's errors, and whether its exponent is another."""
    rows = []
    for found in curves:
        row = {
            "arm": found.arm,
            "point": place_name(found.place) if found.place else "",
            "seeds": len(found.seeds),
        }
        notes = [found.note]
        if found.fitted is not None:
            curve = found.fitted.curve
            row |= {"scale": curve.scale, "exponent": curve.exponent, "floor": curve.floor}
            row |= _limits("exponent", found.fitted.exponent)
            row |= _limits("floor", found.fitted.floor)
            known = {True: "", False: "floor not identified", None: found.fitted.withheld}
            notes.append(known[found.fitted.is_floor_identified])
        if found.difference is not None:
            limits = found.difference.low, found.difference.high
            row |= {"difference": found.difference.value, **_limits("difference", limits)}
        rows.append(row | {"note": ", ".join(filter(None, notes))})
    return Table(
        "learning_curves",
        "Learning curves",
        "The error, 1 - accuracy, as a m^(-b) + c over m training examples, fitted to every run, "
        f"and the exponent b less that of {data.study.baseline}. With exponent and floor alike, an "
        "arm saves the same factor of data at every size. Exponent and floor are fitted together: "
        "a lower floor can pass for a smaller exponent, so a difference of exponents says "
        "something only where both floors are identified (their interval spans at most half of "
        "the lowest error). Intervals resample seeds, the same for both arms.",
        [
            Column("arm", "arm"),
            Column("point", "at"),
            Column("seeds", "seeds", "count"),
            Column("scale", "a", "number"),
            Column("exponent", "b", "number"),
            Column("exponent_low", "95 % from", "number"),
            Column("exponent_high", "to", "number"),
            Column("floor", "c", "number"),
            Column("floor_low", "95 % from", "number"),
            Column("floor_high", "to", "number"),
            Column("difference", "b less the baseline's", "number"),
            Column("difference_low", "95 % from", "number"),
            Column("difference_high", "to", "number"),
            Column("note", "note"),
        ],
        rows,
    )


def _limits(name: str, limits: tuple[float | None, float | None] | None) -> dict[str, Any]:
    low, high = limits or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
