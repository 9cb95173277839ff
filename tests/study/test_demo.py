"""The demo, shortened: it ends in a report, repeats nothing, and refuses foreign folders."""

from dataclasses import replace
from pathlib import Path

import pytest

from semtube.cli import main
from semtube.run_folder import read_json
from semtube.study import demo


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    base = {**demo.DEMO.base, "steps": 2, "checkpoint_every": 1}
    monkeypatch.setattr(demo, "DEMO", replace(demo.DEMO, base=base, generated=200))


def test_the_demo_ends_in_a_report_and_repeats_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    assert main(["demo", "--output", str(folder), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "Done: 8 runs now, 0 failed." in out
    assert "At fraction 0.25, tube answers" in out
    assert (folder / "report" / "index.html").is_file()
    results = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.json")}
    assert len(results) == 8
    assert main(["demo", "--output", str(folder), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "Done: 0 runs now, 0 failed." in out
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.json")} == results
    # The commands that it names can be run.
    compare = next(line.split() for line in out.splitlines() if "semtube compare" in line)
    assert main(compare[1:]) == 0
    assert "exact_match" in capsys.readouterr().out
    assert read_json(folder / "study.json")["margin"] == 0.05


def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
