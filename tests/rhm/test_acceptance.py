"""The acceptance measurement: which curves, and what its checks say of made-up thresholds."""

import math

import pytest

from semtube.rhm.acceptance import Curve, acceptance_checks, acceptance_curves
from semtube.rhm.ilc_sweep import Thresholds, run_ilc_cell, thresholds
from semtube.rhm.sweeps import run_sweep


def made_up(target, depth, m, p50):
    values = p50 if isinstance(p50, list) else [p50] * 4
    return Thresholds(
        target=target, num_features=16, num_synonyms=m, branching=2, depth=depth,
        num_strings=[10, 10**7], accuracies=[[0.0] * len(values), [1.0] * len(values)],
        p50_by_grammar=values, p90_by_grammar=values,
    )  # fmt: skip


def as_theory_says(constant=1.0):
    return [
        made_up(curve.target, curve.depth, curve.num_synonyms, constant * curve.theory)
        for curve in acceptance_curves("full")
    ]


def test_sets_a_and_c_share_their_common_curve():
    curves = acceptance_curves("full")
    assert len(curves) == len(set(curves)) == 17
    assert Curve("latent", 4, 4) in curves
    assert curves[-1] == Curve("token", 4, 5)
    assert set(acceptance_curves("small")) < set(curves)


def test_every_curve_has_14_points_and_4_grammars_and_one_position_for_the_root():
    for curve in acceptance_curves("full"):
        cells = curve.cells()
        assert len(cells) == 56
        assert {cell["positions"] for cell in cells} == {"one" if curve.target == "root" else "all"}
        points = {cell["num_strings"] for cell in cells}
        assert min(points) < curve.theory < max(points) / 4


def test_thresholds_as_theory_has_them_pass_every_check():
    checks = acceptance_checks(as_theory_says(0.5))
    assert len(checks) == 6
    assert all(check.holds for check in checks)
    found = {check.name.split(":")[0] + str(check.low): check.estimate.value for check in checks}
    assert found["latent2.7"] == pytest.approx(3)
    assert found["token4.7"] == pytest.approx(5)
    assert found["token3"] == pytest.approx(4)
    assert found["token over latent P50 at L = 520"] == pytest.approx(64)


@pytest.mark.parametrize(
    ("target", "depth", "m", "factor", "failing"),
    [
        ("latent", 6, 4, 1.6, {"latent: largest over smallest P50, L = 3, 4, 5, 6"}),
        ("token", 3, 4, 1.5, {"token: P50 at L = 4 over L = 3"}),
        ("token", 5, 4, 0.2, {"token: P50 at L = 5 over L = 4", "token over latent P50 at L = 5"}),
        ("token", 4, 2, 0.3, {"token: slope of log P50 in log m, m = 2, 3, 4, 5"}),
        ("latent", 4, 8, 3.0, {"latent: slope of log P50 in log m, m = 2, 3, 4, 6, 8"}),
    ],
)
def test_each_check_can_fail(target, depth, m, factor, failing):
    measured = [
        made_up(x.target, x.depth, x.num_synonyms, x.theory * factor)
        if (x.target, x.depth, x.num_synonyms) == (target, depth, m)
        else x
        for x in as_theory_says()
    ]
    assert {check.name for check in acceptance_checks(measured) if not check.holds} == failing


def test_what_was_not_measured_is_not_checked():
    names = [
        c.name for c in acceptance_checks([made_up("latent", 3, 4, 1), made_up("latent", 4, 4, 1)])
    ]
    assert names == ["latent: largest over smallest P50, L = 3, 4"]


def test_resamples_are_paired_between_targets_of_one_size_and_with_nothing_else():
    values = [100.0, 200.0, 400.0, 800.0]
    first = made_up("latent", 4, 4, values).medians("p50")
    assert (made_up("token", 4, 4, values).medians("p50") == first).all()
    assert (made_up("latent", 5, 4, values).medians("p50") != first).any()
    assert (made_up("latent", 4, 3, values).medians("p50") != first).any()


def test_grammars_that_never_cross_count():
    curve = made_up("token", 4, 4, [100.0, 200.0, math.inf, math.inf])
    assert curve.shown("p50") == "above 10,000,000"
    stored = curve.as_json()
    assert stored["p50"]["value"] is None
    assert stored["p50_by_grammar"] == [100.0, 200.0, None, None]
    curve = made_up("token", 4, 4, [10.0, 10.0, 10.0, 400.0])
    assert curve.shown("p50").startswith("at most 10 (10 to ")
    assert curve.as_json()["p50_at_first_point"] == 3


def test_a_small_curve_from_start_to_end(tmp_path):
    cells = [
        cell
        for cell in Curve("latent", 2, 3).cells(num_grammars=2)
        if cell["num_strings"] in (64, 512, 1024)
    ]
    rows = run_sweep(cells, tmp_path, run_ilc_cell)
    found = thresholds(rows)
    assert found.num_strings == [64, 512, 1024]
    assert [len(values) for values in found.accuracies] == [2, 2, 2]
    assert found.theory == 128
    assert found.accuracies[2][0] > found.accuracies[0][0]
