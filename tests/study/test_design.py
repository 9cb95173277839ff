"""A study file is checked whole before anything runs."""

from pathlib import Path

import pytest
from small_study import STUDY, changed

from semtube.errors import UserError
from semtube.study.design import Tuning, nearest
from semtube.study.study_file import load_study


def test_points_and_combinations_are_full_products() -> None:
    assert list(STUDY.points()) == [
        {"fraction": 1.0, "seed": 1},
        {"fraction": 1.0, "seed": 2},
        {"fraction": 0.25, "seed": 1},
        {"fraction": 0.25, "seed": 2},
    ]
    assert STUDY.combinations("tube") == [{"weight": 0.02}, {"weight": 0.08}]
    assert changed(tuning=None).combinations("tube") == [{}]


def test_a_regime_is_in_every_run() -> None:
    point = {"fraction": 1.0, "seed": 1}
    assert STUDY.config("ntp", point, {}).train_stop
    paper = changed(regime="paper").config("ntp", point, {})
    assert (paper.train_stop, paper.labels, paper.weight_decay) == (False, "full", 0.0)


def test_no_run_decodes_its_test_rows_by_itself() -> None:
    assert not STUDY.config("tube", {"fraction": 1.0, "seed": 1}, {"weight": 0.02}).decode_test


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"axes": {"fractoin": [1.0], "seed": [1]}}, "did you mean 'fraction'"),
        ({"axes": {"fraction": [1.0]}}, "axes has no seed"),
        ({"axes": {"fraction": [], "seed": [1]}}, "axis fraction is \\[\\]"),
        ({"axes": {"fraction": [1.0, 1.0, 0.25], "seed": [1]}}, "a value twice"),
        ({"axes": {"fraction": [2.0, 0.25], "seed": [1]}}, "fraction is 2.0: it must be above 0"),
        ({"axes": {"fraction": "all", "seed": [1]}}, "axis fraction is 'all'"),
        ({"arms": {}}, "arms is empty"),
        ({"baseline": "sft"}, "baseline is 'sft': it must be one of ntp, tube"),
        ({"deciding": {"arm": "jepa"}}, "deciding arm is 'jepa'"),
        ({"deciding": {"arm": "tube", "at": {"fraction": 0.5}}}, "deciding fraction is 0.5"),
        ({"deciding": {"arm": "tube", "at": {"weight": 0.5}}}, "no axis beside the seed"),
        ({"margin": 0.0}, "margin is 0.0"),
        ({"regime": "best"}, "regime is 'best'"),
        ({"updates": "fixed epochs"}, "needs epochs in base or axes, and no steps"),
        (
            {"arms": {"ntp": {"objective": "ntp", "steps": 9}, "tube": {}}},
            "arm 'ntp' sets steps, which all arms share",
        ),
        ({"base": {**STUDY.base, "train_stop": False}}, "train_stop is set in base and in regime"),
        ({"base": {**STUDY.base, "weight": 0.5}}, "weight is set in base and in the grid"),
        ({"base": {**STUDY.base, "output": "x"}}, "sets output, which the study sets itself"),
        ({"base": {**STUDY.base, "test": "t.jsonl"}}, "generated rows are asked for"),
        ({"base": {**STUDY.base, "precision": "auto"}}, "precision is auto"),
        ({"base": {"model": "tiny-0.3m", "steps": 6}}, "tuning needs validation rows"),
    ],
)
def test_bad_studies_are_refused_in_one_sentence(fields, wanted) -> None:
    with pytest.raises(UserError, match=wanted) as caught:
        changed(**fields).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tuning", "wanted"),
    [
        (Tuning(grids={"ntp": {}}), "arm 'tube' has no tuning grid"),
        (
            Tuning(grids={"ntp": {"learning_rate": [1e-3]}, "tube": {"weight": [0.1, 0.2]}}),
            "unequal size \\(ntp 1, tube 2\\)",
        ),
        (Tuning(grids={"ntp": {"learning_rate": []}, "tube": {}}), "learning_rate is \\[\\]"),
        (Tuning(grids={"ntp": "0.1", "tube": {}}), "grid of 'ntp' is '0.1': it must be option"),
        (Tuning(grids={"ntp": [0.1], "tube": {}}), "grid of 'ntp' is \\[0.1\\]: it must be"),
        (Tuning(grids={"ntp": [], "tube": {}}), "list settings that all set the same"),
        (
            Tuning(grids={"ntp": [{"steps": 3}, {"seed": 1}], "tube": {}}),
            "list settings that all set the same",
        ),
        (Tuning(grids={"sft": {}}), "arm of a tuning grid is 'sft'"),
        (Tuning(grids={"ntp": {}, "tube": {}}, seed=9), "tuning seed is 9"),
        (Tuning(grids={"ntp": {}, "tube": {}}, at={"fraction": [0.5]}), "tuning at fraction"),
    ],
)
def test_bad_tuning_is_refused(tuning, wanted) -> None:
    with pytest.raises(UserError, match=wanted):
        changed(tuning=tuning).check()


def test_nearest_is_by_ratio() -> None:
    assert nearest(0.25, [1.0, 0.125, 1 / 32]) == 0.125
    assert nearest(1 / 16, [1.0, 1 / 8, 1 / 64]) == 1 / 8
    assert nearest("a", ["a", "b"]) == "a"
    with pytest.raises(UserError, match="nothing is tuned near 'c'"):
        nearest("c", ["a", "b"])


YAML = """
question: q
hypothesis: h
base: {data: rows.jsonl, test: rows.jsonl, model: tiny-0.3m, steps: 3, validation_rows: 3}
arms: {ntp: {objective: ntp}, tube: {objective: tube}}
axes: {fraction: [1.0], seed: [1]}
baseline: ntp
deciding: {arm: tube}
tuning: {grids: {ntp: {weight_decay: [0.0]}, tube: {weight: [0.1]}}}
"""


def test_a_yaml_study_is_the_same_study(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(YAML)
    study = load_study(path)
    assert study.name == "grid"
    assert study.tuning is not None
    assert study.tuning.grids["tube"] == {"weight": [0.1]}


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("a.yaml", YAML + "extra: 1\n", "a.yaml: unknown key 'extra'"),
        ("a.yaml", "question: q\n", "missing .* required"),
        ("a.yaml", "[1, 2]", "wanted a mapping"),
        ("a.yaml", "a: [", "not YAML"),
        ("a.yaml", YAML.replace("steps", "stepz"), "a.yaml: "),
        ("a.py", "study = 3", "holds no 'study'"),
        ("a.py", "x = (\n", "a.py:1: "),
        ("a.py", "\n1 / 0", "a.py:2: ZeroDivisionError"),
        ("a.txt", "", "ends in .py"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path: Path, name, text, wanted) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=wanted) as caught:
        load_study(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such study file"):
        load_study(tmp_path / "none.py")


NUMBERED = sorted(Path(__file__).parents[2].glob("studies/*.py"))


@pytest.mark.parametrize("path", [p for p in NUMBERED if "study.design import" in p.read_text()])
def test_the_numbered_studies_can_be_meant(path: Path) -> None:
    assert load_study(path).doc
    assert load_study(path, quick=True).generated


def test_a_list_of_settings_is_tried_as_it_stands() -> None:
    listed = [{"learning_rate": 1e-3, "weight": 0.08}, {"learning_rate": 2e-3, "weight": 0.02}]
    study = changed(tuning=Tuning(grids={"ntp": {"learning_rate": [1e-3, 2e-3]}, "tube": listed}))
    study.check()
    assert study.combinations("tube") == listed
