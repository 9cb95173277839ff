"""The paper's numbers stand beside the arms that the paper has, and beside no other."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from study_store import Store

from semtube.objectives.catalogue import OBJECTIVES
from semtube.report.stp_published import DEFAULTS, setting
from semtube.report.study_page import build_report
from semtube.report.study_reading import read_study

TUBE = {"objective": "tube"}
ABLATION = {
    "ntp": {"objective": "ntp"},
    "tube": TUBE,
    "tube, span": TUBE | {"options": {"form": "span"}},
    "zero": TUBE | {"options": {"law": "anchored"}},
    "predictor": TUBE | {"options": {"predictor": "linear", "form": "triplet"}},
    "inst": TUBE | {"options": {"content": "instruction"}},
    "two_view": {"objective": "two_view", "weight": 0.08},
    "two_view up": {"objective": "two_view", "weight_schedule": "linear"},
    "two_view pred": {"objective": "two_view", "options": {"predictor": "linear"}},
    "mean": {"objective": "two_view", "options": {"form": "mean"}},
    "mask": {"objective": "masked_span"},
    "mask full": {"objective": "masked_span", "options": {"target": "full"}},
    "mask inst": {"objective": "masked_span", "options": {"content": "instruction"}},
    "mask both": {
        "objective": "masked_span", "options": {"content": "instruction", "target": "full"},
    },
    "curvature": {"objective": "curvature"},
    "jepa": {"objective": "llm_jepa", "options": {"predictor_tokens": 4}},
    "noise": {"objective": "ntp", "neftune": 5.0},
    "decay": {"objective": "ntp", "weight_decay": 1.0},
    "draws": TUBE | {"options": {"draws": 8}},
}  # fmt: skip
PUBLISHED = {
    "ntp": (57.29, 5.32), "tube": (84.29, 0.36), "zero": (83.80, 0.62), "predictor": (81.93, 1.05),
    "inst": (76.11, 1.66), "two_view": (81.39, 0.65), "two_view up": (81.58, 0.89),
    "two_view pred": (80.54, 0.49), "mean": (76.07, 0.73), "mask": (66.10, 2.70),
    "mask full": (74.14, 3.45), "mask inst": (69.42, 0.97), "mask both": (71.98, 1.60),
    "jepa": (71.46, 1.34),
}  # fmt: skip


def store(arms=ABLATION, **options) -> Store:
    options = {"fractions": (1.0,), "at": {}, "num_rows": 40, "num_steps": 3} | options
    gains = {arm: 0.01 * number for number, arm in enumerate(arms)}
    return Store(gains=gains, arms=arms, **options)


def tables(made: Store, folder: Path) -> dict:
    report = build_report(read_study(made.write(folder)))
    return {table.name: table for table in report.tables}


def percent(row: dict, name: str = "paper") -> float | None:
    return None if row[name] is None else round(100 * row[name], 2)


def test_every_arm_has_its_own_value_or_none(tmp_path: Path) -> None:
    rows = tables(store(), tmp_path)["published_accuracy"].rows
    assert [row["arm"] for row in rows] == list(ABLATION)
    found = {row["arm"]: (percent(row), percent(row, "paper_deviation")) for row in rows}
    assert found == dict.fromkeys(ABLATION, (None, None)) | PUBLISHED
    names = {row["arm"]: row["paper_name"] for row in rows}
    assert (names["zero"], names["curvature"], names["tube, span"]) == ("Zero", "Curvature", None)


def test_the_defaults_are_those_of_the_objectives() -> None:
    """A value that the report takes for an unset option is the one that an unset option has."""
    for name, options in DEFAULTS.items():
        own = {field.name: field.default for field in fields(OBJECTIVES[name])}
        assert options == {option: own[option] for option in options}
    assert setting("tube", {"law": "uniform"}) == setting("tube")
    assert setting("tube", {"law": "anchored"}) != setting("tube")


def test_tables_4_and_5_take_the_plain_arm_and_tell_what_is_not_there(tmp_path: Path) -> None:
    arms = {arm: ABLATION[arm] for arm in ("ntp", "tube, span", "zero", "tube", "two_view", "mask")}
    table = tables(store(arms), tmp_path)["published_p_values"]
    found = [(row["table"], row["better"], row["worse"], row["paper"]) for row in table.rows]
    assert found == [
        ("4", "tube", "two_view", 1.14e-3), ("4", "tube", "mask", 1.77e-3),
        ("4", "two_view", "mask", 4.76e-3), ("5", "tube", "zero", 0.0534),
    ]  # fmt: skip
    assert all(row["ours"] is not None for row in table.rows)
    left_out = "no scored arm for Curvature, Pred, Inst, Two-view with warm-up"
    assert left_out in table.caption


@pytest.mark.parametrize("fraction", [0.125, 1.0])
def test_a_fraction_of_all_runs_is_told(tmp_path: Path, fraction: float) -> None:
    made = store({"ntp": ABLATION["ntp"], "tube": TUBE}, axis="weight", fractions=(0.02, 0.08),
                 at={"weight": 0.08}, base={"fraction": fraction})  # fmt: skip
    found = tables(made, tmp_path)
    told = "ours with 1/8 of the training rows, the paper's with all of them"
    for name in ("published_accuracy", "published_endings"):
        assert (told in found[name].caption.lower()) == (fraction < 1)
    assert {row["point"] for row in found["published_accuracy"].rows} == {"weight 0.08"}
    # Figure 1b's points are of all rows and of a sixteenth.
    points = found["published_fractions"].rows if "published_fractions" in found else []
    assert {row["arm"] for row in points} == (set() if fraction < 1 else {"ntp"})


def test_a_sixteenth_that_all_runs_have_is_the_paper_s(tmp_path: Path) -> None:
    made = store({"ntp": ABLATION["ntp"], "tube": TUBE}, axis="weight", fractions=(0.02,),
                 base={"fraction": 1 / 16})  # fmt: skip
    [row] = tables(made, tmp_path)["published_fractions"].rows
    assert (row["arm"], percent(row)) == ("tube", 56.34)


def test_an_axis_of_tasks_takes_each_task_s_values(tmp_path: Path) -> None:
    arms = {"ntp": ABLATION["ntp"], "tube": TUBE, "zero": ABLATION["zero"]}
    made = store(arms, axis="task", fractions=("gsm8k", "nl-rx-synth", "mine"))
    found = tables(made, tmp_path)
    rows = found["published_accuracy"].rows
    assert [(row["task"], row["arm"], percent(row)) for row in rows] == [
        ("gsm8k", "ntp", 32.36), ("gsm8k", "tube", 36.60), ("gsm8k", "zero", None),
        ("nl-rx-synth", "ntp", 57.29), ("nl-rx-synth", "tube", 84.29),
        ("nl-rx-synth", "zero", 83.80),
    ]  # fmt: skip
    assert "task nl-rx-synth" in found["published_endings"].caption


def test_a_model_of_the_paper_s_stands_beside_its_own_values(tmp_path: Path) -> None:
    arms = {"ntp": ABLATION["ntp"], "tube": TUBE, "zero": ABLATION["zero"]}
    models = ("tiny-2m", "google/gemma-2-2b-it", "meta-llama/Llama-3.2-3B-Instruct")
    rows = tables(store(arms, axis="model", fractions=models), tmp_path)["published_accuracy"].rows
    assert [(row["model"], row["arm"], percent(row)) for row in rows] == [
        (models[0], "ntp", 57.29), (models[0], "tube", 84.29), (models[0], "zero", 83.80),
        (models[1], "ntp", 33.65), (models[1], "tube", 57.5), (models[1], "zero", None),
        (models[2], "ntp", 74.55), (models[2], "tube", None), (models[2], "zero", None),
    ]  # fmt: skip
    notes = {(row["model"], row["arm"]): row["note"] for row in rows}
    assert "read off the image" in notes[models[1], "tube"]
    assert notes[models[1], "ntp"] == ""


def test_chosen_weights_name_the_model_they_were_chosen_with(tmp_path: Path) -> None:
    models = ("tiny-0.3m", "tiny-2m")
    made = store({"ntp": ABLATION["ntp"], "tube": TUBE}, axis="model", fractions=models,
                 weights={"tube": [0.02, 0.08, 0.32]})  # fmt: skip
    folder = made.write(tmp_path)
    named = {t.name: t for t in build_report(read_study(folder)).tables}["published_weights"].rows
    assert (named[0]["model"], named[0]["arm"], named[0]["ours"]) == ("tiny-0.3m", "tube", 0.08)
    assert ("Llama-3.2-1B", 0.02) in [(row["model"], row.get("paper")) for row in named]
    # Tuned once for all points: at the first value of every axis.
    chosen = json.loads((folder / "chosen.json").read_text())
    chosen["tube"][0]["at"] = {}
    (folder / "chosen.json").write_text(json.dumps(chosen))
    named = {t.name: t for t in build_report(read_study(folder)).tables}["published_weights"].rows
    assert named[0]["model"] == "tiny-0.3m"
