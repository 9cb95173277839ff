"""Two runs compared test row by test row."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semtube.errors import UserError
from semtube.statistics.intervals import Interval, bootstrap_interval
from semtube.statistics.rows import mcnemar_p

Record = Mapping[str, Any]
"""One test row's outcome in one run: a line of `examples.jsonl`, with at least the FIELDS."""

FIELDS: dict[str, type] = {
    "id": str,
    "prompt": str,
    "gold": str,
    "prediction": str,
    "stopped": bool,
    "num_tokens": int,
}
CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedComparison:
    """How run b's score differs from run a's on the same test rows.

    `score_a` and `score_b` are shares of right rows in [0, 1], `difference` is score_b - score_a
    in [-1, 1]. The four counts (both right, only one right, both wrong) add up to `num_examples`,
    the rows judged in both runs; `num_unjudged` others are left out.
    `mcnemar_p` is the chance of a split at least as uneven as only_a : only_b if both were equally
    likely; 1.0 where no row differs.
    """

    score: str
    num_examples: int
    num_unjudged: int
    score_a: float
    score_b: float
    difference: float
    interval: Interval
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    mcnemar_p: float


def read_records(path: str | Path) -> list[Record]:
    """The records of a run's `examples.jsonl`, in file order.

    Raises:
        UserError: the file is missing or empty, or a line is no JSON object, lacks one of FIELDS
            or holds another type there; the message begins with file:line, counted from 1.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; wanted the examples.jsonl of a finished run")
    with path.open("rb") as lines:
        records = [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]
    if not records:
        raise UserError(f"{path}: holds no records")
    return records


def _parse(line: bytes, place: str) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:  # no JSON, or no UTF-8
        raise UserError(f"{place}: wanted one JSON object, got {line[:60]!r} ({error})") from error
    if not isinstance(record, dict):
        raise UserError(f"{place}: wanted a JSON object, got {type(record).__name__}")
    for name, kind in FIELDS.items():
        if name not in record:
            raise UserError(f"{place}: lacks the field {name!r}")
        if type(record[name]) is not kind:  # isinstance would take true for an int
            raise UserError(f"{place}: {name!r} must be {kind.__name__}, got {record[name]!r}")
    return record


def score_matrix(runs: Mapping[str, Sequence[Record]], score: str) -> np.ndarray:
    """Which test rows each run has right: bool, (runs, test rows), in the first run's row order.

    Rows are the same where their `id` is, and, for a test row that stands in the file more than
    once, its occurrence number. A row that some run could not judge (null) is left out.

    Args:
        runs: name -> records; the names appear in errors.
        score: one of `score_names`.

    Raises:
        UserError: an unknown score, a run without records, or runs that were not scored on the
            same test rows: a difference between them would be one of rows too.
    """
    for name, records in runs.items():
        if not records:
            raise UserError(f"{name} holds no records")
        if score not in (known := score_names(records)):
            raise UserError(f"{name} has no score {score!r}: use one of {', '.join(known)}")
    by_row = {name: _by_row(records, score) for name, records in runs.items()}
    first_name, first = next(iter(by_row.items()))
    for name, scores in by_row.items():
        only_first, only_here = len(first.keys() - scores.keys()), len(scores.keys() - first.keys())
        if only_first or only_here:
            raise UserError(
                f"runs must be scored on the same test rows: {only_first} of {len(first)} in "
                f"{first_name} and {only_here} of {len(scores)} in {name} have no partner"
            )
    judged = [row for row in first if all(s[row] is not None for s in by_row.values())]
    if not judged:
        raise UserError(f"{score} judged no row in all of {', '.join(by_row)}")
    return np.array([[scores[row] for row in judged] for scores in by_row.values()], dtype=bool)


def score_names(records: Sequence[Record]) -> list[str]:
    """The scores of a run's records, the task's first score first: keys with true, false or null.

    A key that holds null in every record is none.
    """
    found = []
    for key in records[0]:
        values = [record.get(key, "missing") for record in records]
        are_verdicts = all(value is None or isinstance(value, bool) for value in values)
        if are_verdicts and any(value is not None for value in values):
            found.append(key)
    return found


def _by_row(records: Sequence[Record], score: str) -> dict[tuple[str, int], bool | None]:
    seen: Counter[str] = Counter()
    scores = {}
    for record in records:
        scores[record["id"], seen[record["id"]]] = record[score]
        seen[record["id"]] += 1
    return scores


def compare_records(
    a: Sequence[Record],
    b: Sequence[Record],
    *,
    score: str | None = None,
    num_resamples: int = 10_000,
    seed: int,
) -> PairedComparison:
    """How much better run b does than run a on the test rows that both were scored on.

    The interval is the 95 % percentile bootstrap of the mean over test rows of b's score minus
    a's (each -1, 0 or 1), given these two trained models: it says nothing about other seeds, and
    has zero width where every row's difference is the same. The test is McNemar's, exact and
    two-sided, on the rows that only one run has right.

    Args:
        score: which judgement to compare, one of `score_names`; unset for the first of a's.
        seed: of the bootstrap.

    Raises:
        UserError: see `score_matrix`.

    Source: McNemar (1947), Psychometrika 12, 153-157, with the binomial in place of chi-squared.
    """
    if score is None:
        if not a:
            raise UserError("a holds no records")
        score = score_names(a)[0]
    right_a, right_b = score_matrix({"a": a, "b": b}, score)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    interval = bootstrap_interval(
        right_b[None].astype(float) - right_a[None],
        over_seeds=False,
        confidence=CONFIDENCE,
        num_resamples=num_resamples,
        generator=np.random.default_rng(seed),
    )
    return PairedComparison(
        score=score,
        num_examples=len(right_a),
        num_unjudged=len(a) - len(right_a),
        score_a=float(right_a.mean()),
        score_b=float(right_b.mean()),
        difference=(only_b - only_a) / len(right_a),
        interval=interval,
        both_right=int((right_a & right_b).sum()),
        only_a=only_a,
        only_b=only_b,
        both_wrong=int((~right_a & ~right_b).sum()),
        mcnemar_p=mcnemar_p(only_a, only_b),
    )


def comparison_table(comparison: PairedComparison, name_a: str, name_b: str) -> str:
    """The comparison as a Markdown table of quantity and value, ending in a line break."""
    a, b = markdown_cell(name_a), markdown_cell(name_b)
    low, high = 100 * comparison.interval.low, 100 * comparison.interval.high
    rows = [
        ("test rows", f"{comparison.num_examples}"),
        ("rows not judged in both", f"{comparison.num_unjudged}"),
        (f"{a}, %", f"{100 * comparison.score_a:.1f}"),
        (f"{b}, %", f"{100 * comparison.score_b:.1f}"),
        (f"{b} - {a}, points", f"{100 * comparison.difference:+.1f}"),
        (f"{comparison.interval.confidence:.0%} interval, points", f"{low:+.1f} to {high:+.1f}"),
        ("rows both have right", f"{comparison.both_right}"),
        (f"rows only {a} has right", f"{comparison.only_a}"),
        (f"rows only {b} has right", f"{comparison.only_b}"),
        ("rows both have wrong", f"{comparison.both_wrong}"),
        ("McNemar's exact p", f"{comparison.mcnemar_p:.3g}"),
    ]
    lines = [f"| {comparison.score} | value |", "| :--- | ---: |"]
    return "\n".join(lines + [f"| {quantity} | {value} |" for quantity, value in rows]) + "\n"


def markdown_cell(text: str) -> str:
    """The text as it may stand in a Markdown cell: no bare pipe, no line break."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
