"""A run's folder: begun once, gone on with, refused to others."""

import json

import pytest
import torch

import semtube.rhm.lab_run
import semtube.rhm.sizes
from semtube.errors import UserError
from semtube.rhm.data2vec_settings import CPU_SIZE, Data2VecSettings
from semtube.rhm.lab_run import LabRun, run_training
from semtube.rhm.slc_settings import SLCSettings

CPU = torch.device("cpu")


def test_a_run_is_begun_saved_gone_on_with_and_finished(tmp_path):
    settings = {"learner": "slc", "seed": 1, "sizes": (1, 2)}
    run = LabRun(tmp_path / "run", settings)
    assert run.result is None
    assert not (tmp_path / "run").exists()
    run.begin()
    assert run.load(CPU) is None
    run.save({"weights": torch.ones(2)}, [{"epoch": 1}])
    again = LabRun(tmp_path / "run", settings)
    again.begin()
    state = again.load(CPU)
    assert state["weights"].tolist() == [1, 1]
    assert state["metrics"] == [{"epoch": 1}]
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text()) == {"epoch": 1}
    again.finish({"accuracy": 0.5})
    assert LabRun(tmp_path / "run", settings).result == {"accuracy": 0.5}
    assert sorted(p.name for p in (tmp_path / "run").rglob("*") if p.is_file()) == [
        "config.json", "metrics.jsonl", "result.json",
    ]  # fmt: skip


def test_other_settings_and_other_files_are_refused_by_name(tmp_path):
    LabRun(tmp_path / "run", {"seed": 1, "depth": 3}).begin()
    with pytest.raises(UserError, match="holds a run with another depth, epochs: choose"):
        LabRun(tmp_path / "run", {"seed": 1, "depth": 4, "epochs": 2})
    (tmp_path / "text").write_text("")
    for path in (tmp_path, tmp_path / "text"):
        with pytest.raises(UserError, match="holds other files"):
            LabRun(path, {"seed": 1})
    with pytest.raises(UserError, match="cannot be written"):
        LabRun(tmp_path / "text" / "run", {"seed": 1}).begin()


@pytest.mark.parametrize("keep", [0, 200, -1])
def test_a_damaged_state_is_named(tmp_path, keep):
    run = LabRun(tmp_path / "run", {"seed": 1})
    run.begin()
    run.save({"weights": torch.ones(100)}, [])
    state = tmp_path / "run" / "checkpoints" / "state.pt"
    state.write_bytes(state.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"state\.pt is damaged: delete it to train anew"):
        run.load(CPU)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SLCSettings(num_strings=10**10, aggregation="sum"), r"strings of 8 tokens .* 279\.4 GiB"),
        (SLCSettings(hidden_size=10**8, aggregation="sum"), r"weights, one batch .* GiB"),
        (SLCSettings(codebook_size=10**8, aggregation="sum"), r"weights, one batch .* GiB"),
        (SLCSettings(batch_size=10**8, aggregation="sum"), r"weights, one batch .* GiB"),
        (Data2VecSettings(**CPU_SIZE | {"hidden_size": 10**6}), r"weights, one batch .* GiB"),
        (Data2VecSettings(**CPU_SIZE | {"batch_size": 10**8}), r"weights, one batch .* GiB"),
        (Data2VecSettings(**CPU_SIZE | {"num_probe": 10**8}), r"weights, one batch .* GiB"),
        (Data2VecSettings(**CPU_SIZE | {"num_test": 10**8}), r"would take .* GiB"),
        (
            SLCSettings(codebook_size=10**4, num_test=10**6, aggregation="sum"),
            r"weights, one batch .* GiB",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused_and_nothing_is_written(
    settings, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(semtube.rhm.sizes, "physical_memory", lambda: 24 * 2**30)
    monkeypatch.setattr(semtube.rhm.lab_run, "choose_device", lambda: CPU)
    with pytest.raises(UserError, match=message):
        run_training("slc", settings, pytest.fail, tmp_path / "run")
    assert not list(tmp_path.iterdir())
