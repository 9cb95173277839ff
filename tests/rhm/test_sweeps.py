"""Sweeps: stored cell by cell, resumed with the same numbers, the same in any order."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import semtube.rhm.sizes
from semtube.errors import UserError
from semtube.rhm.ilc import LatentClustering
from semtube.rhm.ilc_sweep import (
    crossings,
    doubling_grid,
    figure_3_cells,
    ilc_cells,
    run_ilc_cell,
    threshold_grid,
)
from semtube.rhm.sweeps import cell_generator, cell_path, run_sweep, write_rows

SIZES = dict(num_features=8, num_synonyms=3, branching=2, depth=3)


def cells(**changes):
    settings = SIZES | dict(num_strings=[100, 400], num_grammars=3, seed=5) | changes
    return ilc_cells(LatentClustering("latent"), **settings)


def accuracies(rows):
    return {(row["num_strings"], row["grammar"]): row["accuracy"] for row in rows}


def test_a_generator_is_a_function_of_its_arguments():
    first = cell_generator(1, "strings", a=2, b=3).random(4)
    assert (first == cell_generator(1, "strings", b=3, a=2).random(4)).all()
    others = [(2, "strings", 2), (1, "grammar", 2), (1, "strings", 4)]
    for seed, part, a in others:
        assert (first != cell_generator(seed, part, a=a, b=3).random(4)).all()


def test_an_interrupted_sweep_goes_on_with_the_same_numbers(tmp_path):
    whole = run_sweep(cells(), tmp_path / "whole", run_ilc_cell)
    calls = []

    def interrupted(cell):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(cell)
        return run_ilc_cell(cell)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(cells()[::-1], tmp_path / "broken", interrupted)
    assert len(list((tmp_path / "broken").glob("*.json"))) == 2
    ran, told = [], []

    def counted(cell):
        ran.append(cell)
        return run_ilc_cell(cell)

    resumed = run_sweep(
        cells(), tmp_path / "broken", counted, on_cell=lambda cell, result: told.append(cell)
    )
    assert len(ran) == 4
    assert len(told) == 6
    assert accuracies(resumed) == accuracies(whole)
    assert [row["num_strings"] for row in resumed] == [cell["num_strings"] for cell in cells()]


def test_processes_store_what_they_ran_and_keep_the_order(tmp_path):
    work = [{"place": place} for place in range(4)]
    # dict is a function that a new process can find: the result is the cell itself.
    rows = run_sweep(work, tmp_path, dict, num_workers=2)
    assert rows == work
    assert all(cell_path(tmp_path, cell).is_file() for cell in work)


INTERRUPTED = """
import sys, time
from pathlib import Path
from semtube.rhm.sweeps import run_sweep

def wait(cell):
    Path(sys.argv[1], f"begun_{cell['place']}").touch()
    time.sleep(60)
    return {}

if __name__ == "__main__":
    cells = [{"place": place} for place in range(8)]
    try:
        run_sweep(cells, Path(sys.argv[1], "cells"), wait, num_workers=2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_a_terminals_interrupt_ends_every_process_at_once(tmp_path):
    script = tmp_path / "sweep.py"
    script.write_text(INTERRUPTED)
    # A terminal signals the whole group; a shell's background jobs would ignore the signal.
    process = subprocess.Popen(
        [sys.executable, script, tmp_path], start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        while len(list(tmp_path.glob("begun_*"))) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=40) == 130
    finally:
        process.kill()
        process.wait()
    assert not list((tmp_path / "cells").iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "text").write_text("")
    with pytest.raises(UserError, match="text/cells cannot be written"):
        run_sweep([], tmp_path / "text" / "cells", dict)


@pytest.mark.slow
def test_two_processes_give_the_same_numbers(tmp_path):
    one = run_sweep(cells(num_grammars=1), tmp_path / "one", run_ilc_cell)
    two = run_sweep(cells(num_grammars=1), tmp_path / "two", run_ilc_cell, num_workers=2)
    assert accuracies(one) == accuracies(two)


def test_strings_and_grammars_do_not_depend_on_the_target(tmp_path, monkeypatch):
    import semtube.rhm.ilc_sweep as module

    seen = []
    original = module.hungarian_accuracy

    def spy(codes, truth, **sizes):
        seen.append(truth.tobytes())
        return original(codes, truth, **sizes)

    monkeypatch.setattr(module, "hungarian_accuracy", spy)
    for target in ("latent", "token", "root"):
        run_ilc_cell(ilc_cells(
            LatentClustering(target), **SIZES, num_strings=[100], num_grammars=1, seed=5
        )[0])  # fmt: skip
    assert len(seen) == 6
    assert seen[:2] == seen[2:4] == seen[4:]


def test_a_file_that_was_tampered_with_is_named(tmp_path):
    work = cells()[:1]
    run_sweep(work, tmp_path, run_ilc_cell)
    path = cell_path(tmp_path, work[0])
    stored = json.loads(path.read_text())
    stored["cell"]["num_strings"] = 99
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError, match="does not hold the cell it is named for"):
        run_sweep(work, tmp_path, run_ilc_cell)
    path.write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        run_sweep(work, tmp_path, run_ilc_cell)


def test_a_failing_cell_is_named(tmp_path):
    work = [{"place": 3, "seed": 0}]

    def fail(cell):
        raise UserError("only 3 tuples occur")

    with pytest.raises(UserError, match=r"only 3 tuples occur \(in the cell place 3, seed 0\)"):
        run_sweep(work, tmp_path, fail)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_synonyms": 9}, "num_synonyms is 9"),
        ({"num_synonyms": 8}, "f = 1"),
        ({"depth": 1}, "depth is 1: at least 2"),
        ({"num_grammars": 0}, "num_grammars is 0"),
        ({"num_strings": [4, 100]}, "num_strings 4: at least num_features, 8"),
        ({"num_strings": []}, "num_strings is empty"),
    ],
)
def test_impossible_sweeps_are_refused_before_they_begin(changes, message):
    with pytest.raises(UserError, match=message):
        cells(**changes)


def test_a_learner_without_restarts_is_refused():
    settings = SIZES | dict(num_strings=[100], num_grammars=1, seed=5)
    with pytest.raises(UserError, match="num_restarts is 0: at least 1"):
        ilc_cells(LatentClustering("latent", num_restarts=0), **settings)


def test_a_sweep_whose_largest_cell_does_not_fit_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(semtube.rhm.sizes, "physical_memory", lambda: 10**6)
    with pytest.raises(UserError, match="1,000,000 strings of 8 tokens"):
        cells(num_strings=[100, 10**6])


def test_the_grid_surrounds_theory_and_never_falls_below_v():
    grid = threshold_grid("latent", 16, 4, 5)
    assert len(grid) == 14
    assert (grid[0], grid[4], grid[-1]) == (256, 1024, round(256 * 2**6.5))
    assert threshold_grid("token", 16, 4, 3)[0] == 512
    assert threshold_grid("root", 16, 2, 2)[0] == 16


def test_the_doubling_grid_covers_every_target():
    sizes = dict(num_features=16, num_synonyms=4, branching=2, depth=4)
    assert doubling_grid(["latent"], **sizes) == [256, 512, 1024, 2048, 4096]
    assert doubling_grid(["latent", "token"], **sizes)[-1] == 65536
    with pytest.raises(UserError, match="depth is 1"):
        doubling_grid(["token"], **(sizes | {"depth": 1}))


def test_crossings_by_grammar():
    rows = [
        {"grammar": g, "num_strings": p, "accuracy": [1.0, a]}
        for g, curve in enumerate([(0.1, 0.4, 0.6), (0.6, 0.7, 0.8), (0.1, 0.1, 0.1)])
        for p, a in zip((100, 200, 800), curve, strict=True)
    ]
    found = crossings(rows, 0.5)
    assert found[0] == pytest.approx(400)
    assert found[1:] == [100, float("inf")]
    assert crossings(rows, 0.5, level=0) == [100, 100, 100]


def test_the_paper_s_grid():
    grid = figure_3_cells("small")
    assert {cell["num_synonyms"] for cell in grid} == {6, 8, 12}
    assert len(grid) == 3 * 11 * 3


def test_rows_as_csv(tmp_path):
    rows = [
        {"target": "latent", "accuracy": [0.5, 1.0], "degeneracies": []},
        {"target": "token", "accuracy": [0.25], "degeneracies": ["a", "b"]},
    ]
    write_rows(rows, tmp_path / "rows.csv")
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert lines[0] == "target,accuracy_1,accuracy_2,degeneracies"
    assert lines[1:] == ["latent,0.5,1.0,", "token,0.25,,a; b"]
