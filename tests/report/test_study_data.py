"""A study's folder read back: what is there, what is damaged, what is not done."""

import json
from pathlib import Path

import numpy as np
import pytest
from study_store import Store, write, write_lines

from semtube.errors import UserError
from semtube.report.study_cells import matching, paired, place_name, study_cells
from semtube.report.study_data import MOST_TRACE_POINTS
from semtube.report.study_reading import read_study, thinned
from semtube.statistics.intervals import t_interval


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Store(fractions=(1.0, 0.5), num_rows=40, num_steps=30).write(tmp_path / "study")


def final_run(folder: Path, arm: str, seed: int, fraction: float = 1.0) -> Path:
    plan = json.loads((folder / "plan.json").read_text())["runs"]
    wanted = {"fraction": fraction, "seed": seed}
    [run] = [r["run"] for r in plan if r["arm"] == arm and r["point"] == wanted]
    return folder / "runs" / run


def test_cells_hold_what_the_rows_say(folder: Path) -> None:
    data = read_study(folder)
    assert [place_name(place) for place in data.places()] == ["fraction 1", "fraction 0.5"]
    cells = study_cells(data)
    assert [(c.arm, c.place[0][1]) for c in cells] == [
        ("ntp", 1.0), ("tube", 1.0), ("ntp", 0.5), ("tube", 0.5),
    ]  # fmt: skip
    for cell in cells:
        rates = []
        for seed in cell.seeds:
            path = final_run(folder, cell.arm, seed, cell.place[0][1])
            lines = (path / "readings/test/examples.jsonl").read_text().splitlines()
            rates.append(np.mean([json.loads(line)["exact_match"] for line in lines]))
        assert cell.scores == pytest.approx(rates, abs=0)
        assert cell.interval == t_interval(rates, 0.95)
        assert cell.num_missing == 0


def test_one_seed_has_no_interval_and_says_why(tmp_path: Path) -> None:
    data = read_study(Store(seeds=(5,), fractions=(1.0,), num_rows=20).write(tmp_path))
    for cell in study_cells(data):
        assert cell.interval is None
        assert cell.deviation is None
        assert cell.withheld.startswith("one seed")


def test_rows_are_paired_by_id_whatever_their_order(folder: Path) -> None:
    before = paired(read_study(folder), "ntp", "tube", matching(read_study(folder), {}))
    path = final_run(folder, "tube", 2) / "readings/test/examples.jsonl"
    path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    after = paired(read_study(folder), "ntp", "tube", matching(read_study(folder), {}))
    assert before is not None
    assert after is not None
    assert np.array_equal(before.b, after.b)
    assert before.seeds == (1, 2, 3)


def test_other_test_rows_are_refused(folder: Path) -> None:
    path = final_run(folder, "tube", 2) / "readings/test/examples.jsonl"
    path.write_text(path.read_text().replace('"row3"', '"row3000"'))
    data = read_study(folder)
    with pytest.raises(UserError, match="2 rows have no partner"):
        paired(data, "ntp", "tube", matching(data, {"fraction": 1.0}))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("result.json", '{"num_steps": 3', "not JSON"),
        ("result.json", "[]", "wanted a JSON object"),
        ("readings/test/metrics.json", "", "not JSON"),
        ("readings/test/examples.jsonl", '{"id": "a"}\n', "examples.jsonl:1: lacks the field"),
        ("readings/test/examples.jsonl", "", "holds no records"),
        ("readings/test/examples.jsonl", '{"id": 1}, {"id": 2}\n', "examples.jsonl:1: wanted one"),
        ("metrics.jsonl", '{"step": 1}\nx\n{"step": 3}\n', "metrics.jsonl:2: not JSON"),
        ("metrics.jsonl", '{"step": 1}\n[]\n{"step": 3}\n', "metrics.jsonl:2: no line of metrics"),
        ("environment.json", "{", "not JSON"),
    ],
)
def test_a_damaged_file_costs_its_run_alone(folder: Path, name: str, text: str, told: str) -> None:
    run = final_run(folder, "tube", 2)
    (run / name).write_text(text)
    data = read_study(folder)
    [problem] = data.problems
    assert told in problem
    assert str(run / name) in problem
    assert data.runs[run.name].status == "damaged"
    assert [cell.num_missing for cell in study_cells(data)] == [0, 1, 0, 0]


def test_a_line_that_a_kill_cut_off_is_no_damage(folder: Path) -> None:
    run = final_run(folder, "tube", 2)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "lo')
    assert read_study(folder).problems == []


def test_failed_and_missing_runs_are_told_apart(tmp_path: Path) -> None:
    store = Store(fractions=(1.0,), num_rows=20, failing={("tube", 2): "no room"}, not_begun=(3,))
    data = read_study(store.write(tmp_path))
    found = {(p.arm, p.seed): data.runs[p.run] for p in data.finals()}
    assert (found["tube", 2].status, found["tube", 2].cause) == ("failed", "no room")
    assert (found["tube", 3].status, found["tube", 3].cause) == ("unfinished", "not begun")
    assert found["tube", 1].status == "done"


@pytest.mark.parametrize("name", ["study.json", "runs/store.json"])
def test_a_newer_version_is_refused(folder: Path, name: str) -> None:
    values = json.loads((folder / name).read_text())
    write(folder / name, values | {"format": 2})
    with pytest.raises(UserError, match=r"newer semtube \(format 2, this one reads 1\)"):
        read_study(folder)


def test_what_is_no_study_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"study\.json: no such file"):
        read_study(tmp_path / "nothing")
    values = json.loads((folder / "study.json").read_text())
    write(folder / "study.json", {k: v for k, v in values.items() if k != "margin"})
    with pytest.raises(UserError, match="lacks 'margin'"):
        read_study(folder)
    write(folder / "study.json", values | {"baseline": "other"})
    with pytest.raises(UserError, match="baseline names arm 'other'"):
        read_study(folder)
    write(folder / "study.json", values)
    write(folder / "plan.json", {"runs": [{"run": "a"}]})
    with pytest.raises(UserError, match=r"plan\.json: run 0 is no planned run \(lacks 'phase'\)"):
        read_study(folder)


def test_a_trace_is_thinned_to_means(tmp_path: Path) -> None:
    steps, values = thinned(list(range(1, 1001)), [2.0 * k for k in range(1, 1001)])
    assert len(steps) == MOST_TRACE_POINTS
    assert steps[0] == pytest.approx(5.5)
    assert values == pytest.approx([2 * step for step in steps])
    assert thinned([1, 2, 3], [4, 5, 6]) == ([1, 2, 3], [4, 5, 6])


def test_runs_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / "runs").rename(tmp_path / "shared-runs")
    values = json.loads((folder / "study.json").read_text())
    write(folder / "study.json", values | {"runs": "../shared-runs"})
    assert all(run.status == "done" for run in read_study(folder).runs.values())


def test_unjudged_rows_are_left_out_and_counted(folder: Path) -> None:
    path = final_run(folder, "tube", 1) / "readings/test/examples.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["exact_match"] = None
    write_lines(path, lines)
    data = read_study(folder)
    pair = paired(data, "ntp", "tube", matching(data, {"fraction": 1.0}))
    assert pair is not None
    assert pair.num_unjudged == 1
    assert pair.a.shape == (3, 39)
