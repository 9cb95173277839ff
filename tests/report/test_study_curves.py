"""Learning curves and data multipliers of a study, from which seeds, and what may be read off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study_store import Store

from semtube.report.study_answer import answer
from semtube.report.study_cells import study_cells
from semtube.report.study_checks import fairness
from semtube.report.study_comparisons import deciding
from semtube.report.study_curves import learning_curves, multipliers
from semtube.report.study_page import build_report
from semtube.report.study_reading import read_study
from semtube.report.study_run_tables import tuning_table
from semtube.report.study_tables import multiplier_table
from semtube.scaling.exponent_difference import ExponentDifference
from semtube.scaling.learning_curve import fit_curve


def test_the_multiplier_is_that_of_the_scores(tmp_path: Path) -> None:
    store = Store(gains={"ntp": 0.0, "tube": 0.1}, noise=0.001, fractions=(1.0, 0.5, 0.25, 0.125))
    data = read_study(store.write(tmp_path))
    cells = study_cells(data)
    found = [m.multiplier for m in multipliers(data, cells)]
    assert {m.method for m in found} == {"interpolation", "fit"}
    assert [m.num_examples for m in found if m.method == "fit"] == [1000, 2000, 4000, 8000]
    means = {(c.arm, c.place[0][1]): c.mean for c in cells}
    [whole] = [m for m in found if (m.method, m.num_examples) == ("interpolation", 8000)]
    assert whole.level == pytest.approx(means["ntp", 1.0])
    assert 1 < whole.value < 8


def test_the_curves_are_those_of_the_scores(tmp_path: Path) -> None:
    store = Store(gains={"ntp": 0.0, "tube": 0.1}, noise=0.001, fractions=(1.0, 0.5, 0.25, 0.125))
    folder = store.write(tmp_path)
    cells = study_cells(read_study(folder))
    base, tube = learning_curves(read_study(folder), cells)
    assert (base.arm, base.difference, tube.arm) == ("ntp", None, "tube")
    for curve in (base, tube):
        own = sorted((c for c in cells if c.arm == curve.arm), key=lambda c: c.num_examples)
        sizes, errors = [c.num_examples for c in own], [1 - np.array(c.scores) for c in own]
        assert sizes == [1000, 2000, 4000, 8000]
        assert curve.fitted.curve == fit_curve(np.repeat(sizes, 3), np.concatenate(errors))
    found = tube.difference
    assert found.value == tube.fitted.curve.exponent - base.fitted.curve.exponent
    assert found.low < found.value < found.high
    report = build_report(read_study(folder))
    [table] = [t for t in report.tables if t.name == "learning_curves"]
    assert table.rows[1]["difference"] == found.value
    assert f"the exponent of tube is that of ntp {found.value:+.2g}" in report.answer.notes[0]


def test_curves_say_which_seeds_they_are_from(tmp_path: Path) -> None:
    fractions = (1.0, 0.5, 0.25, 0.125)
    data = read_study(Store(noise=0.001, fractions=fractions).write(tmp_path))
    cells = [
        replace(c, seeds=c.seeds[1:], scores=c.scores[1:])
        if (c.arm, c.place) == ("tube", (("fraction", 0.5),))
        else c
        for c in study_cells(data)
    ]
    base, tube = learning_curves(data, cells)
    assert (base.seeds, tube.seeds) == ((1, 2, 3), (2, 3))
    assert {m.seeds for m in multipliers(data, cells)} == {(2, 3)}
    assert {r["seeds"] for r in multiplier_table(data, multipliers(data, cells)).rows} == {2}
    without = [replace(c, seeds=c.seeds[:1], scores=c.scores[:1]) if c in cells[:1] else c
               for c in cells]  # fmt: skip
    base, tube = learning_curves(data, without)
    assert base.seeds == (1,)
    assert tube.note == "no difference: no seed is scored at every fraction"
    assert multipliers(data, without) == []


def test_fractions_with_as_many_rows_are_one_size(tmp_path: Path) -> None:
    data = read_study(Store(noise=0.001, fractions=(1.0, 0.5, 0.25, 0.125)).write(tmp_path))
    cells = [
        replace(c, num_examples=1000.0) if dict(c.place)["fraction"] == 0.25 else c
        for c in study_cells(data)
    ]
    assert [m.multiplier.num_examples for m in multipliers(data, cells)] == 2 * [1000, 4000, 8000]
    assert {c.note for c in learning_curves(data, cells)} == {"fewer than 4 sizes"}


@pytest.mark.parametrize("is_known", [True, False])
def test_exponents_are_read_only_where_both_floors_are_known(tmp_path: Path, is_known) -> None:
    store = Store(gains={"ntp": 0.0, "tube": 0.1}, noise=0.001, fractions=(1.0, 0.5, 0.25, 0.125))
    data = read_study(store.write(tmp_path))
    base, tube = learning_curves(data, study_cells(data))
    fitted = [replace(c.fitted, is_floor_identified=True) for c in (base, tube)]
    fitted[0] = replace(fitted[0], is_floor_identified=is_known)
    curves = [replace(c, fitted=f) for c, f in zip((base, tube), fitted, strict=True)]
    curves[1] = replace(curves[1], difference=ExponentDifference(0.2, 0.1, 0.3))
    note = answer(data, deciding(data), [], curves).notes[0]
    assert "of tube is that of ntp +0.2 (95 % interval +0.1 to +0.3)" in note
    assert note.endswith(
        "another slope is shown." if is_known else "floors of the curves are not identified."
    )


def test_settings_that_tuning_chose_otherwise_are_told(tmp_path: Path) -> None:
    data = read_study(Store().write(tmp_path))

    def notes(**tried: dict[str, float]) -> list[str]:
        plan = [replace(p, tried=tried[p.arm]) for p in data.plan]
        report = build_report(replace(data, plan=plan))
        return [note for note in report.answer.notes if "Tuning chose" in note]

    alike = {"learning_rate": 1e-3}
    assert notes(ntp=alike, tube=alike | {"weight": 0.02}) == []
    [told] = notes(ntp={"learning_rate": 2e-3}, tube=alike | {"weight": 0.02})
    assert "(learning_rate 0.001 against 0.002)" in told


def test_trials_that_failed_are_not_counted_as_tuning(tmp_path: Path) -> None:
    store = Store(weights={"ntp": (0.1, 0.2), "tube": (0.1, 0.2)})
    data = read_study(store.write(tmp_path))
    assert any("as many trials for the arms: ntp 2, tube 2." in c.sentence for c in fairness(data))
    lost = next(p.run for p in data.plan if (p.phase, p.arm) == ("tuning", "tube"))
    data.runs[lost] = replace(data.runs[lost], status="failed", readings={})
    data.choices.pop("tube")
    [told] = [c for c in fairness(data) if "Tuning on validation rows" in c.sentence]
    assert told.state == "broken"
    assert "ntp 2, tube 1; 1 without a score are not counted" in told.sentence
    assert [row["arm"] for row in tuning_table(data).rows] == ["ntp", "ntp", "tube", "tube"]
