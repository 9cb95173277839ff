"""The two arms of the demo beside each other: a row for each size of the training set."""

import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from semtube.errors import UserError
from semtube.evaluation.compare import Record, score_matrix
from semtube.statistics.intervals import Interval, bootstrap_interval

ARMS = ("ntp", "tube")
TUBE_LOSS_LINES = {
    0.0: "straight line",
    1.0: "independent increments",
    1.5: "memoryless points",
}
"""The tube loss of three trajectories that hold no meaning, to read a measured one against."""

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000
BOOTSTRAP_SEED = 0
MIN_SEEDS_TO_RESAMPLE = 3


@dataclass(frozen=True)
class DemoRun:
    """One finished run: the fields of its `result.json`, with its per-example records read in."""

    arm: Literal["ntp", "tube"]
    fraction: float
    seed: int
    num_train_examples: int
    metrics: Mapping[str, Any]
    records: Sequence[Record]


@dataclass(frozen=True)
class ArmSummary:
    """One arm at one fraction, over all its seeds.

    `exact_match` is the mean over seeds x test rows, in [0, 1]; `deviation` that of the seeds'
    means (dividing by seeds - 1), None for one seed; `tube_loss` the mean over seeds of the
    loss on held-out text, in [0, 2].
    """

    exact_match: float
    deviation: float | None
    interval: Interval
    tube_loss: float


@dataclass(frozen=True)
class SummaryRow:
    """Both arms at one fraction; `difference` is tube - ntp in exact match, in [-1, 1].

    `over_seeds` says what the intervals resample: seeds and test rows, or test rows alone.
    """

    fraction: float
    num_train_examples: int
    num_seeds: int
    num_test_rows: int
    ntp: ArmSummary
    tube: ArmSummary
    difference: float
    interval: Interval
    over_seeds: bool


def summary_rows(results: Sequence[DemoRun]) -> list[SummaryRow]:
    """A row for each fraction, smallest first, with 95 % intervals by `bootstrap_interval`.

    Arms are paired by seed and by test row. From three seeds on the intervals resample seeds and
    test rows. Two seeds cannot say how seeds spread (a Student interval over them is 12.7
    standard errors wide on each side), so with one or two the intervals resample test rows only
    and speak of these very seeds; `notes` says so under the tables.

    Raises:
        UserError: no results; an unknown arm; an arm and seed stored twice or in one arm only;
            different training set sizes at one fraction; runs of one fraction not scored on the
            same test rows.
    """
    if not results:
        raise UserError("wanted at least one run of each arm, got no results")
    by_fraction: dict[float, list[DemoRun]] = defaultdict(list)
    for run in results:
        by_fraction[run.fraction].append(run)
    return [_summary_row(fraction, by_fraction[fraction]) for fraction in sorted(by_fraction)]


def _summary_row(fraction: float, runs: Sequence[DemoRun]) -> SummaryRow:
    seeds = _paired_seeds(fraction, runs)
    by_name = {f"{run.arm}, seed {run.seed}": run for run in runs}
    names = [f"{arm}, seed {seed}" for arm in ARMS for seed in seeds]
    right = score_matrix({name: by_name[name].records for name in names}, "exact_match")
    ntp, tube = right.astype(float).reshape(len(ARMS), len(seeds), -1)
    return SummaryRow(
        fraction=fraction,
        num_train_examples=runs[0].num_train_examples,
        num_seeds=len(seeds),
        num_test_rows=right.shape[1],
        ntp=_arm_summary(ntp, [by_name[name] for name in names[: len(seeds)]]),
        tube=_arm_summary(tube, [by_name[name] for name in names[len(seeds) :]]),
        difference=float((tube - ntp).mean()),
        interval=_interval(tube - ntp, lowest=-1.0),
        over_seeds=len(seeds) >= MIN_SEEDS_TO_RESAMPLE,
    )


def _paired_seeds(fraction: float, runs: Sequence[DemoRun]) -> list[int]:
    for run in runs:
        if run.arm not in ARMS:
            raise UserError(f"fraction {fraction}: unknown arm {run.arm!r}, wanted one of {ARMS}")
    seeds = {arm: sorted(run.seed for run in runs if run.arm == arm) for arm in ARMS}
    if seeds["ntp"] != seeds["tube"] or len(set(seeds["ntp"])) < len(seeds["ntp"]):
        raise UserError(
            f"fraction {fraction}: each seed must be run once in both arms, "
            f"got seeds {seeds['ntp']} of ntp and {seeds['tube']} of tube"
        )
    sizes = sorted({run.num_train_examples for run in runs})
    if len(sizes) > 1:
        raise UserError(
            f"fraction {fraction}: every run must see as many training examples, got {sizes}"
        )
    return seeds["ntp"]


# Shape letters: S seeds, N test rows.


def _arm_summary(right_SN: np.ndarray, runs: Sequence[DemoRun]) -> ArmSummary:
    means_S = right_SN.mean(axis=1)
    return ArmSummary(
        exact_match=float(means_S.mean()),
        deviation=float(means_S.std(ddof=1)) if len(means_S) > 1 else None,
        interval=_interval(right_SN, lowest=0.0),
        tube_loss=float(np.mean([run.metrics["tube_loss"]["mean"] for run in runs])),
    )


def _interval(scores_SN: np.ndarray, lowest: float) -> Interval:
    """The bootstrap interval, cut at the lowest possible mean and at 1."""
    interval = bootstrap_interval(
        scores_SN,
        over_seeds=len(scores_SN) >= MIN_SEEDS_TO_RESAMPLE,
        confidence=CONFIDENCE,
        num_resamples=NUM_RESAMPLES,
        generator=np.random.default_rng(BOOTSTRAP_SEED),
    )
    return Interval(max(interval.low, lowest), min(interval.high, 1.0), CONFIDENCE)


HEADERS = (
    "training examples",
    "fraction",
    "seeds",
    "ntp exact match, %",
    "tube exact match, %",
    "tube - ntp, points [95 % interval]",
    "ntp tube loss",
    "tube tube loss",
)


def _cells(row: SummaryRow) -> tuple[str, ...]:
    low, high = 100 * row.interval.low, 100 * row.interval.high
    return (
        f"{row.num_train_examples}",
        f"{row.fraction:g}",
        f"{row.num_seeds}",
        _mean_and_deviation(row.ntp),
        _mean_and_deviation(row.tube),
        f"{100 * row.difference:+.1f} [{low:+.1f}, {high:+.1f}]",
        f"{row.ntp.tube_loss:.3f}",
        f"{row.tube.tube_loss:.3f}",
    )


def _mean_and_deviation(arm: ArmSummary) -> str:
    mean = f"{100 * arm.exact_match:.1f}"
    if arm.deviation is not None:
        mean += f" ± {100 * arm.deviation:.1f}"
    return f"{mean} [{100 * arm.interval.low:.1f}, {100 * arm.interval.high:.1f}]"


def notes(rows: Sequence[SummaryRow]) -> list[str]:
    """What a reader must know to read the table: one sentence or two for each matter."""
    lines = ", ".join(f"{value:g} {name}" for value, name in TUBE_LOSS_LINES.items())
    found = [
        "ntp: next-token loss alone; tube: next-token loss and the tube term. "
        "Exact match: share of test rows answered exactly, mean ± deviation between seeds "
        "[95 % interval].",
        f"Tube loss on held-out text, mean over seeds, beside its reference lines: {lines}.",
        *interval_notes(rows),
    ]
    if any(row.interval.low == row.interval.high for row in rows):
        fewest = min(row.num_test_rows for row in rows if row.interval.low == row.interval.high)
        found.append(
            f"An interval of zero width is no certainty: all {fewest} test rows gave the same "
            f"difference, but up to {300 / fewest:.1f} % of new ones may not (rule of three)."
        )
    return found


def interval_notes(rows: Sequence[SummaryRow]) -> list[str]:
    """Which chance the intervals of these rows cover, said for each kind that occurs."""
    few = sorted({row.num_seeds for row in rows if not row.over_seeds})
    found = []
    if any(row.over_seeds for row in rows):
        found.append(
            "Intervals resample seeds and test rows (95 %, stretched for few seeds): they speak "
            "of new seeds and new test rows."
        )
    if few:
        found.append(
            f"With {' or '.join(map(str, few))} seed{'s' if few[-1] > 1 else ''} no trustworthy "
            "interval over seeds exists: there the intervals resample test rows only (95 %) and "
            "hold for the seeds that were run. Another seed may fall outside."
        )
    return found


def markdown_table(rows: Sequence[SummaryRow]) -> str:
    """The rows as a Markdown table, followed by its notes as a list."""
    lines = [HEADERS, ("---:",) * len(HEADERS), *map(_cells, rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return table + "\n\n" + "\n".join(f"- {note}" for note in notes(rows)) + "\n"


def rich_table(rows: Sequence[SummaryRow]) -> Table:
    """The rows as a table for the terminal, with its notes as the caption.

    80 columns hold it uncut; each interval stands on a line of its own under its difference.
    """
    table = Table(
        box=SIMPLE_HEAD, padding=0, caption="\n".join(notes(rows)), caption_justify="left"
    )
    lines = [[cell.replace(" [", "\n[") for cell in _cells(row)] for row in rows]
    for header, *cells in zip(HEADERS, *lines, strict=True):
        # Headers may break over lines, numbers may not.
        widest = max(len(part) for cell in cells for part in cell.split("\n"))
        broken = textwrap.fill(header, widest, break_long_words=False)
        table.add_column(broken, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table
