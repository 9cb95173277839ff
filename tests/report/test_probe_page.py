"""A probe's page: its numbers, its words, and what a browser makes of it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from browser import MARKS_DRAWN, Browser
from probe_store import HOSTILE, write_probe
from scipy import stats

from semtube.errors import UserError
from semtube.report.probe_data import read_probe
from semtube.report.probe_page import write_probe_page
from semtube.report.probe_tables import cone_table, missing, row_table, sentences, set_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_probe(tmp_path_factory.mktemp("probe") / "p")


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return write_probe_page(folder)


def test_means_intervals_and_pairs_are_those_of_the_rows(folder) -> None:
    rows = row_table(read_probe(folder), "2").rows
    first, second = (row for row in rows if row["measure"] == "tube loss, triplets")
    values = 1.5 + 0.01 * np.arange(8)
    assert first["mean"] == pytest.approx(values.mean())
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert first["interval"] == f"{interval.low:.4g} to {interval.high:.4g}"
    assert first["difference"] is None
    assert second["difference"] == pytest.approx(-0.2)
    assert second["rows"] == 8
    assert (first["nearest"], second["nearest"]) == ("memoryless points", "memoryless points")
    assert second["independent increments"] == 1.0


def test_the_answer_names_nulls_and_differences(folder) -> None:
    told = sentences(read_probe(folder))
    assert told[0].startswith("Tube loss in layer 2: before 1.535 [1.515, 1.555], ")
    assert told[0].endswith(
        " 1.335 [1.315, 1.355] (straight line 0.00, independent increments 1.00, memoryless "
        "points 1.50)."
    )
    assert told[1] == "before is nearest to the null memoryless points."
    assert told[3].endswith("minus before, row by row: -0.200 [-0.200, -0.200].")


def test_what_is_missing_is_told_once(folder) -> None:
    told = missing(read_probe(folder))
    assert told[0] == "before: 2 rows are over max_tokens and left out"
    assert told[1] == "before: no transport: no norm"
    assert told[2] == "before: 3 of 8 rows are too short, or without a direction, for: 8 tokens"
    assert len(told) == 6


def test_numbers_of_sets_stand_by_layer(folder) -> None:
    rows = set_table(read_probe(folder)).rows
    rank = next(row for row in rows if row["measure"] == "effective rank")
    assert (rank["1"], rank["2"], rank["null"]) == (30.0, 30.0, "31.5 (Gaussian states)")


def test_cones_are_told_with_their_steps_or_why_not(folder) -> None:
    first, second, *_ = cone_table(read_probe(folder)).rows
    assert (first["exponent"], first["interval"]) == (0.5, "0.40 to 0.60")
    assert first["steps"] == "all: 1 to 9"
    assert (second["exponent"], second["reason"]) == (None, "saturated at step 1")


def test_files_stand_beside_the_page(folder, page) -> None:
    names = {path.name for path in (folder / "figures").iterdir()}
    for figure in ("path_1", "path_2", "by_layer", "by_length", "sets_by_layer", "spectra", "cone"):
        assert {f"{figure}.png", f"{figure}.svg"} <= names
        assert (folder / "csv" / f"figure_{figure}.csv").is_file()
    with (folder / "csv" / "figure_path_1.csv").open(newline="") as file:
        assert "'=1+1" in {row["text"] for row in csv.DictReader(file)}, "no formula in a sheet"


def test_one_checkpoint_with_few_measures_has_a_page(tmp_path) -> None:
    folder = write_probe(tmp_path / "one", names=("only",))
    lines = (folder / "table.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if "tube_loss,," in line or line.startswith("checkpoint")]
    (folder / "table.csv").write_text("".join(kept))
    (folder / "pictures.json").write_text('{"curves": [], "paths": []}')
    told = json.loads((folder / "probe.json").read_text())
    told["checkpoints"][0]["cones"] = []
    (folder / "probe.json").write_text(json.dumps(told))
    assert "only 1.535" in write_probe_page(folder).read_text()
    assert [path.name for path in (folder / "figures").glob("*.png")] == ["by_layer.png"]


def test_no_probe_and_a_newer_one_are_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"holds no probe \(no probe.json\)"):
        read_probe(tmp_path)
    folder = write_probe(tmp_path / "new")
    told = json.loads((folder / "probe.json").read_text()) | {"format": 2}
    (folder / "probe.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="was written by a newer semtube"):
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
