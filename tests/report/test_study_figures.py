"""What the figures of a study draw: the baseline beside the weights, models side by side."""

import csv
import io
from pathlib import Path

import pytest
from study_store import Store

from semtube.report.study_cells import study_cells
from semtube.report.study_comparisons import family
from semtube.report.study_page import build_report
from semtube.report.study_reading import read_study
from semtube.statistics.intervals import t_interval

WEIGHTS = (0.02, 0.08, 0.32)


def figures(store: Store, folder: Path) -> tuple:
    report = build_report(read_study(store.write(folder)))
    return report.data, {figure.name: figure for figure in report.figures}


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory):
    """A study whose axis is the weight."""
    store = Store(axis="weight", fractions=WEIGHTS, at={"weight": 0.08}, num_steps=3)
    return figures(store, tmp_path_factory.mktemp("weighted"))


def test_the_weight_curve_has_its_baseline(weighted) -> None:
    data, found = weighted
    figure = found["accuracy_by_weight"]
    [baseline] = [row for row in figure.rows if row["what"] == "baseline"]
    [cell, *_] = [c for c in study_cells(data) if c.arm == "ntp"]
    interval = t_interval(list(cell.scores), 0.95)
    assert (baseline["arm"], baseline["weight"], baseline["seeds"]) == ("ntp", 0.0, 3)
    assert baseline["score"] == pytest.approx(100 * cell.mean)
    assert (baseline["low"], baseline["high"]) == pytest.approx(
        (100 * interval.low, 100 * interval.high)
    )
    curve = [row for row in figure.rows if row["what"] == "weight"]
    assert [(row["arm"], row["weight"]) for row in curve] == [("tube", w) for w in WEIGHTS]
    assert "band is ntp" in figure.caption
    read = list(csv.DictReader(io.StringIO(figure.csv())))
    assert {"baseline", "weight"} == {row["what"] for row in read}
    assert {"low", "high"} <= read[0].keys()


def test_the_losses_have_their_point_without_the_term(weighted) -> None:
    _, found = weighted
    figure = found["losses_by_weight"]
    at_zero = {(row["arm"], row["term"]): row["value"] for row in figure.rows if not row["weight"]}
    assert at_zero == {
        ("ntp", "next-token loss"): pytest.approx(0.2),
        ("ntp", "tube loss"): pytest.approx(1.4),
    }
    assert {row["weight"] for row in figure.rows} == {0.0, *WEIGHTS}
    assert "ntp" in figure.caption
    assert "most accurate" in figure.caption


def test_zero_stands_a_step_below_the_smallest_weight(weighted) -> None:
    _, found = weighted
    for name in ("accuracy_by_weight", "losses_by_weight"):
        axis = found[name].encoding["x"]["axis"]
        assert axis["values"] == pytest.approx([0.005, *WEIGHTS])
        assert {row["x"] for row in found[name].rows if not row["weight"]} == {axis["values"][0]}
        assert "'0'" in axis["labelExpr"]


def test_a_tuned_weight_has_its_baseline_from_the_same_rows(tmp_path: Path) -> None:
    """Validation rows beside validation rows; of several settings the most accurate."""
    data, found = figures(Store(weights={"tube": list(WEIGHTS)}, num_steps=3), tmp_path)
    rows = found["accuracy_by_weight"].rows
    assert {row["split"] for row in rows} == {"validation"}
    [baseline] = [row for row in rows if row["what"] == "baseline"]
    [choice] = data.choices["ntp"]
    assert baseline["score"] == pytest.approx(100 * max(t["score"] for t in choice["trials"]))
    assert (baseline["seeds"], baseline["low"]) == (1, None)
    assert "has no interval" in found["accuracy_by_weight"].caption


def test_bars_of_several_models_stand_side_by_side(tmp_path: Path) -> None:
    models = ("tiny-0.3m", "tiny-2m")
    data, found = figures(Store(axis="model", fractions=models, at={}, num_steps=3), tmp_path)
    figure = found["arms"]
    assert not figure.params, "no list to choose a model from"
    assert figure.encoding["y"]["sort"] == list(models)
    assert figure.encoding["yOffset"]["field"] == "arm"
    assert [(row["group"], row["arm"]) for row in figure.rows] == [
        (model, arm) for model in models for arm in ("ntp", "tube")
    ]
    scores = [row["score"] for row in figure.rows]
    assert scores == pytest.approx([100 * cell.mean for cell in study_cells(data)])


@pytest.mark.parametrize(
    ("models", "groups"),
    [(("a/small", "b/large"), ["small", "large"]), (("a/x", "b/x"), ["a/x", "b/x"])],
)
def test_models_are_named_as_short_as_they_are_told_apart(tmp_path, models, groups) -> None:
    _, found = figures(Store(axis="model", fractions=models, at={}, num_steps=3), tmp_path)
    assert found["arms"].encoding["y"]["sort"] == groups


def test_bars_of_one_model_are_by_arm(tmp_path: Path) -> None:
    _, found = figures(Store(num_steps=3), tmp_path)
    figure = found["arms"]
    assert figure.encoding["y"]["field"] == "arm"
    assert [param["bind"]["options"] for param in figure.params] == [
        ["fraction 0.125", "fraction 1"]
    ]


def test_differences_say_equivalent_as_the_test_does(tmp_path: Path) -> None:
    """The 95 % bar may leave the margin where the 90 % interval, which decides, does not."""
    store = Store(gains={"ntp": 0.0, "tube": 0.0}, seeds=range(6), noise=0.01, margin=0.02,
                  num_rows=400, num_steps=3)  # fmt: skip
    data, found = figures(store, tmp_path)
    figure = found["differences"]
    words = {True: "yes", False: "not shown"}
    assert [row["equivalent"] for row in figure.rows] == [
        words[c.is_equivalent] for c in family(data)
    ]
    assert "equivalent" in figure.csv().splitlines()[0]
    assert "90 % interval" in figure.caption
