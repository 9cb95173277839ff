"""The networks' figures from results made up by hand: what is drawn is what was found."""

import csv

import pytest

from semtube.errors import UserError
from semtube.report.network_run import draw_network_run
from semtube.report.rhm_encoders import PAPER_ONLINE_ENDS
from semtube.report.rhm_networks import NETWORK_FIGURES, draw_network_figure, slc_curve_rows
from semtube.rhm.network_sweep import GROUPS


def slc_row(cell, accuracy):
    metrics = [
        {"epoch": k, "accuracy": [0.1 * k] * (cell["depth"] - 1),
         "prediction_loss_nats": [4.0 - k] * (cell["depth"] - 1)}
        for k in (1, 2, 3)
    ]  # fmt: skip
    result = {
        "root_accuracy": {"linear": accuracy - 0.1, "mlp": accuracy},
        "test": {"accuracy": [0.9] * (cell["depth"] - 2) + [accuracy - 0.2]},
    }
    return {**cell, "result": result, "metrics": metrics}


def line(step, cell, value):
    levels = cell["depth"]
    return {
        "step": step, "num_strings_seen": step * cell["batch_size"], "root_mlp": value,
        "root_linear": value - 0.05, "level_linear": [value] * levels,
        "synonym_scores": [[value / 2 + block / 100 for block in range(4)]] * levels,
    }  # fmt: skip


def encoder_row(cell):
    metrics = [line(0, cell, 0.2), line(100, cell, 0.3), line(3000, cell, 0.6)]
    result = {"initial": metrics[0], "best": metrics[2], "final": metrics[2]}
    return {**cell, "result": result, "metrics": metrics}


@pytest.fixture(scope="module")
def rows():
    cells = []
    # The weights first: the one with most runs is to be drawn, not the first.
    for name in ("clustering_weights", "depths", "arms", "synonyms", "control", "aggregation"):
        cells += [cell for cell in GROUPS[name]("small", 0) if cell not in cells]
    # Runs of another kind have other numbers: no figure may mix them.
    made = [
        slc_row(cell, 0.8 + 0.1 * cell["seed"] - 0.3 * (cell["num_synonyms"] == 3)
                - 0.4 * (cell["aggregation"] == "upgrad")
                + {64.0: 0, 128.0: -0.01}.get(cell["clustering_weight"], -0.2))
        for cell in cells
    ]  # fmt: skip
    for name in ("online", "offline"):
        made += [encoder_row(cell) for cell in GROUPS[name]("small", 0)]
    return made


@pytest.fixture(scope="module")
def drawn(rows, tmp_path_factory):
    """Every figure, drawn once: its name -> the lines of its CSV."""
    points = {}
    for name in NETWORK_FIGURES:
        stem = tmp_path_factory.mktemp("figures") / "figure"
        draw_network_figure(name, rows, stem)
        assert stem.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
        with stem.with_suffix(".csv").open() as file:
            points[name] = list(csv.DictReader(file))
    return points


def of(points, **wanted):
    return [p for p in points if all(p[k] == v for k, v in wanted.items())]


@pytest.mark.parametrize("name", NETWORK_FIGURES)
def test_every_figure_is_drawn_with_the_papers_numbers_beside_ours(name, drawn):
    points = drawn[name]
    assert {p["source"] for p in points} == {"ours", "paper"}


def test_figure_12_has_means_and_extremes_over_seeds_against_p_over_vm3(drawn):
    points = drawn["12"]
    ours = of(points, source="ours", panel="Root, MLP probe", series="L = 4")
    assert [float(p["x"]) for p in ours] == [0.5, 2, 4]
    for p in ours:
        assert [float(p[k]) for k in ("y", "low", "high")] == pytest.approx([0.85, 0.8, 0.9])
    paper = of(points, source="paper", series="L = 7")
    assert [float(p["y"]) for p in paper] == [0.18, 0.65, 0.84, 0.98]
    assert float(paper[0]["x"]) == pytest.approx(4451 / 8192, rel=1e-4)


def test_figure_9_has_an_arm_a_curve_and_leaves_the_token_control_out(drawn, rows, tmp_path):
    points = drawn["9"]
    ours = of(points, source="ours", panel="Root, linear probe")
    assert len({p["series"] for p in ours}) == 4
    assert all(float(p["y"]) == pytest.approx(0.74) for p in ours)
    assert {float(p["x"]) for p in ours} == {0.5, 4}
    assert {p["series"] for p in of(points, source="paper")} == {p["series"] for p in ours}
    control = [row | {"arm": "ema"} for row in rows if row.get("target") == "token"]
    assert control
    with pytest.raises(UserError, match="figure 9"):
        draw_network_figure("9", control, tmp_path / "none")


def test_figure_10_is_of_the_deepest_run_with_most_strings(drawn):
    points = drawn["10"]
    ours = of(points, source="ours", panel="Level l, found by module l")
    assert {p["series"] for p in ours} == {"module 1", "module 2", "module 3"}
    assert [float(p["y"]) for p in of(ours, series="module 3")] == pytest.approx([0.1, 0.2, 0.3])
    losses = of(points, panel="Level l - 1, predicted by module l")
    assert {p["series"] for p in losses} == {"module 1", "module 2", "module 3"}


def test_online_figures_follow_the_strings_seen(drawn):
    points = drawn["4"]
    ours = of(points, source="ours", series="m = 4")
    values, gains = (
        of(ours, panel=panel) for panel in ("Root, MLP probe", "Less the untrained encoder's")
    )
    for curve in (values, gains):
        assert [float(p["x"]) for p in curve] == [100 * 128 / 512, 3000 * 128 / 512]
    assert [float(p["y"]) for p in values] == [0.3, 0.6]
    assert [float(p["y"]) for p in gains] == pytest.approx([0.1, 0.4])
    paper = of(points, source="paper", series="m = 7")[0]
    assert float(paper["x"]) == pytest.approx(6e7 / (16 * 343), rel=1e-4)
    scores = of(drawn["5"], source="ours", series="level 2")
    assert [float(p["y"]) for p in scores] == pytest.approx([0.17, 0.32])
    end = of(drawn["5"], source="paper", series="level 2")[0]
    assert float(end["x"]) == pytest.approx(2**25 / (16 * 4**3))
    assert PAPER_ONLINE_ENDS[7] == pytest.approx(2**27 / (16 * 7**3))


def test_online_runs_of_several_m_are_curves_of_their_own(rows, tmp_path):
    run = next(row for row in rows if row["learner"] == "data2vec" and row["num_strings"] is None)
    runs = []
    for m in (7, 3, 4, 5, 6):
        initial = run["result"]["initial"] | {"root_mlp": m / 100}
        runs.append(run | {"num_synonyms": m, "result": run["result"] | {"initial": initial}})
    curves = {}
    for name in ("4", "5"):
        draw_network_figure(name, runs, tmp_path / name)
        with (tmp_path / name).with_suffix(".csv").open() as file:
            ours = of(list(csv.DictReader(file)), source="ours")
        curves[name] = {(p["panel"], p["series"]) for p in ours}
        for panel, series in curves[name]:
            found = of(ours, panel=panel, series=series)
            assert len(found) == 2
            if panel == "Less the untrained encoder's":
                start = int(series.removeprefix("m = ")) / 100
                assert [float(p["y"]) for p in found] == pytest.approx([0.3 - start, 0.6 - start])
    assert len(curves["4"]) == 2 * 5
    assert len(curves["5"]) == 5 * 3


def test_a_run_of_an_encoder_is_drawn_from_its_untrained_state_on(rows, tmp_path):
    run = next(row for row in rows if row["learner"] == "data2vec")
    draw_network_run(run, tmp_path / "curves")
    with (tmp_path / "curves.csv").open() as file:
        points = list(csv.DictReader(file))
    root = of(points, panel="Root", series="MLP probe")
    assert [(float(p["x"]), float(p["y"])) for p in root] == [
        (0, 0.2), (100 * run["batch_size"], 0.3), (3000 * run["batch_size"], 0.6),
    ]  # fmt: skip
    levels = {p["series"] for p in of(points, panel="Levels, linear probe of the target")}
    assert levels == {f"level {level}" for level in range(1, run["depth"] + 1)}


def test_figure_14_has_every_objective_and_every_untrained_encoder(drawn):
    ours = of(drawn["14"], source="ours", panel="Root, MLP probe")
    values = {p["series"]: float(p["y"]) for p in ours}
    assert values == {
        "data2vec": 0.6, "data2vec, stacked": 0.6, "masked token": 0.6, "next token": 0.6,
        "data2vec, untrained": 0.2, "data2vec, stacked, untrained": 0.2,
        "next token, untrained": 0.2,
    }  # fmt: skip


def test_unknown_figures_and_missing_runs_are_refused(rows, tmp_path):
    with pytest.raises(UserError, match="no figure '7': use one of 4, 5, 9"):
        draw_network_figure("7", rows, tmp_path / "figure")
    slc = [row for row in rows if row["learner"] == "slc"]
    with pytest.raises(UserError, match=r"figure 14 .* none of the \d+ runs"):
        draw_network_figure("14", slc, tmp_path / "figure")
    assert not list(tmp_path.iterdir())


def test_curves_of_figures_3_and_11_are_of_one_depth_and_several_numbers_of_rules(rows):
    curves = slc_curve_rows(rows)
    assert {(row["num_synonyms"], row["depth"]) for row in curves} == {(3, 3), (4, 3)}
    assert len(curves) == len(GROUPS["synonyms"]("small", 0))
    assert {row["accuracy"] for row in curves if row["num_synonyms"] == 4} == {0.8, 0.9}
    assert set(curves[0]) == {
        "num_features", "num_synonyms", "branching", "depth", "num_strings", "grammar", "accuracy",
    }  # fmt: skip
    assert slc_curve_rows([row for row in rows if row["learner"] == "data2vec"]) == []
