"""A run's folder: begun once, gone on with, refused to others."""

import json

import pytest
import torch

from semtube.errors import UserError
from semtube.rhm.lab_run import LabRun

CPU = torch.device("cpu")


def test_a_run_is_begun_saved_gone_on_with_and_finished(tmp_path):
    settings = {"learner": "slc", "seed": 1, "sizes": (1, 2)}
    run = LabRun(tmp_path / "run", settings)
    assert run.result is None
    assert run.load(CPU) is None
    run.save({"weights": torch.ones(2)}, [{"epoch": 1}])
    again = LabRun(tmp_path / "run", settings)
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
    LabRun(tmp_path / "run", {"seed": 1, "depth": 3})
    with pytest.raises(UserError, match="holds a run with another depth, epochs: choose"):
        LabRun(tmp_path / "run", {"seed": 1, "depth": 4, "epochs": 2})
    (tmp_path / "text").write_text("")
    for path in (tmp_path, tmp_path / "text"):
        with pytest.raises(UserError, match="holds other files"):
            LabRun(path, {"seed": 1})
    with pytest.raises(UserError, match="cannot be written"):
        LabRun(tmp_path / "text" / "run", {"seed": 1})
