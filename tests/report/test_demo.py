"""The demo's table and figure, from runs made up by hand."""

import io
import re
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from semtube.errors import UserError
from semtube.report.demo import DemoRun, markdown_table, rich_table, summary_rows
from semtube.report.figure import write_figure
from semtube.statistics.intervals import t_interval

NUM_ROWS = 40


def demo_run(arm: str, fraction: float, seed: int, num_right: int, tube_loss: float = 1.0):
    return DemoRun(
        arm=arm,
        fraction=fraction,
        seed=seed,
        num_train_examples=round(4000 * fraction),
        metrics={
            "exact_match": {"mean": num_right / NUM_ROWS, "low": 0.0, "high": 1.0},
            "tube_loss": {"mean": tube_loss, "low": tube_loss - 0.1, "high": tube_loss + 0.1},
        },
        records=[{"id": str(row), "exact_match": row < num_right} for row in range(NUM_ROWS)],
    )


def demo_runs(num_seeds: int, fractions=(0.25, 1.0)) -> list[DemoRun]:
    return [
        demo_run(arm, fraction, seed, right + 2 * seed + round(8 * fraction), loss)
        for arm, right, loss in (("tube", 16, 0.7), ("ntp", 10, 1.3))
        for fraction in reversed(fractions)
        for seed in range(num_seeds)
    ]


def test_a_row_for_each_fraction_smallest_first_with_hand_numbers():
    rows = summary_rows(demo_runs(2))
    assert [row.fraction for row in rows] == [0.25, 1.0]
    first = rows[0]
    assert (first.num_train_examples, first.num_seeds, first.num_test_rows) == (1000, 2, 40)
    # ntp has 12 and 14 of 40 right, tube 18 and 20.
    assert first.ntp.exact_match == pytest.approx(13 / 40)
    assert first.tube.exact_match == pytest.approx(19 / 40)
    assert first.ntp.deviation == pytest.approx(np.sqrt(2) / 40)
    assert first.difference == pytest.approx(6 / 40)
    assert (first.ntp.tube_loss, first.tube.tube_loss) == (1.3, 0.7)


def test_two_seeds_resample_test_rows_only_and_three_resample_seeds_too():
    two, three = summary_rows(demo_runs(2))[0], summary_rows(demo_runs(3))[0]
    assert not two.over_seeds
    assert three.over_seeds
    assert "With 2 seeds no trustworthy interval over seeds exists" in markdown_table([two])
    assert "test rows only" in markdown_table([two])
    assert "resample seeds and test rows" in markdown_table([three])
    assert "no trustworthy" not in markdown_table([three])


def test_arms_are_paired_by_seed():
    # Seeds differ widely, but tube is 4 rows better under each: pairing takes that spread out.
    rights = {0: 4, 1: 16, 2: 28}
    runs = [
        demo_run(arm, 0.5, seed, right + 4 * (arm == "tube"))
        for arm in ("ntp", "tube")
        for seed, right in rights.items()
    ]
    row = summary_rows(runs)[0]
    assert row.difference == pytest.approx(4 / 40)
    unpaired = t_interval([right / 40 for right in rights.values()], 0.95)
    assert row.interval.high - row.interval.low < 0.5 * (unpaired.high - unpaired.low)
    assert row.interval.low > 0


def test_intervals_stay_within_what_a_rate_can_be():
    runs = [demo_run(arm, 1.0, s, (0, 20, 40)[s]) for arm in ("ntp", "tube") for s in range(3)]
    interval = summary_rows(runs)[0].ntp.interval
    assert (interval.low, interval.high) == (0, 1)


def test_one_seed_has_no_deviation():
    row = summary_rows(demo_runs(1))[0]
    assert row.ntp.deviation is None
    assert "±" not in markdown_table([row]).splitlines()[2]


def test_an_interval_without_width_is_not_sold_as_certainty():
    runs = [demo_run(arm, 1.0, seed, 0) for arm in ("ntp", "tube") for seed in (0, 1)]
    assert "up to 7.5 % of new ones may not" in markdown_table(summary_rows(runs))
    assert "zero width" not in markdown_table(summary_rows(demo_runs(2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda runs: [], "got no results"),
        (lambda runs: runs[1:], r"fraction 1.0: .* got seeds \[0, 1\] of ntp and \[1\] of tube"),
        (lambda runs: [*runs, runs[0]], r"seeds \[0, 1\] of ntp and \[0, 0, 1\] of tube"),
        (lambda runs: [*runs, replace(runs[0], arm="other")], r"unknown arm 'other'"),
        (
            lambda runs: [replace(runs[0], num_train_examples=7), *runs[1:]],
            r"fraction 1.0: .* got \[7, 4000\]",
        ),
        (
            lambda runs: [replace(runs[0], records=runs[0].records[1:]), *runs[1:]],
            "1 of 40 in ntp, seed 0 and 0 of 39 in tube, seed 0 have no partner",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        summary_rows(change(demo_runs(2)))


def test_markdown_holds_numbers_and_reference_lines():
    lines = markdown_table(summary_rows(demo_runs(2))).splitlines()
    assert re.match(
        r"\| 1000 \| 0\.25 \| 2 \| 32\.5 ± 3\.5 \[[\d.]+, [\d.]+\] "
        r"\| 47\.5 ± 3\.5 \[[\d.]+, [\d.]+\] \| \+15\.0 \[",
        lines[2],
    )
    assert lines[2].endswith("| 1.300 | 0.700 |")
    assert len({line.count("|") for line in lines[:4]}) == 1
    notes = "0 straight line, 1 independent increments, 1.5 memoryless points"
    assert any(notes in line for line in lines)


@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_the_terminal_table_fits_80_columns_uncut(num_seeds):
    rows = summary_rows(demo_runs(num_seeds))
    console = Console(width=80, file=io.StringIO())
    console.print(rich_table(rows))
    text = console.file.getvalue()
    interval = rows[0].interval
    assert f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]" in text
    assert "1.300 0.700" in text
    assert "…" not in text


@pytest.mark.parametrize(("num_seeds", "fractions"), [(2, (0.25, 1.0)), (1, (1.0,))])
def test_the_figure_is_a_png_of_sensible_size(tmp_path, num_seeds, fractions):
    path = tmp_path / "figure.png"
    write_figure(demo_runs(num_seeds, fractions), path)
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert 1600 < width < 3200
    assert 800 < height < 1600
    assert 20_000 < len(data) < 1_000_000


def test_the_report_imports_no_torch_and_only_the_figure_a_plotting_library():
    code = (
        "import sys, semtube.report.demo; print('torch' in sys.modules, 'altair' in sys.modules);"
        "import semtube.report.figure; print('torch' in sys.modules, 'altair' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False", "True"]
