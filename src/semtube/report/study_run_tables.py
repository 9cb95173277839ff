"""Tables of a study's runs: tuning, every run, answers, environments, settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from semtube.evaluation.compare import read_records
from semtube.report.study_cells import shown, shown_settings
from semtube.report.study_comparisons import Comparison
from semtube.report.study_data import Planned, RunRecord, StudyData
from semtube.report.table import Column, Table

MOST_EXAMPLES = 8
LONGEST_TEXT = 400


def tuning_table(data: StudyData) -> Table:
    """Every trial of every arm, the chosen one marked."""
    tuning = data.study.tuning or {}
    score = tuning.get("score") or data.study.primary
    chosen = {
        (arm, repr(choice.get("at")), repr(choice.get("chosen")))
        for arm, choices in data.choices.items()
        for choice in choices
    }
    rows = []
    for planned in data.plan:
        if planned.phase != "tuning":
            continue
        at = {axis: planned.point[axis] for axis in tuning.get("at", {})}
        is_chosen = (planned.arm, repr(at), repr(dict(planned.tried))) in chosen
        reading = data.runs[planned.run].readings.get("validation")
        metrics = reading.metrics if reading else {}
        rows.append({
            "arm": planned.arm, "point": shown_settings(at),
            "tried": shown_settings(planned.tried),
            "score": (metrics.get(score) or {}).get("mean"),
            "loss": (metrics.get("loss") or {}).get("mean"),
            "chosen": "chosen" if is_chosen else "", "run": planned.run,
        })  # fmt: skip
    reads = sum(
        data.runs[run].readings["test"].num_reads
        for run in {p.run for p in data.plan} - {p.run for p in data.finals()}
        if "test" in data.runs[run].readings
    )
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


def state_of(data: StudyData, planned: Planned) -> tuple[str, str]:
    """State and cause of a planned run, which is done once its rows are decoded."""
    run = data.runs[planned.run]
    if run.status != "done":
        return run.status, run.cause
    if all(split in run.readings for split in planned.read):
        return "done", ""
    return ("failed", run.cause) if run.cause else ("unfinished", "trained, not decoded yet")


def run_table(data: StudyData) -> Table:
    """Every planned run, failures and their causes included."""
    rows = []
    for planned in data.plan:
        run = data.runs[planned.run]
        split = planned.read[0] if planned.read else "test"
        reading = run.readings.get(split)
        state, cause = state_of(data, planned)
        metric = (reading.metrics.get(data.study.primary) or {}) if reading else {}
        rows.append({
            "run": run.run, "phase": planned.phase, "arm": planned.arm,
            "point": shown_settings({a: v for a, v in planned.point.items()}),
            "tried": shown_settings(planned.tried), "state": state, "cause": cause,
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


def run_settings(data: StudyData) -> dict[str, Mapping[str, Any]]:
    """Every run's settings but its folder; of one that never began, what the plan says."""
    planned: dict[str, Planned] = {p.run: p for p in data.plan}
    return {
        run.run: {name: value for name, value in run.config.items() if name != "output"}
        or {"arm": planned[run.run].arm, **planned[run.run].point, **planned[run.run].tried}
        for run in data.runs.values()
    }


def setting_table(settings: Mapping[str, Mapping[str, Any]]) -> Table:
    """`run_settings` as a table with a column for each setting; lists and mappings as JSON."""
    names = list(dict.fromkeys(name for values in settings.values() for name in sorted(values)))
    rows = [
        {"run": run}
        | {
            name: json.dumps(value, sort_keys=True, ensure_ascii=False)
            if isinstance(value, list | dict)
            else value
            for name, value in values.items()
        }
        for run, values in settings.items()
    ]
    return Table(
        "settings",
        "Settings of every run",
        "Those that a run was given and the usual ones; of one that never began, what the plan "
        "says of it.",
        [Column("run", "run"), *(Column(name, name, "setting") for name in names)],
        rows,
    )


def shared_settings(data: StudyData) -> dict[str, Any]:
    """`run_settings` in short: "all" is what every run that began has, "runs" what each has beside.

    Without it, a thousand runs would take a megabyte.
    """
    settings = run_settings(data)
    begun = [settings[run.run] for run in data.runs.values() if run.config] or [{}]
    same = {
        name: value
        for name, value in begun[0].items()
        if all(name in other and other[name] == value for other in begun)
    }
    own = {
        run: {name: value for name, value in values.items() if name not in same}
        for run, values in settings.items()
    }
    return {"all": same, "runs": own}
