"""A whole run: both arms alike, resumed exactly, stopped cleanly, nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from semtube.config import EvaluationOptions, RunConfig
from semtube.errors import UserError
from semtube.run_folder import WriteError
from semtube.study.run import Interrupted, RunListener, execute


@pytest.fixture
def config(rows_file: Path, tmp_path: Path) -> RunConfig:
    return RunConfig(
        data=str(rows_file),
        output=str(tmp_path / "run"),
        model="tiny-0.3m",
        steps=10,
        batch_size=8,
        learning_rate=3e-3,
        checkpoint_every=4,
        precision="fp32",
        threads=1,
        seed=3,
    )


def weights(config: RunConfig) -> dict[str, torch.Tensor]:
    return load_file(Path(config.output) / "model" / "model.safetensors")


def metrics(config: RunConfig) -> list[dict[str, float]]:
    lines = (Path(config.output) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_same_weights(a: RunConfig, b: RunConfig) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_its_files_and_its_result(config: RunConfig) -> None:
    config = replace(config, test=config.data, validation=config.data)
    result = execute(config)
    folder = Path(config.output)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "environment.json",
        "examples.jsonl",
        "identity.json",
        "metrics.jsonl",
        "model",
        "result.json",
    ]
    assert json.loads((folder / "result.json").read_text()) == result
    assert result["num_steps"] == 10
    assert set(result["metrics"]) == {"exact_match", "prefix_match", "stopped", "loss", "tube_loss"}
    assert len((folder / "examples.jsonl").read_text().splitlines()) == 48
    assert RunConfig.from_dict(json.loads((folder / "config.json").read_text())) == config
    steps = [line for line in metrics(config) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 11))
    assert all({"loss", "term_loss", "grad_norm", "learning_rate"} <= set(line) for line in steps)
    validated = [line["step"] for line in metrics(config) if "validation_loss" in line]
    assert validated == [4, 8, 10]


def test_training_lowers_the_loss(config: RunConfig) -> None:
    execute(replace(config, steps=60))
    losses = [line["loss"] for line in metrics(config)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_arms_begin_with_the_same_weights_and_batch(config: RunConfig, tmp_path: Path) -> None:
    ntp = replace(config, objective="ntp", output=str(tmp_path / "ntp"))
    tube = replace(config, weight=0.5, output=str(tmp_path / "tube"))
    execute(ntp)
    execute(tube)
    assert metrics(ntp)[0]["loss"] == metrics(tube)[0]["loss"]
    assert metrics(ntp)[-1]["loss"] != metrics(tube)[-1]["loss"]
    assert "term_loss" not in metrics(ntp)[0]


def test_weight_0_is_the_other_arm_bit_for_bit(config: RunConfig, tmp_path: Path) -> None:
    ntp = replace(config, objective="ntp", output=str(tmp_path / "ntp"))
    zero = replace(config, weight=0.0, output=str(tmp_path / "zero"))
    execute(ntp)
    execute(zero)
    assert_same_weights(ntp, zero)


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_splitting_a_step_changes_nothing(
    config: RunConfig, tmp_path: Path, micro_batch_size: int
) -> None:
    # SGD-like tolerance is impossible with Adam's division by tiny second moments, so few steps.
    whole = replace(config, steps=2, weight=1.0, output=str(tmp_path / "whole"))
    split = replace(whole, micro_batch_size=micro_batch_size, output=str(tmp_path / "split"))
    execute(whole)
    execute(split)
    for a, b in zip(metrics(whole), metrics(split), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["term_loss"] == pytest.approx(a["term_loss"], rel=1e-5)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-4)


def test_a_resumed_run_equals_the_unbroken_one(config: RunConfig, tmp_path: Path) -> None:
    unbroken = replace(config, output=str(tmp_path / "unbroken"), test=config.data)
    broken = replace(config, output=str(tmp_path / "broken"), test=config.data)
    expected = execute(unbroken)

    def interrupt(line: dict[str, float]) -> None:
        if line["step"] == 6:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="after step 7"):
        execute(broken, listener=RunListener(on_step=interrupt))
    assert not (Path(broken.output) / "result.json").exists()
    result = execute(broken, resume=True)
    assert_same_weights(unbroken, broken)
    assert metrics(unbroken) == metrics(broken)
    assert result["metrics"] == expected["metrics"]
    with pytest.raises(UserError, match="is finished"):
        execute(broken, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [1, 13, 61])  # before the first checkpoint, and after some
def test_a_killed_run_resumes_to_the_same_weights(
    config: RunConfig, tmp_path: Path, num_steps: int
) -> None:
    unbroken = replace(config, steps=200, output=str(tmp_path / "unbroken"))
    killed = replace(unbroken, output=str(tmp_path / "killed"))
    execute(unbroken)
    words = ["train", "--config", f"{unbroken.output}/config.json", "--output", killed.output]
    process = subprocess.Popen([sys.executable, "-m", "semtube", *words], stdout=subprocess.DEVNULL)
    lines = Path(killed.output) / "metrics.jsonl"
    while not lines.exists() or lines.read_text().count("\n") < num_steps:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (Path(killed.output) / "result.json").exists()
    execute(killed, resume=True)
    assert_same_weights(unbroken, killed)
    assert metrics(unbroken) == metrics(killed)


def test_a_diverged_run_stops_before_the_bad_step_and_names_it(config: RunConfig) -> None:
    wild = replace(config, learning_rate=1e30, warmup_fraction=0.0)
    with pytest.raises(UserError, match=r"step 2: the .* not finite .* rows\.jsonl:\d+"):
        execute(wild)
    folder = Path(wild.output)
    assert "step 2" in json.loads((folder / "failure.json").read_text())["error"]
    assert not (folder / "result.json").exists()


def test_the_last_checkpoint_before_a_bad_batch_is_kept(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semtube.training.monitor import TrainingMonitor

    plain = TrainingMonitor._after_forward
    seen = []

    def poisoned(self: TrainingMonitor, module: object, args: object, output: object) -> None:
        seen.append(1)
        if len(seen) == 6:
            output.loss = output.loss * float("nan")  # type: ignore[attr-defined]
        plain(self, module, args, output)

    monkeypatch.setattr(TrainingMonitor, "_after_forward", poisoned)
    with pytest.raises(UserError, match="step 6: the loss is not finite"):
        execute(config)
    state = Path(config.output) / "checkpoints" / "checkpoint-4" / "trainer_state.json"
    assert json.loads(state.read_text())["global_step"] == 4
    monkeypatch.undo()
    assert execute(config, resume=True)["num_steps"] == 10
    assert not (Path(config.output) / "failure.json").exists()


@pytest.fixture
def nothing_written(config: RunConfig) -> Iterator[None]:
    yield
    assert not Path(config.output).exists()


@pytest.mark.usefixtures("nothing_written")
class TestBadInputWritesNothing:
    def test_missing_data(self, config: RunConfig) -> None:
        with pytest.raises(UserError, match="no such file"):
            execute(replace(config, data="nowhere.jsonl"))

    def test_unknown_model(self, config: RunConfig) -> None:
        with pytest.raises(UserError, match=r"did you mean the preset 'tiny-0.3m'"):
            execute(replace(config, model="tiny-3m"))

    def test_rows_that_do_not_fit(self, config: RunConfig) -> None:
        with pytest.raises(UserError, match="no row fits into max_tokens=5"):
            execute(replace(config, max_tokens=5))

    def test_a_layer_the_model_lacks(self, config: RunConfig) -> None:
        with pytest.raises(UserError, match="layer is 7, but the model has 2 layers"):
            execute(replace(config, options={"layer": 7}))

    def test_a_law_the_form_lacks(self, config: RunConfig) -> None:
        with pytest.raises(UserError, match="law is 'sequential'"):
            execute(replace(config, options={"law": "sequential"}))

    def test_a_full_disk(self, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
        with pytest.raises(WriteError, match=r"MB free .* make room"):
            execute(config)


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    plain = Trainer._save_optimizer_and_scheduler

    def full(self: Trainer, folder: str) -> None:
        if folder.endswith("checkpoint-8"):
            raise OSError(28, "No space left on device")
        plain(self, folder)

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(UserError, match=r"No space left on device.*--resume"):
        execute(config)
    monkeypatch.undo()
    assert execute(config, resume=True)["num_steps"] == 10
    assert len(metrics(config)) == 10


def test_another_runs_folder_is_refused(config: RunConfig) -> None:
    execute(config)
    before = sorted(Path(config.output).rglob("*"))
    with pytest.raises(UserError, match="holds a finished run"):
        execute(config)
    assert sorted(Path(config.output).rglob("*")) == before


def test_bf16_autocast_keeps_float32_weights(config: RunConfig) -> None:
    result = execute(replace(config, precision="bf16", steps=3))
    assert result["precision"] == "bf16"
    assert {value.dtype for value in weights(config).values()} == {torch.float32}


def test_a_smaller_fraction_is_nested_and_says_its_size(config: RunConfig, tmp_path: Path) -> None:
    half = execute(replace(config, fraction=0.5, steps=1, output=str(tmp_path / "half")))
    whole = execute(replace(config, steps=1, output=str(tmp_path / "whole")))
    assert (half["num_train_examples"], whole["num_train_examples"]) == (24, 48)
    assert half["fingerprints"] != whole["fingerprints"]
    assert half["id"] != whole["id"]


@pytest.mark.parametrize("steps", [6, 9])  # a whole number of epochs (48 rows, batch 8), and not
@pytest.mark.parametrize("objective", ["ntp", "tube"])
def test_a_run_stopped_after_its_last_step_is_finished_without_another_one(
    config: RunConfig, tmp_path: Path, steps: int, objective: str
) -> None:
    whole = replace(config, objective=objective, steps=steps, output=str(tmp_path / "whole"))
    whole = replace(whole, test=config.data)
    stopped = replace(whole, output=str(tmp_path / "stopped"))
    expected = execute(whole)

    def interrupt(num_rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        execute(stopped, listener=RunListener(on_decode_start=interrupt))
    result = execute(stopped, resume=True)
    assert result["num_steps"] == steps
    assert result["metrics"] == expected["metrics"]
    assert_same_weights(whole, stopped)
    assert metrics(whole) == metrics(stopped)


def test_a_run_is_not_resumed_on_other_data(config: RunConfig, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(Path(config.data).read_text())
    config = replace(config, data=str(rows))

    def interrupt(line: dict[str, float]) -> None:
        if line["step"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        execute(config, listener=RunListener(on_step=interrupt))
    rows.write_text("\n".join(rows.read_text().splitlines()[1:]))
    with pytest.raises(UserError, match="begun with other data or settings"):
        execute(config, resume=True)


def test_after_bf16_training_the_model_is_measured_in_float32(
    config: RunConfig, tmp_path: Path
) -> None:
    from semtube.study.evaluate import evaluate_model

    config = replace(config, precision="bf16", steps=3, test=config.data)
    result = execute(config)
    metrics, folder = evaluate_model(config.output, EvaluationOptions(data=config.data))
    assert metrics == result["metrics"]
    assert (folder / "examples.jsonl").read_text() == (
        Path(config.output) / "examples.jsonl"
    ).read_text()


def test_plain_text_rows_are_trained_and_measured_by_their_loss(
    config: RunConfig, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": f"once upon a time {i} there was"}) for i in range(16)]
    texts.write_text("\n".join(lines))
    result = execute(replace(config, data=str(texts), test=str(texts), steps=2))
    assert set(result["metrics"]) == {"loss", "tube_loss"}


def test_an_unknown_tracker_writes_nothing(config: RunConfig) -> None:
    with pytest.raises(UserError, match="report_to"):
        execute(replace(config, report_to=["nowhere"]))
    assert not Path(config.output).exists()


def test_rows_beyond_the_models_context_are_refused(config: RunConfig) -> None:
    with pytest.raises(UserError, match="max_tokens is 4000: the model takes at most 1024"):
        execute(replace(config, max_tokens=4000))
