"""Tables of a study: cells, comparisons, data multiplier, tuning, runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from semtube.evaluation.compare import read_records
from semtube.report.study_cells import Cell, place_name, shown, shown_settings
from semtube.report.study_comparisons import ArmMultiplier, Comparison
from semtube.report.study_data import Planned, RunRecord, StudyData
from semtube.report.table import Column, Table

MOST_EXAMPLES = 8
LONGEST_TEXT = 400


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
            "note": c.withheld or ("identical answers" if c.is_identical else ""),
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
        rows.append({
            "arm": found.arm, "point": place_name(found.place) if found.place else "",
            "method": m.method, "at": m.num_examples, "level": m.level, "value": m.value,
            "low": m.low, "high": m.high, "flag": ", ".join(flags),
        })  # fmt: skip
    return Table(
        "data_multiplier",
        "Data multiplier",
        f"k: the arm reaches with 1/k of the training examples what {data.study.baseline} reaches "
        "with all of those named. 1 says no saving, below 1 that the arm needs more. By monotone "
        "interpolation between the fractions that were run, and by a fitted power law plus "
        "constant; intervals resample seeds. Where the arm does not reach the accuracy between its "
        "own sizes there is a bound and no value: nothing is extrapolated.",
        [
            Column("arm", "arm"),
            Column("point", "at"),
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


def tuning_table(data: StudyData) -> Table:
    """Every trial of every arm, the chosen one marked."""
    rows = []
    for arm, choices in data.choices.items():
        for choice in choices:
            for trial in choice.get("trials", []):
                is_chosen = trial.get("tried") == choice.get("chosen")
                rows.append({
                    "arm": arm, "point": shown_settings(choice.get("at", {})),
                    "tried": shown_settings(trial.get("tried", {})),
                    "score": trial.get("score"), "loss": trial.get("loss"),
                    "chosen": "chosen" if is_chosen else "", "run": trial.get("run"),
                })  # fmt: skip
    reads = sum(
        data.runs[run].readings["test"].num_reads
        for run in {p.run for p in data.plan} - {p.run for p in data.finals()}
        if "test" in data.runs[run].readings
    )
    score = (data.study.tuning or {}).get("score") or data.study.primary
    return Table(
        "tuning",
        "Tuning",
        f"Highest {score} on the validation rows is chosen, then the lowest validation loss. "
        f"Tuning runs have decoded the test rows {reads} times. A trial without a score failed or "
        "is not done.",
        [
            Column("arm", "arm"),
            Column("point", "at"),
            Column("tried", "tried"),
            Column("score", "validation score, %", "percent"),
            Column("loss", "validation loss", "number"),
            Column("chosen", "chosen"),
            Column("run", "run"),
        ],
        rows,
    )


def run_table(data: StudyData) -> Table:
    """Every planned run, failures and their causes included."""
    rows = []
    for planned in data.plan:
        run = data.runs[planned.run]
        split = planned.read[0] if planned.read else "test"
        reading = run.readings.get(split)
        metric = (reading.metrics.get(data.study.primary) or {}) if reading else {}
        rows.append({
            "run": run.run, "phase": planned.phase, "arm": planned.arm,
            "point": shown_settings({a: v for a, v in planned.point.items()}),
            "tried": shown_settings(planned.tried), "state": run.status, "cause": run.cause,
            "split": split, "score": metric.get("mean"),
            "reads": reading.num_reads if reading else 0,
            "steps": run.result.get("num_steps"), "seconds": run.result.get("training_seconds"),
            "starts": len(run.environments),
        })  # fmt: skip
    return Table(
        "runs",
        f"{len(data.runs):,} runs",
        "One line for each run of the plan. A run is named by the hash of its settings and data; "
        "one that stands in both phases was done once. Starts above 1: it was stopped and resumed, "
        "and its seconds are of the last start.",
        [
            Column("run", "run"),
            Column("phase", "phase"),
            Column("arm", "arm"),
            Column("point", "at"),
            Column("tried", "tuned settings"),
            Column("state", "state"),
            Column("cause", "cause"),
            Column("split", "read"),
            Column("score", f"{data.study.primary}, %", "percent"),
            Column("reads", "times read", "count"),
            Column("steps", "steps", "count"),
            Column("seconds", "s", "number"),
            Column("starts", "starts", "count"),
        ],
        rows,
    )


def example_table(data: StudyData, comparison: Comparison | None) -> Table:
    """Rows that only one of the two deciding arms has right, under their first common seed."""
    rows: list[dict[str, Any]] = []
    if comparison is not None and comparison.seeds:
        arms = (comparison.baseline, comparison.arm)
        runs = [_run_of(data, arm, comparison) for arm in arms]
        both = [read_records(run.path / "readings" / "test" / "examples.jsonl") for run in runs]
        by_id = {record["id"]: record for record in both[1]}
        score = data.study.primary
        counts = dict.fromkeys(arms, 0)
        for a in both[0]:
            b = by_id.get(a["id"])
            if b is None or a[score] is None or b[score] is None or a[score] == b[score]:
                continue
            winner = arms[0] if a[score] else arms[1]
            counts[winner] += 1
            if counts[winner] <= MOST_EXAMPLES:
                texts = {"prompt": a["prompt"], "gold": a["gold"],
                         "baseline": a["prediction"], "arm": b["prediction"]}  # fmt: skip
                rows.append({"right": winner} | {k: _cut(v) for k, v in texts.items()})
        rows.sort(key=lambda row: arms.index(row["right"]))
    arm = data.study.deciding["arm"]
    return Table(
        "examples",
        "Answers of the first seed",
        f"The first {MOST_EXAMPLES} test rows that only one of the two arms has right, of each "
        "kind; nothing is chosen by hand. All answers are in the runs' readings.",
        [
            Column("right", "right is only"),
            Column("prompt", "prompt"),
            Column("gold", "right answer"),
            Column("baseline", f"{data.study.baseline} wrote"),
            Column("arm", f"{arm} wrote"),
        ],
        rows,
    )


def _run_of(data: StudyData, arm: str, comparison: Comparison) -> RunRecord:
    finals = data.final(arm, comparison.places[0])
    planned = next(p for p in finals if p.seed == comparison.seeds[0])
    return data.runs[planned.run]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 4] + " ..."


def environment_table(data: StudyData) -> Table:
    """What the runs ran on, each different environment once."""
    counts: dict[str, int] = {}
    for run in data.runs.values():
        for environment in run.environments:
            key = json.dumps(environment, sort_keys=True)
            counts[key] = counts.get(key, 0) + 1
    rows = [_environment_row(json.loads(key), count) for key, count in counts.items()]
    return Table(
        "environments",
        "What the runs ran on",
        "Each environment once, with the number of starts in it. A commit with +changes was run "
        "from files that differ from it.",
        [
            Column("starts", "starts", "count"),
            Column("commit", "commit"),
            Column("device", "device"),
            Column("num_cpus", "CPUs", "count"),
            Column("num_threads", "threads", "count"),
            Column("python", "Python"),
            Column("platform", "platform"),
            Column("versions", "versions"),
        ],
        rows,
    )


def _environment_row(environment: Mapping[str, Any], count: int) -> dict[str, Any]:
    names = ("commit", "device", "num_cpus", "num_threads", "python", "platform")
    versions = environment.get("versions") or {}
    told = ", ".join(f"{name} {shown(version)}" for name, version in sorted(versions.items()))
    return {"starts": count, **{n: environment.get(n) for n in names}, "versions": told}


def run_settings(data: StudyData) -> list[tuple[str, str]]:
    """Every run's settings as JSON; of one that never began, what the plan says."""
    planned: dict[str, Planned] = {p.run: p for p in data.plan}
    return [
        (
            run.run,
            json.dumps(
                run.config or {"arm": planned[run.run].arm, **planned[run.run].point},
                sort_keys=True,
                ensure_ascii=False,
            ),
        )
        for run in data.runs.values()
    ]
