"""Damaged files are set aside and done again; what failed or was lost stays visible."""

import json
import shutil
from collections import deque
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_study import ONE_SEED, STUDY, changed, copy, do_study, planned

from semtube.report.study_checks import missing
from semtube.report.study_reading import read_study
from semtube.report.study_run_tables import run_table
from semtube.run_folder import read_json
from semtube.study import local_workers
from semtube.study.job import Job
from semtube.study.ray_workers import RayWorkers
from semtube.study.runner import StudyFolder
from semtube.study.store import Store


def damaged(path: Path) -> list[str]:
    """What the report leaves out."""
    return [line for line in missing(read_study(path)) if line.startswith("Damaged")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("result.json", '{"half": '),
        ("result.json", "[]"),
        ("config.json", '{"half": '),
        ("identity.json", '{"half": '),
        ("environment.json", "{}"),
        ("environment.json", "[1]"),
        ("metrics.jsonl", '{"half": \n{"step": 2}\n'),
    ],
)
def test_damaged_files_are_named_set_aside_and_done_again(
    done: StudyFolder, tmp_path: Path, name: str, text: str
) -> None:
    path = copy(done, tmp_path)
    run = planned(done)[-1]["run"]
    before = read_json(done.store.folder(run).readings / "test" / "metrics.json")
    (path / "runs" / run / name).write_text(text)
    [told] = damaged(path)
    assert name in told
    _, workers, ended = do_study(STUDY, path)
    assert [job.run for job in workers.jobs] == [run]
    assert name in ended[0][1].notes[0]
    assert (path / "runs" / f"{run}.damaged-1" / name).read_text() == text
    assert read_json(path / "runs" / run / "readings" / "test" / "metrics.json") == before
    assert damaged(path) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", '{"half": '),
        ("metrics.json", "[]"),
        ("metrics.json", "{}"),
        ("examples.jsonl", '{"half": '),
        ("examples.jsonl", None),
    ],
)
def test_damaged_scores_are_named_set_aside_and_decoded_again(
    done: StudyFolder, tmp_path: Path, name: str, text: str | None
) -> None:
    path = copy(done, tmp_path)
    run = planned(done)[-1]["run"]
    reading = path / "runs" / run / "readings" / "test"
    before = {file.name: file.read_bytes() for file in reading.iterdir()}
    if text is None:  # rows without the score
        text = (reading / name).read_text().replace('"exact_match"', '"other"')
    (reading / name).write_text(text)
    [told] = damaged(path)
    assert name in told
    _, workers, ended = do_study(STUDY, path)
    assert [job.run for job in workers.jobs] == [run]
    [note] = ended[0][1].notes
    assert name in note
    assert "set aside as test.damaged-1, the rows are decoded again" in note
    assert (path / "runs" / run / "test.damaged-1" / name).read_text() == text
    after = {file.name: file.read_bytes() for file in reading.iterdir()}
    # Twice decoded, and told so.
    assert [len(found.pop("reads.jsonl").splitlines()) for found in (before, after)] == [1, 2]
    assert after == before
    assert damaged(path) == []


def test_scores_that_this_study_does_not_read_are_decoded_again_too(
    done: StudyFolder, tmp_path: Path
) -> None:
    """A report reads all that a run has decoded."""
    path = copy(done, tmp_path)
    final = {run["run"] for run in planned(done) if run["phase"] == "final"}
    run = next(run["run"] for run in planned(done) if run["run"] not in final)
    readings = path / "runs" / run / "readings"
    shutil.copytree(readings / "validation", readings / "test")
    (readings / "test" / "metrics.json").write_text("[]")
    assert damaged(path)
    _, workers, _ = do_study(STUDY, path)
    assert [job.run for job in workers.jobs] == [run]
    assert damaged(path) == []


def missing_and_table(path: Path) -> tuple[list[str], list[tuple[str, str]]]:
    data = read_study(path)
    return missing(data), [(row["state"], row["cause"]) for row in run_table(data).rows]


def test_decoding_that_fails_keeps_its_cause(
    done: StudyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = done.with_generated(ONE_SEED, write=False)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no room on the card")

    cause = "RuntimeError: no room on the card"
    with monkeypatch.context() as patch:
        patch.setattr("semtube.study.reading.evaluate_rows", fail)
        _, _, ended = do_study(study, tmp_path / "s")
    assert [outcome.error for _, outcome in ended] == [cause] * 2
    [told], table = missing_and_table(tmp_path / "s")
    assert told.startswith("2 runs failed (")
    assert told.endswith(f"): {cause}")
    assert table == [("failed", cause)] * 2
    _, _, ended = do_study(study, tmp_path / "s")
    assert [outcome.error for _, outcome in ended] == [cause] * 2
    _, _, ended = do_study(study, tmp_path / "s", retry=True)
    assert [outcome.status for _, outcome in ended] == ["done"] * 2
    assert missing_and_table(tmp_path / "s") == ([], [("done", "")] * 2)
    assert not [*(tmp_path / "s").rglob("failure.json")]


def test_what_is_trained_and_not_decoded_is_missing(done: StudyFolder, tmp_path: Path) -> None:
    path = copy(done, tmp_path)
    both = next(run for run in planned(done) if run["phase"] == "tuning" and run["run"] in {
        other["run"] for other in planned(done) if other["phase"] == "final"
    })  # fmt: skip
    (path / "runs" / both["run"] / "readings" / "test" / "metrics.json").unlink()
    [told], table = missing_and_table(path)
    assert told == f"1 run unfinished ({both['run']}): trained, not decoded yet"
    # The same run's trial is done.
    assert [state for state, _ in table].count("unfinished") == 1


def test_rows_without_the_score_fail_at_the_first_reading(tmp_path: Path) -> None:
    """Texts have no right answer; what is decoded is not decoded again and again."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"say {k}"}) + "\n" for k in range(16)))
    base = {**STUDY.base, "validation_rows": 0, "data": str(rows), "test": str(rows)}
    study = replace(ONE_SEED, generated=None, base=base)
    study.check()
    for _ in range(2):
        _, _, ended = do_study(study, tmp_path / "s")
        told = [outcome.error for _, outcome in ended]
        assert ["examples.jsonl: holds no records" in error for error in told] == [True, True]
    assert len([*(tmp_path / "s").rglob("reads.jsonl")]) == 2


def test_a_worker_lost_too_often_leaves_its_cause(done: StudyFolder, tmp_path: Path) -> None:
    path = copy(done, tmp_path)
    run = planned(done)[-1]["run"]
    shutil.rmtree(path / "runs" / run)
    here, there = Pipe()
    there.close()
    job = Job(run, {}, ("test",), str(path / "runs"))
    process = SimpleNamespace(join=lambda: None, exitcode=-9)
    workers = local_workers.LocalWorkers(1)
    worker = local_workers._Worker(process, here, None, job)
    num_lost = {run: 0}
    for num_times in range(4):
        workers._workers.append(worker)
        found = list(workers._take(worker, deque(), num_lost))
        assert bool(found) == (num_times == 3)
    cause = "its worker was lost 4 times (last exit status -9)"
    [told], _ = missing_and_table(path)
    assert told.startswith(f"1 run failed ({run}): {cause}")
    _, _, [(_, outcome)] = do_study(STUDY, path)
    assert outcome.error.startswith(cause)
    _, _, [(_, outcome)] = do_study(STUDY, path, retry=True)
    assert outcome.status == "done"


def test_a_lost_ray_worker_leaves_its_cause(tmp_path: Path) -> None:
    class RayError(Exception):
        pass

    def get(reference: object) -> None:
        raise RayError("The node is gone.\nMore")

    workers = object.__new__(RayWorkers)
    workers._ray = SimpleNamespace(get=get, exceptions=SimpleNamespace(RayError=RayError))
    outcome = workers._outcome(None, Job("a", {}, ("test",), str(tmp_path)))
    assert outcome.error == Store(tmp_path).failure("a") == "its worker was lost: The node is gone."


def test_a_failed_run_stays_visible_and_is_tried_again_only_when_asked(tmp_path: Path) -> None:
    study = changed(
        axes={"seed": [1]},
        deciding={"arm": "tube"},
        tuning=None,
        arms={"ntp": {"objective": "ntp"}, "tube": {"options": {"form": "round"}}},
    )
    _, _, ended = do_study(study, tmp_path / "s")
    assert [outcome.status for _, outcome in ended] == ["done", "failed"]
    run, outcome = ended[1]
    assert "round" in outcome.error
    stored = read_json(tmp_path / "s" / "runs" / run.run / "failure.json")
    assert stored["error"] == outcome.error
    store = Store(tmp_path / "s" / "runs")
    assert store.failure(run.run) == outcome.error
    began = (tmp_path / "s" / "runs" / run.run / "failure.json").stat().st_mtime_ns
    do_study(study, tmp_path / "s")
    assert (tmp_path / "s" / "runs" / run.run / "failure.json").stat().st_mtime_ns == began
    do_study(study, tmp_path / "s", retry=True)
    assert (tmp_path / "s" / "runs" / run.run / "failure.json").stat().st_mtime_ns > began
