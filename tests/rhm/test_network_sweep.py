"""The cells of the networks' figures: whole, distinct, and run in folders of their own."""

from functools import partial

import pytest

from semtube.rhm.data2vec_settings import Data2VecSettings
from semtube.rhm.network_sweep import ARMS_WEIGHT, FIGURE_GROUPS, GROUPS, run_network_cell
from semtube.rhm.slc_settings import ARMS, SLCSettings
from semtube.rhm.sweeps import run_sweep


@pytest.mark.parametrize("size", ["small", "paper"])
@pytest.mark.parametrize("name", GROUPS)
def test_cells_are_distinct_and_are_whole_settings(name, size):
    cells = GROUPS[name](size, 5)
    assert all(cells.count(cell) == 1 for cell in cells)
    for cell in cells:
        kind = SLCSettings if cell["learner"] == "slc" else Data2VecSettings
        values = {key: value for key, value in cell.items() if key != "learner"}
        settings = kind(**values)
        assert set(values) == set(kind.__dataclass_fields__)
        assert settings.seed >= 5


def test_every_figure_has_its_group():
    assert set(FIGURE_GROUPS) == {"3", "4", "5", "9", "10", "11", "12", "13", "14"}
    assert set(FIGURE_GROUPS.values()) <= set(GROUPS)


def test_the_papers_grids():
    depths = GROUPS["depths"]("paper", 0)
    assert {cell["depth"] for cell in depths} == {3, 4, 5, 6, 7}
    counts = sorted({cell["num_strings"] for cell in depths})
    assert (len(counts), counts[0], counts[-1]) == (13, 3000, 32_000)
    assert {(c["hidden_size"], c["aggregation"], c["epochs"]) for c in depths} == {
        (150, "upgrad", 30)
    }
    online = GROUPS["online"]("paper", 0)
    seen = {cell["num_synonyms"]: cell["steps"] * cell["batch_size"] for cell in online}
    assert seen == {3: 2**25, 4: 2**25, 5: 2**27, 6: 2**27, 7: 2**27}
    offline = GROUPS["offline"]("paper", 0)
    assert {cell["objective"] for cell in offline} == {
        "data2vec", "stacked", "masked_token", "next_token",
    }  # fmt: skip
    assert {cell["num_strings"] for cell in offline} == {1000, 3000, 10_000, 30_000}


@pytest.mark.parametrize("size", ["small", "paper"])
def test_arms_differ_in_the_arm_alone(size):
    cells = GROUPS["arms"](size, 0)
    by_arm = {}
    for cell in cells:
        by_arm.setdefault(cell["arm"], []).append({k: v for k, v in cell.items() if k != "arm"})
    assert set(by_arm) == set(ARMS)
    assert all(arm == by_arm["ema"] for arm in by_arm.values())


@pytest.mark.parametrize("size", ["small", "paper"])
def test_the_weights_that_are_compared_hold_the_arms_own_and_both_readings(size):
    """1, the equations as printed; and s (s - 1) D, a mean over the terms of a prediction loss."""
    terms = {"small": 2 * 1 * 16 * 4, "paper": 3 * 2 * 128}[size]
    arms, compared = GROUPS["arms"](size, 0), GROUPS["clustering_weights"](size, 0)
    weights = {cell["clustering_weight"] for cell in compared}
    assert {1, terms, ARMS_WEIGHT[size]} <= weights
    assert {cell["clustering_weight"] for cell in arms} == {ARMS_WEIGHT[size]}
    if size == "small":
        assert [cell for cell in compared if cell["clustering_weight"] == terms] == [
            cell for cell in arms if cell["num_strings"] == 4096
        ]


def test_cells_run_in_folders_of_their_own_and_once(tmp_path):
    tiny = {
        "num_features": 4, "num_synonyms": 2, "depth": 2, "num_strings": 40, "hidden_size": 8,
        "epochs": 2, "aggregation": "sum", "num_validation": 30, "num_test": 30,
    }  # fmt: skip
    tiny_encoder = {
        "num_features": 4, "num_synonyms": 2, "depth": 2, "steps": 3, "batch_size": 8,
        "hidden_size": 8, "num_layers": 2, "num_heads": 2, "feed_forward_size": 8, "num_top": 1,
        "num_evaluations": 1, "probe_steps": 5, "num_probe": 30, "num_validation": 30,
        "num_test": 30,
    }  # fmt: skip
    cells = [{"learner": "slc", **tiny, "seed": k} for k in (0, 1)]
    cells.append({"learner": "data2vec", **tiny_encoder})
    run = partial(run_network_cell, folder=tmp_path)
    rows = run_sweep(cells, tmp_path, run)
    assert [len(row["metrics"]) for row in rows] == [2, 2, 2]
    assert rows[0]["result"] != rows[1]["result"]
    assert len(list(tmp_path.glob("*/result.json"))) == 3
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/result.json")}
    assert run_sweep(cells, tmp_path, run) == rows
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/result.json")} == stamps
