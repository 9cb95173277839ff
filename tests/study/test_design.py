"""A study file is checked whole before anything runs."""

import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from small_study import STUDY, changed

from semtube.config import RunConfig
from semtube.errors import UserError
from semtube.study.design import Tuning, nearest
from semtube.study.study_file import load_study

ROOT = Path(__file__).parents[2]


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
        ({"deciding": {"arm": "ntp"}}, "deciding arm is 'ntp', the baseline itself"),
        ({"deciding": "tube"}, "deciding is 'tube': it must be a mapping, such as {arm: tube"),
        ({"deciding": {"arm": "tube", "at": None}}, "deciding at is empty: it must be a mapping"),
        ({"margin": 0.0}, "margin is 0.0"),
        ({"margin": "a"}, "margin is 'a': it must be a number"),
        ({"regime": "best"}, "regime is 'best'"),
        ({"regime": ["correct"]}, "regime is \\['correct'\\]: did you mean 'correct'"),
        ({"base": None}, "base is empty: it must be a mapping, such as {model: tiny-2m"),
        ({"arms": ["ntp", "tube"]}, "arms is .*: it must be a mapping, such as {ntp: {obj"),
        ({"arms": {"ntp": {"objective": "ntp"}, "tube": None}}, "arm 'tube' is empty: it must be"),
        ({"arms": {"ntp": {}, 2: {}}}, "arms names one 2: a name is a text, such as '2'"),
        ({"axes": ["seed"]}, "axes is \\['seed'\\]: it must be a mapping, such as {fraction: "),
        ({"axes": {"fraction": [1.0, 0.25], "seed": 1}}, "axis seed is 1: it must be a list"),
        ({"axes": {"fraction": [1.0, 0.25], "seed": ["a"]}}, "axes: seed is 'a': it must be a wh"),
        ({"axes": {2: [1.0, 0.25], "seed": [1]}}, "axes: a run has no option 2: see semtube train"),
        ({"base": {**STUDY.base, "steps": "three"}}, "base: steps is 'three': it must be a whole"),
        (
            {"arms": {"ntp": {"objective": "ntp"}, "tube": {"objective": "tub"}}},
            "arm 'tube': objective is 'tub': did you mean 'tube'?",
        ),
        ({"primary": "exact_mach"}, "primary .*is 'exact_mach': did you mean 'exact_match'?"),
        (
            {"generated": None, "base": {**STUDY.base, "data": "rows.jsonl"}},
            "base has no test: final runs are judged on test rows, name them",
        ),
        (
            {
                "generated": None,
                "base": {**STUDY.base, "data": "rows.jsonl"},
                "axes": {"test": ["a.jsonl", "b.jsonl"], "fraction": [0.25], "seed": [1]},
            },
            "axis test brings other test rows .* name its value in deciding at, such as {test: a",
        ),
        (
            {
                "generated": None,
                "base": {**STUDY.base, "test": "test"},
                "axes": {"task": ["gsm8k", "spider"], "fraction": [0.25], "seed": [1]},
            },
            "axis task brings other test rows",
        ),
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
        (
            Tuning(grids={"ntp": {"learning_rate": [1e-3, 0.001]}, "tube": {"weight": [1, 2]}}),
            "{'learning_rate': 0.001} and {'learning_rate': 0.001} are one run",
        ),
        (
            Tuning(grids={"ntp": {"weight": [0.1, 0.2]}, "tube": {"weight": [0.1, 0.2]}}),
            "grid of 'ntp': {'weight': 0.1} and {'weight': 0.2} are one run",
        ),
        (
            Tuning(grids={"ntp": {"max_grad_norm": [1.0]}, "tube": {"max_grad_norm": [0.5]}}),
            "grid of 'ntp' sets max_grad_norm, which all arms share",
        ),
        (Tuning(grids=None), "tuning grids is empty: it must be a mapping, such as {ntp: "),  # type: ignore[arg-type]
        (Tuning(grids={"ntp": {}, "tube": {}}, at=None), "tuning at is empty: it must be a map"),  # type: ignore[arg-type]
        (
            Tuning(grids={"ntp": {}, "tube": {}}, at={"fraction": 1.0}),  # type: ignore[dict-item]
            "tuning at fraction is 1.0: it must be a list with a value",
        ),
        (Tuning(grids={"ntp": {}, "tube": {}}, seed="a"), "tuning seed is 'a': it must be a whole"),  # type: ignore[arg-type]
        (
            Tuning(grids={"ntp": {}, "tube": {}}, score="exact"),
            "tuning score .*is 'exact': did you mean 'exact_match'",
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


def test_a_point_that_no_tuned_one_is_near_to_is_refused_before_anything_runs() -> None:
    study = changed(
        axes={"model": ["tiny-0.3m", "tiny-2m"], "fraction": [0.25], "seed": [1]},
        base={k: v for k, v in STUDY.base.items() if k != "model"},
        tuning=Tuning(grids={"ntp": {}, "tube": {}}, at={"model": ["tiny-0.3m"]}),
    )
    with pytest.raises(UserError, match="tuning at model: nothing is tuned near 'tiny-2m'"):
        study.check()
    replace(
        study, tuning=Tuning(study.tuning.grids, at={"model": ["tiny-0.3m", "tiny-2m"]})
    ).check()


def test_tasks_may_be_an_axis_where_one_decides() -> None:
    changed(
        generated=None,
        base={**STUDY.base, "test": "test"},
        axes={"task": ["nl-rx-synth", "nl-rx-turk"], "fraction": [0.25], "seed": [1]},
        deciding={"arm": "tube", "at": {"task": "nl-rx-turk"}},
        tuning=None,
    ).check()


OTHER = {
    "objective": "curvature", "options": {"draws": 2}, "weight": 0.5, "weight_schedule": "linear",
    "weight_dropout": 0.5, "neftune": 5.0, "attention_dropout": 0.1, "learning_rate": 2e-3,
    "weight_decay": 0.5,
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in fields(RunConfig)])
def test_an_arm_sets_its_method_and_nothing_else(name: str) -> None:
    """Every option of a run, so that a new one is shared unless it is named as an arm's."""
    value = OTHER.get(name, asdict(RunConfig(output=""))[name])
    tube = {name: value} if name == "objective" else {"objective": "tube", name: value}
    study = changed(
        arms={"ntp": {"objective": "ntp"}, "tube": tube},
        base={k: v for k, v in STUDY.base.items() if k != name or name == "steps"},
        tuning=None,
    )
    if name in OTHER:
        study.check()
        return
    with pytest.raises(UserError, match=f"sets {name}, which (all arms share|the study sets)"):
        study.check()


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


def test_the_example_can_be_meant_and_its_numbers_are_numbers() -> None:
    """PyYAML reads 1e-3 as a text."""
    study = load_study(ROOT / "examples" / "study.yaml")
    assert study.tuning is not None
    assert study.tuning.grids == {
        "ntp": {"learning_rate": [0.002, 0.004]},
        "tube": {"learning_rate": [0.004], "weight": [0.02, 0.08]},
    }
    assert study.generated
    assert {study.config(arm, next(study.points()), {}).objective for arm in study.arms} == {
        "ntp", "tube",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e-3", 1e-3), ("-1E+3", -1e3), (".5e1", 5.0), ("2.e0", 2.0), ("1e", "1e"), ("1/4", "1/4")],
)
def test_numbers_in_yaml(tmp_path: Path, text: str, number: object) -> None:
    (tmp_path / "a.yaml").write_text(YAML.replace("hypothesis: h", f"hypothesis: [{text}]"))
    with pytest.raises(
        UserError, match=re.escape(f"hypothesis is [{number!r}]: it must be a text")
    ):
        load_study(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("a.yaml", YAML + "extra: 1\n", "a.yaml: unknown key 'extra'"),
        ("a.yaml", "question: q\n", "missing .* required"),
        ("a.yaml", "[1, 2]", "wanted a mapping"),
        ("a.yaml", "a: [", "not YAML"),
        ("a.yaml", YAML.replace("steps", "stepz"), "a.yaml: base: .* did you mean 'steps'"),
        ("a.yaml", YAML.replace("[0.1]", "['1e-3']"), "a.yaml: grid of 'tube': weight is '1e-3'"),
        ("a.yaml", YAML.replace("{fraction", "\n  - {fraction"), "a.yaml: axes is "),
        ("a.yaml", YAML.replace("steps: 3", "steps: three"), "a.yaml: base: steps is 'three'"),
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


NUMBERED = sorted(ROOT.glob("studies/*.py"))


@pytest.mark.parametrize("path", [p for p in NUMBERED if "study.design import" in p.read_text()])
def test_the_numbered_studies_can_be_meant(path: Path) -> None:
    assert load_study(path).doc
    assert load_study(path, quick=True).generated


def test_a_list_of_settings_is_tried_as_it_stands() -> None:
    listed = [{"learning_rate": 1e-3, "weight": 0.08}, {"learning_rate": 2e-3, "weight": 0.02}]
    study = changed(tuning=Tuning(grids={"ntp": {"learning_rate": [1e-3, 2e-3]}, "tube": listed}))
    study.check()
    assert study.combinations("tube") == listed
