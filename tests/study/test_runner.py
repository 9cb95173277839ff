"""A small study from its first run to its last, killed, damaged, shared, and done again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file
from small_study import STUDY, InThisProcess, changed, copy, do_study, planned

from semtube.cli import main
from semtube.errors import UserError
from semtube.report.study_changes import changes
from semtube.report.study_reading import read_study
from semtube.run_folder import WriteError, read_json, write_json
from semtube.study import local_workers
from semtube.study.job import Job, do_job, plain_config
from semtube.study.plan import Identities, choice_at, final_runs, tuning_runs
from semtube.study.runner import StudyFolder, StudyListener, run_study
from semtube.study.store import Store


def test_every_run_is_planned_and_read_once(done: StudyFolder) -> None:
    runs = planned(done)
    assert [run["phase"] for run in runs] == ["tuning"] * 4 + ["final"] * 8
    for run in runs:
        for split in run["read"]:
            assert done.store.is_read(run["run"], [split], "exact_match")
    for run in {run["run"] for run in runs if run["phase"] == "final"}:
        reads = done.store.folder(run).readings / "test" / "reads.jsonl"
        assert len(reads.read_text().splitlines()) == 1


def test_a_trial_that_does_not_win_never_sees_the_test_rows(done: StudyFolder) -> None:
    runs = planned(done)
    final = {run["run"] for run in runs if run["phase"] == "final"}
    losers = {run["run"] for run in runs} - final
    assert len(losers) == 2  # the winners of the tuning are final runs of seed 1 too
    for run in losers:
        assert [p.name for p in done.store.folder(run).readings.iterdir()] == ["validation"]


def test_arms_differ_in_nothing_but_their_objective_and_what_is_tuned(done: StudyFolder) -> None:
    by_point: dict[str, list[dict]] = {}
    for run in planned(done):
        if run["phase"] == "final":
            config = read_json(done.store.folder(run["run"]).config)
            by_point.setdefault(str(run["point"]), []).append(config)
    for ntp, tube in by_point.values():
        differing = {name for name in ntp if ntp[name] != tube[name]}
        assert differing <= {"output", "objective", "weight", "learning_rate"}
        assert ntp["train_stop"]


def test_the_best_on_validation_rows_is_chosen(done: StudyFolder) -> None:
    for choices in read_json(done.chosen).values():
        for choice in choices:
            best = max(choice["trials"], key=lambda t: (t["score"], -t["loss"]))
            assert choice["chosen"] == best["tried"]
            for trial in choice["trials"]:
                folder = done.store.folder(trial["run"])
                metrics = read_json(folder.readings / "validation" / "metrics.json")
                assert trial["score"] == metrics["exact_match"]["mean"]


def test_what_is_done_is_never_done_again(done: StudyFolder) -> None:
    _, workers, _ = do_study(STUDY, done.path)
    assert workers.jobs == []


def test_another_study_takes_the_runs_it_shares(done: StudyFolder, tmp_path: Path) -> None:
    # Generated rows lie elsewhere, but they are the same rows.
    folder, workers = StudyFolder(tmp_path / "b", done.store.path), InThisProcess()
    run_study(changed(question="Another?"), folder, workers)
    assert workers.jobs == []


def test_a_study_knows_where_its_runs_are(done: StudyFolder, tmp_path: Path) -> None:
    StudyFolder(tmp_path / "b", done.store.path).begin(STUDY)
    again = StudyFolder(tmp_path / "b")
    assert again.store.path.resolve() == done.store.path.resolve()
    assert [run["run"] for run in planned(done) if again.store.folder(run["run"]).is_done]


def test_studies_share_their_runs_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    monkeypatch.setattr(
        "semtube.cli.study.do_study", lambda study, folder, *_, **__: found.append(folder) or 0
    )
    file = str(Path(__file__).parents[2] / "studies" / "07_weight_curve.py")
    for words in ([], ["--output", "mine"], ["--runs", "store"]):
        assert main(["study", file, "--quick", *words]) == 0
    assert [str(folder.path) for folder in found] == [
        "studies-out/07_weight_curve_quick", "mine", "studies-out/07_weight_curve_quick",
    ]  # fmt: skip
    assert [str(folder.store.path) for folder in found] == [
        "studies-out/runs",
        "mine/runs",
        "store",
    ]


def test_the_ids_are_those_of_the_runs_themselves(done: StudyFolder) -> None:
    for run in planned(done):
        assert read_json(done.store.folder(run["run"]).identity)["id"] == run["run"]


def test_a_change_of_what_was_fixed_first_is_kept_and_said(
    done: StudyFolder, tmp_path: Path
) -> None:
    path = copy(done, tmp_path)
    said: list[str] = []
    for hypothesis in ("The tube.", "The tube.", "Neither."):
        study = changed(hypothesis=hypothesis)
        run_study(
            study, StudyFolder(path), InThisProcess(), listener=StudyListener(say=said.append)
        )
    when = "changed after 10 of 10 runs were done"
    assert [f"{when}: hypothesis;" in sentence for sentence in said] == [True, True]
    stored = read_json(path / "study.json")
    assert stored["hypothesis"] == "Neither."
    assert [old["hypothesis"] for old in stored["changed"]] == ["Neither.", "The tube."]
    [first, second] = changes(read_study(path).study)
    assert (
        first
        == "The hypothesis was changed after 10 of 10 runs were done; before, it was: Neither."
    )
    assert second.endswith("before, it was: The tube.")


def test_before_the_first_result_a_study_may_be_changed(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "s")
    plain = replace(STUDY, generated=None)
    folder.begin(plain)
    folder.begin(replace(plain, margin=0.5))
    assert (read_json(folder.study)["margin"], read_json(folder.study)["changed"]) == (0.5, [])


def test_a_lost_workers_successor_takes_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    class Process:
        def __init__(self, args: tuple, **_: object) -> None:
            given.append(args[1])

        def start(self) -> None:
            pass

    monkeypatch.setattr(local_workers, "_SPAWN", SimpleNamespace(Pipe=Pipe, Process=Process))
    workers = local_workers.LocalWorkers(3, ["4", "7"])
    started = [workers._start() for _ in range(3)]
    workers._workers.remove(started[1])
    workers._start()
    assert given == ["4", "7", "4", "7"]


def test_a_disk_too_full_for_checkpoints_stops_the_study_and_fails_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = changed(axes={"seed": [1]}, deciding={"arm": "tube"}, tuning=None)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
        with pytest.raises(WriteError, match="checkpoints of this model need"):
            do_study(study, tmp_path / "s")
    _, _, ended = do_study(study, tmp_path / "s")
    assert [outcome.status for _, outcome in ended] == ["done", "done"]


def test_a_run_that_another_process_holds_is_left_to_it(done: StudyFolder, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.open()
    study = done.with_generated(STUDY, write=False)
    run = next(tuning_runs(study, Identities()))
    job = Job(run.run, plain_config(run.config), run.read, str(store.path))
    with store.hold(run.run) as is_held:
        assert is_held
        assert do_job(job).status == "elsewhere"
    assert not store.folder(run.run).path.exists()


def test_a_store_of_a_newer_version_is_refused(done: StudyFolder, tmp_path: Path) -> None:
    path = copy(done, tmp_path)
    for name in ("study.json", "runs/store.json"):
        values = read_json(path / name)
        write_json(path / name, values | {"format": 99})
        with pytest.raises(UserError, match="written by a newer semtube \\(format 99"):
            do_study(STUDY, path)
        write_json(path / name, values)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        do_study(STUDY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_points_between_take_the_choice_of_the_nearest() -> None:
    choices = [
        {"at": {"fraction": 1.0}, "chosen": {"weight": 1}},
        {"at": {"fraction": 0.125}, "chosen": {"weight": 2}},
    ]
    assert choice_at(choices, {"fraction": 0.5, "seed": 3}) == {"weight": 1}
    assert choice_at(choices, {"fraction": 0.25, "seed": 3}) == {"weight": 2}
    assert choice_at([{"at": {}, "chosen": {"weight": 3}}], {"fraction": 0.5}) == {"weight": 3}


def test_an_arm_whose_trials_all_failed_has_no_final_runs(done: StudyFolder) -> None:
    study = done.with_generated(STUDY, write=False)
    choices = {"ntp": read_json(done.chosen)["ntp"]}
    assert {run.arm for run in final_runs(study, choices, Identities())} == {"ntp"}


FILE = """
from dataclasses import replace
from small_study import STUDY
study = replace(STUDY, base={**STUDY.base, "steps": 40, "checkpoint_every": 5})
"""


def numbers(folder: Path) -> dict[str, object]:
    """All that a study found, without times and places."""
    found: dict[str, object] = {"chosen": read_json(folder / "chosen.json")}
    for run in read_json(folder / "plan.json")["runs"]:
        place = folder / "runs" / run["run"]
        result = read_json(place / "result.json")
        del result["training_seconds"]
        found[run["run"]] = [
            result,
            [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()],
            {name: w.tolist() for name, w in load_file(place / "model/model.safetensors").items()},
        ]
        for split in run["read"]:
            found[f"{run['run']} {split}"] = (
                (place / "readings" / split / "examples.jsonl").read_text(),
                read_json(place / "readings" / split / "metrics.json"),
            )
    return found


def start(file: Path, output: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "semtube", "study", str(file), "--output", str(output)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with output.with_suffix(".log").open("a") as log:
        return subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log)


def workers_of(runner: int) -> list[int]:
    try:
        children = Path(f"/proc/{runner}/task/{runner}/children").read_text().split()
    except OSError:
        return []
    found = []
    for child in map(int, children):
        try:
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_twenty_kills_change_no_number(tmp_path: Path) -> None:
    """Runner and workers are killed at random moments; the rest is the undisturbed study."""
    file = tmp_path / "study.py"
    file.write_text(FILE)
    two = ("--workers", "2")
    undisturbed = start(file, tmp_path / "undisturbed", *two)
    assert undisturbed.wait(600) == 0
    chance = random.Random(0)
    killed = {"runner": 0, "worker": 0}
    runner = start(file, tmp_path / "killed", *two)
    while sum(killed.values()) < 20:
        time.sleep(chance.uniform(2.0, 10.0))
        if runner.poll() is not None:  # done before all kills: begin the last runs anew
            for run in read_json(tmp_path / "killed" / "plan.json")["runs"][-3:]:
                subprocess.run(["rm", "-rf", str(tmp_path / "killed" / "runs" / run["run"])])
            runner = start(file, tmp_path / "killed", *two)
            continue
        workers = workers_of(runner.pid)
        if workers and chance.random() < 0.5:
            os.kill(chance.choice(workers), signal.SIGKILL)
            killed["worker"] += 1
        else:
            runner.kill()
            runner.wait()
            killed["runner"] += 1
            runner = start(file, tmp_path / "killed", *two)
    while runner.wait(600) != 0:  # a run whose worker was lost four times counts as failed
        runner = start(file, tmp_path / "killed", *two, "--retry")
    assert min(killed.values()) > 0
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "undisturbed")


@pytest.mark.slow
def test_two_runners_share_one_study(tmp_path: Path) -> None:
    """No run is done twice, and both end when all is done."""
    file = tmp_path / "study.py"
    file.write_text(FILE)
    first = start(file, tmp_path / "s")
    while not (tmp_path / "s" / "data" / "test.jsonl").is_file():
        time.sleep(0.1)
    second = start(file, tmp_path / "s")
    ended = [runner.wait(900) for runner in (first, second)]
    assert ended == [0, 0], (tmp_path / "s.log").read_text()
    runs = {run["run"] for run in read_json(tmp_path / "s" / "plan.json")["runs"]}
    for run in runs:
        # One start each: a second would have been noted.
        assert len(read_json(tmp_path / "s" / "runs" / run / "environment.json")) == 1


@pytest.mark.slow
def test_two_ray_workers_find_the_same_numbers_though_one_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    file = tmp_path / "study.py"
    file.write_text(FILE)
    local = start(file, tmp_path / "local", "--workers", "2")
    assert local.wait(900) == 0, (tmp_path / "local.log").read_text()
    runner = start(file, tmp_path / "ray", "--workers", "2", "--ray")
    kill_a_ray_worker(tmp_path / "ray")
    assert runner.wait(900) == 0, (tmp_path / "ray.log").read_text()
    assert numbers(tmp_path / "ray") == numbers(tmp_path / "local")


def kill_a_ray_worker(folder: Path) -> None:
    """One that is in the middle of a run, told by the checkpoint that it has written."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.05)
        if not any(folder.glob("runs/*/checkpoints/*")):
            continue
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cmdline").read_bytes().startswith(b"ray::do_job"):
                    os.kill(int(process.name), signal.SIGKILL)
                    return
            except OSError:
                continue
    raise AssertionError("no worker of Ray was in the middle of a run")
