"""The command line as a person meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from semtube.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(list(words))
    said = capsys.readouterr()
    return status, said.out, said.err


def run_small(output: Path, rows_file: Path, *words: str) -> int:
    return main(
        ["train", "--data", str(rows_file), "--output", str(output), "--model", "tiny-0.3m",
         "--steps", "3", "--batch_size", "8", "--threads", "1", *words]
    )  # fmt: skip


def test_help_is_the_one_in_the_docs() -> None:
    script = Path(__file__).parents[2] / "tools" / "write_cli_docs.py"
    subprocess.run([sys.executable, str(script), "--check"], check=True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "no command 'trian': did you mean 'train'?"),
        (["data", "chekc"], "no action 'chekc': did you mean 'check'?"),
        (["train", "--data", "a", "--outptu", "b"],
         "no option '--outptu': did you mean '--output'?"),
        (["train", "--data", "a", "--output", "b", "--learning-rate", "1"],
         "no option '--learning-rate': did you mean '--learning_rate'?"),
        (["train", "--data", "a", "--output", "b", "--weight", "x"],
         "weight: expected a float, got x"),
        (["train", "--data", "a", "--output", "b", "--objective", "tub"],
         "objective: expected one of 'ntp', 'tube', 'two_view', 'masked_span', 'curvature', "),
        (["train", "--data", "a", "--output", "b", "--weight", "-1"],
         "weight is -1.0: it must be at least 0"),
        (["train", "--data", "a", "--output", "b", "--micro_batch_size", "5"],
         "micro_batch_size is 5: it must be a divisor of batch_size (32)"),
        (["train", "--data", "nowhere.jsonl", "--output", "b"], "nowhere.jsonl: no such file"),
        (["train", "--data", "a"], "the following arguments are required: output"),
        (["train", "--resume", "nowhere"], "'nowhere' holds no run (no config.json)"),
        (["train", "--resume", "a", "--weight", "1"],
         "--resume takes a run's folder and no option but trust_remote_code"),
        (["train", "--data", "a", "--output", "b", "--drop_overlap", "foo"],
         "drop_overlap: expected one of 'row', 'question', 'answer', 'near', got foo"),
        (["evaluate", "tiny-2m", "--data", "a"], "'tiny-2m' is a preset, which knows nothing yet"),
        (["compare", "nowhere", "b"], "'nowhere' holds no examples.jsonl"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_status_2(
    capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    status, out, err = run(capsys, *words)
    assert status == 2
    assert out == ""
    assert err.startswith("semtube: " + sentence)
    assert err.count("\n") == 1


def test_a_wrong_key_in_a_yaml_file_gets_the_nearest_right_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = tmp_path / "run.yaml"
    settings.write_text("data: a\noutput: b\nlora:\n  rnak: 2\n")
    assert run(capsys, "train", "--config", str(settings))[2] == (
        "semtube: no option 'rnak': did you mean 'rank'?\n"
    )


def test_train_evaluate_compare_on_the_users_own_file(
    capsys: pytest.CaptureFixture[str], rows_file: Path, tmp_path: Path
) -> None:
    for objective in ("ntp", "tube"):
        status = run_small(
            tmp_path / objective, rows_file, "--objective", objective, "--test", str(rows_file)
        )
        assert status == 0
    out = capsys.readouterr().out
    assert "48 of 48 training rows" in out
    assert "<|end|>" in out
    assert "exact match" in out
    status, out, err = run(capsys, "evaluate", str(tmp_path / "tube"), "--data", str(rows_file))
    assert (status, err) == (0, "")
    again = tmp_path / "tube" / "evaluation-rows" / "examples.jsonl"
    assert again.read_text() == (tmp_path / "tube" / "examples.jsonl").read_text()
    status, out, err = run(capsys, "compare", str(tmp_path / "ntp"), str(tmp_path / "tube"))
    assert (status, err) == (0, "")
    assert "| test rows | 48 |" in out
    assert "McNemar" in out


def test_an_evaluation_takes_the_runs_task_and_form_and_keeps_its_settings(
    capsys: pytest.CaptureFixture[str], rows_file: Path, tmp_path: Path
) -> None:
    words = ["--test", str(rows_file), "--chat_form", "plain", "--task", "pattern"]
    words += ["--task_options.pattern", ".+", "--max_new_tokens", "5", "--objective", "ntp"]
    for name in ("a", "b"):
        assert run_small(tmp_path / name, rows_file, *words, "--seed", str("ab".index(name))) == 0
    records = [json.loads(x) for x in (tmp_path / "a" / "examples.jsonl").read_text().splitlines()]
    assert not any("<|user|>" in record["prompt"] for record in records)
    assert all(record["num_tokens"] <= 5 for record in records)
    assert {"prompt_hash", "prediction", "gold", "pattern_match", "stopped", "num_tokens",
            "stop_log_probability"} <= set(records[0])  # fmt: skip
    for name in ("a", "b"):
        words = ["evaluate", str(tmp_path / name), "--data", str(rows_file), "--limit", "7"]
        status, out, err = run(capsys, *words, "--output", str(tmp_path / f"{name}-seven"))
        assert (status, err) == (0, "")
        assert "pattern match" in out
    settings = json.loads((tmp_path / "a-seven" / "evaluation.json").read_text())
    assert (settings["task"], settings["chat_form"]) == ("pattern", "plain")
    assert settings["task_options"] == {"pattern": ".+"}
    assert (settings["num_rows"], settings["num_too_long"]) == (7, 0)
    folders = [str(tmp_path / f"{name}-seven") for name in ("a", "b")]
    status, out, err = run(capsys, "compare", *folders)
    assert "| pattern_match | value |" in out
    assert "differ" not in out
    settings["task_options"] = {"pattern": "x"}
    (tmp_path / "a-seven" / "evaluation.json").write_text(json.dumps(settings))
    out = run(capsys, "compare", *folders)[1]
    assert "Warning: they differ in more than the objective: task_options." in out


def test_compare_warns_of_what_changes_numbers_alone(
    capsys: pytest.CaptureFixture[str], rows_file: Path, tmp_path: Path
) -> None:
    test = ["--test", str(rows_file)]
    assert run_small(tmp_path / "a", rows_file, "--objective", "ntp", *test) == 0
    assert run_small(tmp_path / "b", rows_file, "--log_every", "3", *test) == 0
    out = run(capsys, "compare", str(tmp_path / "a"), str(tmp_path / "b"))[1]
    assert "objective: ntp against tube" in out
    assert "Warning" not in out
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text("\n".join(rows_file.read_text().splitlines()[:40]))
    assert run_small(tmp_path / "c", fewer, *test) == 0
    out = run(capsys, "compare", str(tmp_path / "a"), str(tmp_path / "c"))[1]
    assert "Warning: they differ in more than the objective: train rows." in out


@pytest.mark.parametrize("task", ["choice", "pattern"])
def test_rows_that_cannot_be_judged_are_found_before_training(
    capsys: pytest.CaptureFixture[str], rows_file: Path, tmp_path: Path, task: str
) -> None:
    assert run_small(tmp_path / "a", rows_file, "--test", str(rows_file), "--task", task) == 2
    assert "semtube: rows.jsonl:1: " in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_yaml_then_options_and_the_resolved_settings_are_stored(
    rows_file: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "run.yaml"
    settings.write_text(
        f"data: {rows_file}\nmodel: tiny-0.3m\nsteps: 9\nbatch_size: 8\noptions:\n  form: span\n"
    )
    words = ["--config", str(settings), "--output", str(tmp_path / "a"), "--steps", "2"]
    assert main(["train", *words, "--options.draws", "3", "--threads", "1"]) == 0
    stored = json.loads((tmp_path / "a" / "config.json").read_text())
    assert (stored["steps"], stored["batch_size"]) == (2, 8)
    assert stored["options"] == {"form": "span", "draws": 3}
    again = ["--config", str(tmp_path / "a" / "config.json"), "--output", str(tmp_path / "b")]
    assert main(["train", *again]) == 0
    a, b = (tmp_path / name / "metrics.jsonl" for name in "ab")
    assert a.read_text() == b.read_text()


def test_data_actions(capsys: pytest.CaptureFixture[str], rows_file: Path, tmp_path: Path) -> None:
    status, out, _ = run(
        capsys, "data", "check", "--train", str(rows_file), "--test", str(rows_file)
    )
    assert status == 0
    assert "48 test rows: 48 stand in train too" in out
    status, out, _ = run(capsys, "data", "show", str(rows_file), "--row", "2")
    assert status == 0
    assert "<|assistant|>" in out
    assert run(capsys, "data", "show", str(rows_file), "--row", "49")[2] == (
        f"semtube: row is 49: {rows_file} has rows 1 to 48\n"
    )
    words = ["--output", str(tmp_path / "regex"), "--num_pairs", "200"]
    status, out, _ = run(capsys, "data", "generate", *words)
    assert status == 0
    sizes = [len((tmp_path / "regex" / f"{n}.jsonl").read_text().splitlines())
             for n in ("train", "validation", "test")]  # fmt: skip
    assert sum(sizes) == 200
    assert run(capsys, "data", "generate", *words)[0] == 2


def test_ctrl_c_in_a_terminal_saves_and_says_how_to_go_on(rows_file: Path, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from semtube.training import monitor\n"
        "plain = monitor.TrainingMonitor.on_step_end\n"
        "def on_step_end(self, args, state, control, **rest):\n"
        "    if state.global_step == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        "    plain(self, args, state, control, **rest)\n"
        "monitor.TrainingMonitor.on_step_end = on_step_end\n"
        "from semtube.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["--data", str(rows_file), "--output", str(tmp_path / "run"), "--model", "tiny-0.3m"]
    words += ["--steps", "30", "--batch_size", "8", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, "train", *words], capture_output=True, text=True
    )
    assert done.returncode == 130
    assert "stopped after step 2; go on with:" in done.stdout
    assert f"semtube train --resume {tmp_path / 'run'}" in done.stdout.replace("\n", "")
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
