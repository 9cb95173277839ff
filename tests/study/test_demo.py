"""The demo, shortened: it ends in a table and a figure, goes on, and refuses foreign folders."""

from dataclasses import replace
from pathlib import Path

import pytest

from semtube.cli import main
from semtube.config import RunConfig
from semtube.study import demo


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "NUM_PAIRS", 200)
    monkeypatch.setattr(demo, "BASE", replace(demo.BASE, steps=2, threads=1))


def test_both_arms_share_everything_but_the_objective() -> None:
    configs = demo.demo_configs(Path("demo"))
    assert len(configs) == 8
    pairs: dict[tuple[float, int], list[RunConfig]] = {}
    for config in configs:
        pairs.setdefault((config.fraction, config.seed), []).append(config)
    for ntp, tube in pairs.values():
        assert (ntp.objective, tube.objective) == ("ntp", "tube")
        assert replace(ntp, objective="tube", output=tube.output) == tube
    assert len({config.steps for config in configs}) == 1


def test_the_demo_ends_in_a_table_and_a_figure_and_repeats_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    assert main(["demo", "--output", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "8 runs of tiny-0.3m" in out
    assert "<|assistant|>" in out
    assert "semtube compare" in out
    table = (folder / "table.md").read_text()
    assert "straight line" in table
    assert (folder / "figure.png").read_bytes()[:4] == b"\x89PNG"
    results = {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}
    assert len(results) == 8
    assert main(["demo", "--output", str(folder)]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")} == results
    assert (folder / "table.md").read_text() == table


def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "demo.json").write_text('{"base": {}}')
    assert main(["demo", "--output", str(tmp_path / "demo")]) == 2
    assert "demo of another version" in capsys.readouterr().err
