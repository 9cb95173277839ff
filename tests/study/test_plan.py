"""What is planned: runs, steps, jobs, and the command that does it again."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from small_study import ONE_SEED, STUDY, copy, do_study, planned

from semtube.cli import main
from semtube.cli.study_display import plan_lines
from semtube.config import RunConfig
from semtube.run_folder import read_json
from semtube.study.cost import estimate_costs
from semtube.study.design import Study
from semtube.study.job import plain_config
from semtube.study.plan import Identities, final_runs, num_steps
from semtube.study.runner import StudyFolder


def test_the_plan_counts_every_run_once(done: StudyFolder, tmp_path: Path) -> None:
    rows = estimate_costs(STUDY, done)
    assert [(r.phase, r.arm, r.num_runs, r.num_done) for r in rows] == [
        ("tuning", "ntp", 2, 2), ("tuning", "tube", 2, 2),
        ("final", "ntp", 3, 3), ("final", "tube", 3, 3),
    ]  # fmt: skip
    assert all(row.num_steps == 0 and row.seconds_per_step > 0 for row in rows)
    lines = plan_lines(rows).splitlines()
    assert [line.split("  ")[0] for line in lines] == [run["run"] for run in planned(done)]
    assert all(line.endswith("(done)") for line in lines)
    new = StudyFolder(tmp_path / "new")
    study = done.with_generated(replace(STUDY, seconds_per_step=0.5), write=False)
    rows = estimate_costs(study, new)
    assert [(r.num_runs, r.num_done, r.num_steps) for r in rows] == [
        (2, 0, 12), (2, 0, 12), (3, 0, 18), (3, 0, 18),
    ]  # fmt: skip
    assert not new.path.exists()
    lines = plan_lines(rows).splitlines()
    # Nothing is chosen in the new folder, so final runs have no tuned settings yet, and no ids.
    ids = [line.split()[0] for line in lines]
    assert ids == [run["run"] for run in planned(done)[:4]] + ["-"] * 8
    tuned = ["learning_rate" in line or "weight" in line for line in lines]
    assert tuned == [True] * 4 + [False] * 8
    assert not any(line.endswith("(done)") for line in lines)


def test_a_damaged_run_is_not_done_in_the_plan(done: StudyFolder, tmp_path: Path) -> None:
    path = copy(done, tmp_path)
    (path / "runs" / planned(done)[-1]["run"] / "result.json").write_text("[]")
    assert [row.num_done for row in estimate_costs(STUDY, StudyFolder(path))] == [2, 2, 3, 2]


def test_fixed_epochs_take_fewer_steps_at_smaller_fractions(
    done: StudyFolder, tmp_path: Path
) -> None:
    study = replace(
        ONE_SEED,
        base={k: v for k, v in STUDY.base.items() if k != "steps"} | {"epochs": 2},
        updates="fixed epochs",
        axes={"fraction": [0.25, 0.1], "seed": [1]},
    )
    study.check()
    study = done.with_generated(study, write=False)
    folder, _, _ = do_study(study, tmp_path / "s")
    num_train = len((done.data / "train.jsonl").read_text().splitlines()) - 30
    steps = [2 * math.ceil(round(fraction * num_train) / 8) for fraction in (0.25, 0.1)]
    assert steps[0] > steps[1] > 1
    identities = Identities()
    runs = list(final_runs(study, {}, identities))
    assert [(run.arm, run.point["fraction"]) for run in runs] == [
        ("ntp", 0.25), ("ntp", 0.1), ("tube", 0.25), ("tube", 0.1),
    ]  # fmt: skip
    assert [num_steps(run.config, identities.of(run.config)[1]) for run in runs] == steps * 2
    done_steps = [read_json(folder.store.folder(run.run).result)["num_steps"] for run in runs]
    assert done_steps == steps * 2


def test_a_job_names_data_by_absolute_paths_and_is_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = RunConfig(output="", data="rows.jsonl", validation="a/v.jsonl", test="../t.jsonl")
    values = plain_config(own)
    assert [values[name] for name in ("data", "validation", "test", "data_folder")] == [
        f"{tmp_path}/rows.jsonl", f"{tmp_path}/a/v.jsonl", f"{tmp_path}/../t.jsonl", None,
    ]  # fmt: skip
    task = RunConfig(
        output="", task="spider", data_folder="data", test="test",
        task_options={"databases": "spider/database"},
    )  # fmt: skip
    values = plain_config(task)
    assert (values["data"], values["test"]) == (None, "test")
    assert values["data_folder"] == f"{tmp_path}/data"
    assert values["task_options"] == {"databases": f"{tmp_path}/spider/database"}
    assert task.task_options == {"databases": "spider/database"}
    hub = replace(task, data_folder="hf://datasets/a/b", task_options={})
    assert plain_config(hub)["data_folder"] == "hf://datasets/a/b"
    for config in (own, task, hub):
        assert RunConfig.from_dict(plain_config(config)).identity({}) == config.identity({})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], []),
        (["--workers", "2", "--retry"], []),
        (["--output", "my out", "--runs", "r"], ["--output", "'my out'", "--runs", "r"]),
        (["--quick", "--threads", "4"], ["--quick", "--threads", "4"]),
        (["--gpus", "0,1"], ["--gpus", "0,1"]),
        (["--ray"], ["--ray"]),
        (["--ray", "auto"], ["--ray", "auto"]),
    ],
)
def test_the_command_in_the_report_does_the_same_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], kept: list[str]
) -> None:
    file = tmp_path / "study.py"
    file.write_text("from small_study import STUDY as study\nquick = study\n")
    found: list[str] = []

    def do_nothing(study: Study, *_: object, **__: object) -> int:
        found.append(study.command)
        return 0

    monkeypatch.setattr("semtube.cli.study.do_study", do_nothing)
    monkeypatch.setattr("semtube.cli.study._workers", lambda options: None)
    assert main(["study", str(file), *given]) == 0
    assert found == [" ".join(["semtube study", str(file), *kept])]


def test_a_plan_refuses_what_would_end_the_study_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    text = (Path(__file__).parents[2] / "examples" / "study.yaml").read_text()
    file.write_text(text.replace("generated: 3000\n", ""))
    assert main(["study", str(file), "--plan"]) == 2
    told = capsys.readouterr().err
    assert (
        told
        == f"semtube: {file}: base has no test: final runs are judged on test rows, name them\n"
    )
