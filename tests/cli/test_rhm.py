"""`semtube rhm` as a person meets it."""

import csv
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from semtube.cli.rhm import run as run_rhm
from semtube.cli.rhm_figures import FIGURES
from semtube.cli.rhm_networks import _network_settings, data2vec_parser
from semtube.errors import UserError
from semtube.rhm import ilc_sweep
from semtube.rhm.data2vec_settings import CPU_SIZE, Data2VecSettings
from semtube.rhm.grammar import Grammar
from semtube.rhm.slc_settings import SLCSettings

SMALL = ["--num_features", "8", "--num_synonyms", "2", "--depth", "3"]


@pytest.mark.parametrize(
    "words", [["--help"], ["sample", "--help"], ["ilc", "--help"], ["slc", "--help"],
              ["data2vec", "--help"], ["figure", "--help"], ["all", "--help"]],
)  # fmt: skip
def test_help_loads_no_torch(words):
    code = (
        "import sys\nfrom semtube.cli.rhm import run\n"
        "try: run(sys.argv[1:])\nexcept SystemExit: pass\n"
        "sys.exit(bool({'torch', 'sklearn', 'altair'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: semtube rhm" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smaple"], "no action 'smaple': did you mean 'sample'"),
        (["figure", "2"], "no figure '2': use one of 3, "),
        (["figure", "9", "--networks", "false"], "figure 9 shows networks alone"),
        (["figure", "4", "--results", "nowhere.json"], r"nowhere\.json: no such file"),
        (["figure", "treshold"], "no figure 'treshold': did you mean 'thresholds'"),
        (["ilc", "--output", "x", "--num_synonyms", "17"],
         "num_synonyms is 17: with num_features 16 and branching 2 a symbol has at most 16"),
        (["ilc", "--output", "x", "--num_synonyms", "16"], "f = 1.*nothing can be learned"),
        (["ilc", "--output", "x", "--num_strings", "5"], "at least num_features, 16"),
        (["ilc", "--output", "x", "--depth", "1"], "depth is 1: at least 2"),
        (["ilc", "--output", "x", "--workers", "0"], "workers is 0"),
        (["ilc", "--output", "x", "--num_restarts", "0"], "num_restarts is 0"),
        (["ilc", "--output", "x", "--num_strings", "999999999999"], "would take .* GiB"),
        (["ilc", "--output", "x", "--targets", "token"], "did you mean '--target'"),
        (["sample", "--output", "x.txt"], r"must end in \.npz"),
        (["sample", "--output", "x.npz", "--num_strings", "999999999999"], "would take .* GiB"),
        (["sample", "--output", "/dev/null/x.npz"], "x.npz cannot be written"),
        (["slc", "--output", "x", "--epochs", "0"], "epochs is 0"),
        (["slc", "--output", "x", "--depth", "30"], "would take .* GiB"),
        (["data2vec", "--output", "x", "--hidden_size", "10000000"], "would take .* GiB"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence_and_nothing_is_written(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        run_rhm(words)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_sampled_strings_are_those_of_the_stored_rules(tmp_path, capsys):
    path = tmp_path / "new" / "strings.npz"
    assert run_rhm(["sample", "--output", str(path), "--num_strings", "50", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "50 of 1,024 strings of 8 tokens" in out
    assert "f = 0.25" in out
    stored = np.load(path)
    grammar = Grammar(8, 2, 2, 3, tuple(stored["rules"]))
    for level, symbols in enumerate(grammar.parse(stored["level_0"])):
        np.testing.assert_array_equal(symbols, stored[f"level_{level}"])
    assert [p.name for p in path.parent.iterdir()] == ["strings.npz"]
    with pytest.raises(UserError, match="is there already"):
        run_rhm(["sample", "--output", str(path)])
    words = ["sample", "--output", str(tmp_path / "f1.npz"), "--num_features", "4"]
    assert run_rhm([*words, "--num_synonyms", "4", "--depth", "2"]) == 0
    out = capsys.readouterr().out
    assert "At f = 1 all strings are equally likely" in out
    assert "degenerate" not in out


def test_long_lists_of_faults_are_cut(tmp_path, capsys):
    # One tuple for each of 16 symbols: many never occur.
    words = ["sample", "--output", str(tmp_path / "s.npz"), "--num_synonyms", "1"]
    assert run_rhm(words) == 0
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("degenerate")]
    assert len(lines) == 11
    assert lines[0].endswith("never occurs")
    assert lines[-1].endswith(" more")


@pytest.mark.parametrize(
    "text",
    ['{"cells": []}', '{"cells": [{"a": 1}]}', '{"results": []}', '{"results": {"a": 1}}'],
)
def test_damaged_result_files_are_named(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"results\.json is damaged: its (cells|results) must be"):
        run_rhm(["figure", "9", "--output", str(tmp_path / "x"), "--results", str(path)])
    assert not (tmp_path / "x").exists()


def test_names_of_folders_are_printed_as_they_are(tmp_path, capsys):
    folder = tmp_path / "[red]run"
    words = ["ilc", "--output", str(folder), *SMALL, "--num_strings", "64", "--num_grammars", "1"]
    assert run_rhm(words) == 0
    assert f"{folder}: curves.png" in capsys.readouterr().out


def test_clustering_compares_targets_and_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "ilc"
    words = ["ilc", "--output", str(folder), *SMALL, "--num_strings", "64", "512"]
    words += ["--num_grammars", "2", "--target", "latent", "root"]
    assert run_rhm(words) == 0
    out = capsys.readouterr().out
    assert "latent" in out
    assert "root" in out
    assert "512" in out
    names = {path.name for path in folder.iterdir()}
    assert names == {"cells", "cells.csv", "curves.csv", "curves.png", "curves.svg"}
    cells = sorted((folder / "cells").iterdir())
    assert len(cells) == 8
    assert len((folder / "cells.csv").read_text().splitlines()) == 9
    # Again, without clustering anything: only what is missing is run, with the same numbers.
    before = json.loads(cells[0].read_text())
    cells[0].unlink()
    assert run_rhm(words) == 0
    after = json.loads(cells[0].read_text())
    assert after["result"]["accuracy"] == before["result"]["accuracy"]

    def explode(cell):
        raise AssertionError(cell)

    monkeypatch.setattr("semtube.rhm.ilc_sweep.run_ilc_cell", explode)
    assert run_rhm(words) == 0


def test_an_interrupt_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupt(cell):
        raise KeyboardInterrupt

    monkeypatch.setattr("semtube.rhm.ilc_sweep.run_ilc_cell", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_rhm(["ilc", "--output", str(tmp_path / "ilc"), *SMALL, "--num_strings", "64"])
    assert "the same command goes on" in " ".join(capsys.readouterr().out.split())


def test_figures_3_and_11_share_their_cells(tmp_path, capsys, monkeypatch):
    def two_points(size, *, seed):
        return [c for c in full(size, seed=seed) if c["num_strings"] <= 864 and c["grammar"] == 0]

    full = ilc_sweep.figure_3_cells
    monkeypatch.setattr(ilc_sweep, "figure_3_cells", two_points)
    for name in ("3", "figure_11"):
        assert run_rhm(["figure", name, "--output", str(tmp_path), "--networks", "false"]) == 0
        # The second finds all its cells.
        monkeypatch.setattr(ilc_sweep, "run_ilc_cell", None)
    names = {path.name for path in tmp_path.iterdir()}
    kinds = ("png", "svg", "csv")
    assert names == {"cells", *(f"figure_{n}_small.{k}" for n in ("3", "11") for k in kinds)}
    assert str(tmp_path) in capsys.readouterr().out.replace("\n", "")


def test_every_figure_of_a_network_has_its_runs_and_its_drawing():
    from semtube.report.rhm_networks import NETWORK_FIGURES
    from semtube.rhm.network_sweep import FIGURE_GROUPS

    assert set(FIGURES) == {*NETWORK_FIGURES, "3", "11", "thresholds"}
    assert set(FIGURE_GROUPS) == set(FIGURES) - {"thresholds"}


def test_figures_are_drawn_from_the_studies_results(tmp_path):
    root = Path(__file__).parents[2] / "results"
    for name, file in (("thresholds", "rhm_ilc.json"), ("12", "rhm_networks.json")):
        if not (root / file).is_file():
            pytest.skip(f"{file} is not there")
        words = ["figure", name, "--output", str(tmp_path), "--results", str(root / file)]
        assert run_rhm(words) == 0
        assert (tmp_path / f"figure_{name}_small.png").is_file()
    assert not (tmp_path / "cells").exists()
    other = tmp_path / "other.json"
    other.write_text("[]")
    with pytest.raises(UserError, match="no result file of a study of the lab"):
        run_rhm(["figure", "12", "--results", str(other)])


def test_a_result_file_of_another_version_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "old.json"
    cell = asdict(SLCSettings(aggregation="sum")) | {"learner": "slc", "result": {}, "metrics": []}
    del cell["clustering_weight"]
    path.write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(UserError, match="cells of slc without clustering_weight: it is damaged"):
        run_rhm(["figure", "12", "--results", str(path), "--output", str(tmp_path / "out")])
    path.write_text(json.dumps({"cells": [cell | {"learner": "slk"}]}))
    with pytest.raises(UserError, match="there is no learner 'slk'"):
        run_rhm(["figure", "12", "--results", str(path)])
    assert not (tmp_path / "out").exists()


def test_a_network_is_trained_and_not_again(tmp_path, capsys):
    words = ["slc", "--output", str(tmp_path / "slc"), *SMALL, "--num_strings", "32"]
    words += ["--epochs", "1", "--num_validation", "16", "--num_test", "16"]
    words += ["--aggregation", "sum"]
    assert run_rhm(words) == 0
    assert "epoch 1  training loss" in capsys.readouterr().out
    with (tmp_path / "slc" / "curves.csv").open() as file:
        points = list(csv.DictReader(file))
    assert {(p["series"], p["x"]) for p in points} == {("module 1", "1"), ("module 2", "1")}
    assert (tmp_path / "slc" / "curves.png").is_file()
    assert run_rhm(words) == 0
    assert "epoch 1" not in capsys.readouterr().out
    with pytest.raises(UserError, match="holds a run with another epochs"):
        run_rhm([*words, "--epochs", "2"])


def test_the_size_of_an_encoder_sets_the_other_defaults():
    for size, hidden in (("small", CPU_SIZE["hidden_size"]), ("paper", 2048)):
        parser = data2vec_parser(size)
        options = parser.parse_args(["--output", "x", "--size", size, "--num_layers", "3"])
        settings, folder = _network_settings(parser, Data2VecSettings, ["--output", "x"])
        assert (options.hidden_size, options.num_layers) == (hidden, 3)
        assert (settings.hidden_size, folder) == (hidden, Path("x"))
