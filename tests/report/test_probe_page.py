"""A probe's page: its numbers, its words, and what a browser makes of it."""

import csv
import html
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import MARKS_DRAWN, Browser
from probe_store import HOSTILE, write_probe
from scipy import stats

from semtube.errors import UserError
from semtube.report.probe_data import read_probe
from semtube.report.probe_page import write_probe_page
from semtube.report.probe_path_figures import cone_figure, path_figures
from semtube.report.probe_tables import (
    cone_table,
    fixed,
    left_out,
    row_table,
    sentences,
    set_table,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_probe(tmp_path_factory.mktemp("probe") / "p")


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return write_probe_page(folder)


def test_means_intervals_and_pairs_are_those_of_the_rows(folder) -> None:
    rows = row_table(read_probe(folder), "last").rows
    first, second = (row for row in rows if row["measure"] == "tube loss, triplets")
    values = 1.5 + 0.01 * np.arange(8)
    assert first["mean"] == pytest.approx(values.mean())
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert first["interval"] == f"{interval.low:.4g} to {interval.high:.4g}"
    assert first["difference"] is None
    assert second["difference"] == pytest.approx(-0.2)
    assert second["rows"] == 8
    assert first["nearest"] == second["nearest"] == "memoryless points: 1.5"


def test_measures_with_a_length_have_a_table_at_eight_tokens(folder) -> None:
    found = row_table(read_probe(folder), "last", length=8)
    assert found.name == "windows_layer_last"
    assert len(found.rows) == 3 * 2
    first, second = (row for row in found.rows if row["measure"] == "noise, state")
    values = (1.5 + 0.01 * np.arange(8)) / 2 + 0.08
    assert first["mean"] == pytest.approx(values.mean())
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert first["interval"] == f"{interval.low:.4g} to {interval.high:.4g}"
    assert second["difference"] == pytest.approx(-0.1)
    # Of this layer's own nulls: 2, 2.5 and 2.75.
    assert first["nearest"] == "straight line: 2"
    ratio = next(row for row in found.rows if row["measure"] == "mean deviation over chord")
    assert ratio["nearest"] == "memoryless points: 0.75"


def test_an_interval_does_not_leave_the_range_of_its_measure(folder) -> None:
    cell = read_probe(folder).cell("before", "last", "chord_over_path")
    between = stats.ttest_1samp([0, 1] * 4, 0).confidence_interval()
    assert (cell.interval.low, cell.interval.high) == pytest.approx((between.low, between.high))
    narrow = read_probe(folder)
    rows = {("before", "last", "chord_over_path", 0): {"a": 0.9, "b": 1.0}}
    cell = replace(narrow, rows=rows).cell("before", "last", "chord_over_path")
    assert cell.interval.high == 1.0
    assert 0 < cell.interval.low < 0.5


def test_no_minus_stands_before_a_zero() -> None:
    assert (fixed(-0.001, 2), fixed(-0.01, 2), fixed(0.0, 1)) == ("0.00", "-0.01", "0.0")
    assert (fixed(-0.0001, 3, sign=True), fixed(0.25, 2, sign=True)) == ("0.000", "+0.25")


def test_the_answer_names_nulls_and_differences(folder) -> None:
    told = sentences(read_probe(folder))
    assert told[0].startswith("Tube loss in layer last: before 1.535 [1.515, 1.555], ")
    assert told[0].endswith(
        " 1.335 [1.315, 1.355] (straight line 0.00, independent increments 1.00, memoryless "
        "points 1.50)."
    )
    assert told[1].endswith("minus before, row by row: -0.200 [-0.200, -0.200].")
    assert told[2].startswith(f"{HOSTILE} cuts the rows into other tokens than before: ")
    assert len(told) == 3


def test_what_is_missing_is_told_once(folder) -> None:
    told = left_out(read_probe(folder))
    assert told[0] == "before: 2 rows are over max_tokens and left out"
    assert told[1] == "before: no transport: no norm"
    assert told[2] == "before: 3 of 8 rows are too short, or without a direction, for: 8 tokens"
    assert len(told) == 6


def test_lengths_left_out_stand_in_their_order(tmp_path) -> None:
    folder = write_probe(tmp_path / "one", names=("only",))
    told = json.loads((folder / "probe.json").read_text())
    told["checkpoints"][0]["left_out"] = [
        {"layer": "last", "measure": "parallel", "length": length, "num_examples": 8}
        for length in (16, 2, 32)
    ]
    (folder / "probe.json").write_text(json.dumps(told))
    assert left_out(read_probe(folder))[-1].endswith(": 2 tokens, 16 tokens, 32 tokens")


def test_numbers_of_sets_stand_by_layer(folder) -> None:
    rows = set_table(read_probe(folder)).rows
    rank = next(row for row in rows if row["measure"] == "effective rank")
    assert (rank["1"], rank["last"], rank.get("null")) == (30.0, 30.0, None)
    null = rows[rows.index(rank) + 1]
    assert (null["checkpoint"], null["null"]) == ("before", "Gaussian states")
    assert (null["1"], null["last"]) == (31.5, 31.5)
    capacity = [row for row in rows if row["measure"] == "manifold capacity"]
    assert [row.get("null") for row in capacity] == [None, "classes dealt out anew"] * 2


def test_the_command_has_all_that_is_not_as_it_is_anyway(page) -> None:
    text = html.unescape(page.read_text())
    assert "--data rows.jsonl --task exact --task_options '{\"a\": 1}' --layers 1,last" in text
    assert "--limit 8" in text
    assert "--start" not in text


def test_cones_are_told_with_their_steps_or_why_not(folder) -> None:
    first, second, *_ = cone_table(read_probe(folder)).rows
    assert (first["exponent"], first["interval"]) == (0.5, "0.40 to 0.60")
    assert first["steps"] == "all: 1 to 9"
    assert first["layer"] == "last"
    assert first["nulls"] == "Brownian once apart 0.87, saturated once apart 0.40"
    assert (second["exponent"], second["reason"]) == (None, "saturated at step 1")


def test_growth_with_the_root_is_drawn_where_it_is_the_null(folder) -> None:
    rows = cone_figure(read_probe(folder)).rows
    assert {row["since"] for row in rows if row["kind"] == "cone"} == {"the first other token"}
    assert {row["layer"] for row in rows if row["kind"] == "greedy"} == {"before_norm", "last"}


def test_files_stand_beside_the_page(folder, page) -> None:
    names = {path.name for path in (folder / "figures").iterdir()}
    for figure in ("path_1", "path_2", "by_layer", "by_length", "sets_by_layer", "spectra", "cone"):
        assert {f"{figure}.png", f"{figure}.svg"} <= names
        assert (folder / "csv" / f"figure_{figure}.csv").is_file()
    assert (folder / "csv" / "windows_layer_before_norm.csv").is_file()
    assert (folder / "csv" / "windows_layer_last.csv").is_file()
    with (folder / "csv" / "figure_path_1.csv").open(newline="") as file:
        assert "'=1+1" in {row["text"] for row in csv.DictReader(file)}, "no formula in a sheet"


def test_one_checkpoint_with_few_measures_has_a_page(tmp_path) -> None:
    folder = write_probe(tmp_path / "one", names=("only",))
    lines = (folder / "table.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if ",tube_loss,," in line or line.startswith("checkpoint")]
    (folder / "table.csv").write_text("".join(kept))
    (folder / "pictures.json").write_text('{"curves": [], "cones": [], "paths": []}')
    told = json.loads((folder / "probe.json").read_text())
    told["checkpoints"][0]["cones"] = []
    (folder / "probe.json").write_text(json.dumps(told))
    text = write_probe_page(folder).read_text()
    assert "only 1.535" in text
    assert "Trajectories</h2>" not in text
    assert [path.name for path in (folder / "figures").glob("*.png")] == ["by_layer.png"]


def test_no_probe_and_one_of_another_version_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"holds no probe \(no probe.json\)"):
        read_probe(tmp_path)
    folder = write_probe(tmp_path / "new")
    for number, todo in ((2, "probe the models again"), (4, "update semtube")):
        told = json.loads((folder / "probe.json").read_text()) | {"format": number}
        (folder / "probe.json").write_text(json.dumps(told))
        with pytest.raises(UserError, match=f"written by another semtube .*: {todo}"):
            read_probe(folder)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_draws_it(browser: Browser, page: Path, width: int, scheme: str) -> None:
    browser.open(page, width=width, scheme=scheme)
    assert browser.errors() == []
    assert browser.requests() == [page.as_uri()]
    drawn = browser.evaluate(MARKS_DRAWN)
    assert len(drawn) == 7
    for name, num_marks, right in drawn:
        assert num_marks >= 2, f"{name} is empty"
        assert 0 < right <= width, f"{name} ends at {right} of {width} pixels"
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("window.hacked || 0") == 0
    assert browser.evaluate("document.images.length") == 0
    assert HOSTILE in browser.evaluate("document.querySelector('header').textContent")


CHOOSE = """
(() => {
  const [one, two] = document.querySelectorAll(".pair figure");
  const select = one.querySelector('select[name="path_plane"]');
  select.value = "chord";
  select.dispatchEvent(new Event("change"));
  return new Promise(done => setTimeout(
    () => done(two.querySelector('select[name="path_plane"]').value), 300));
})()
"""


def test_trajectories_are_chosen_together_on_equal_axes(browser: Browser, page: Path) -> None:
    browser.open(page, width=1280, scheme="light")
    assert browser.evaluate(CHOOSE) == "chord"
    assert browser.errors() == []


def test_axes_of_trajectories_have_one_unit_and_the_tube_its_width(folder) -> None:
    one, two = path_figures(read_probe(folder))
    corners = [row for row in one.rows if row["mark"] == "corner"]
    assert corners == [row for row in two.rows if row["mark"] == "corner"]
    low, high = corners[:2]
    assert high["x"] - low["x"] == pytest.approx(high["y"] - low["y"])
    states = [row for row in one.rows if row["mark"] == "state"]
    assert all(low[axis] < row[axis] < high[axis] for row in states for axis in "xy")
    walls = [row for row in one.rows if row["mark"] == "wall"][:2]
    # The chord lies on the x axis, so the distance from it is y.
    assert walls[0]["y"] == pytest.approx((0.3**2 / 4 + 0.2**2 / 4) ** 0.5)
    assert walls[1]["y"] == pytest.approx(-walls[0]["y"])
    assert (walls[0]["x"], walls[0]["x2"]) == pytest.approx((0, 1))


def test_a_picture_says_what_it_shows(page: Path) -> None:
    svg = (page.parent / "figures" / "by_length.svg").read_text()
    assert "Shown: measure: mean deviation over chord, layer: last." in svg
