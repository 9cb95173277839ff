"""Figures of the theory lab: what is drawn, where, and the numbers beside it."""

import csv

import pytest

from semtube.report.panels import Panel, Point, as_csv, figure, write_panels
from semtube.report.rhm import (
    curve_thresholds,
    draw_figure_3,
    draw_figure_11,
    draw_ilc,
    draw_thresholds,
    mean_curves,
    size_note,
)
from semtube.rhm.ilc_sweep import thresholds

PNG = b"\x89PNG\r\n\x1a\n"


def row(m, p, grammar, accuracy, target="latent", depth=4, v=8, s=3):
    return {
        "target": target, "num_features": v, "num_synonyms": m, "branching": s, "depth": depth,
        "num_strings": p, "grammar": grammar, "accuracy": accuracy,
    }  # fmt: skip


def rows_that_collapse(system="ilc"):
    """Curves that cross 50 % at exactly v m^3, each level's list ending in the highest."""
    rows = []
    for m in (6, 8):
        for step, accuracy in ((0.25, 0.1), (1, 0.5), (4, 0.9)):
            for grammar, shift in enumerate((-0.05, 0.05)):
                value = accuracy + shift
                rows.append(
                    row(
                        m,
                        round(8 * m**3 * step),
                        grammar,
                        [1.0, value] if system == "ilc" else value,
                    )
                )
    return rows


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_curves_are_means_over_grammars_of_the_highest_level():
    curves = mean_curves(rows_that_collapse())
    assert curves[6] == [
        (432, pytest.approx(0.1)),
        (1728, pytest.approx(0.5)),
        (6912, pytest.approx(0.9)),
    ]
    assert mean_curves(rows_that_collapse("slc")) == curves
    assert curve_thresholds(rows_that_collapse()) == {
        6: pytest.approx(8 * 6**3), 8: pytest.approx(8 * 8**3)
    }  # fmt: skip


def test_figure_3_has_our_points_the_papers_and_theory(tmp_path):
    draw_figure_3(rows_that_collapse(), [], tmp_path / "deep" / "figure_3")
    for kind in ("png", "svg", "csv"):
        assert (tmp_path / "deep" / f"figure_3.{kind}").is_file()
    assert (tmp_path / "deep" / "figure_3.png").read_bytes().startswith(PNG)
    assert len(list((tmp_path / "deep").iterdir())) == 3
    stored = read(tmp_path / "deep" / "figure_3.csv")
    curves = [r for r in stored if not r["panel"].endswith("threshold")]
    ours = [(r["series"], float(r["x"]), float(r["y"])) for r in curves if r["source"] == "ours"]
    assert ("m = 8", 1.0, 0.5) in ours
    assert len(ours) == 6
    # The paper's P* for m = 6 is 3,500: 3500 / (8 x 216).
    paper = {r["series"]: float(r["x"]) for r in curves if r["source"] == "paper"}
    assert paper["m = 6"] == pytest.approx(3500 / 1728, rel=1e-4)
    in_m = [r for r in stored if r["panel"].endswith("threshold")]
    theory = {(r["series"], float(r["x"])): float(r["y"]) for r in in_m if r["source"] == "theory"}
    assert theory["v m^3", 8] == 8 * 8**3
    assert theory["v m^(L+1)", 8] == 8 * 8**5
    svg = (tmp_path / "deep" / "figure_3.svg").read_text()
    assert "v = 8, s = 3, L = 4, m = 6, 8" in svg
    assert "Paper: v = 8, s = 3, L = 5." in svg


def test_figure_11_scales_by_tokens_and_says_how_far_the_curves_spread(tmp_path):
    draw_figure_11(rows_that_collapse(), rows_that_collapse("slc"), tmp_path / "figure_11")
    stored = read(tmp_path / "figure_11.csv")
    assert len({r["panel"] for r in stored}) == 2
    ours = {
        (r["panel"][:9], r["series"], float(r["y"])): float(r["x"])
        for r in stored
        if r["source"] == "ours"
    }
    assert ours["Iterative", "m = 6", 0.5] == pytest.approx(1728 / 6**5, rel=1e-4)
    assert ours["Stacked n", "m = 6", 0.5] == pytest.approx(1728 / (8 * 6**5), rel=1e-4)
    paper = [r for r in stored if r["source"] == "paper" and r["series"] == "m = 6"]
    assert float(paper[0]["x"]) == pytest.approx(3500 / 6**6, rel=1e-4)
    svg = (tmp_path / "figure_11.svg").read_text()
    # What is drawn is named: clustering has the highest level, the network a probe of the root.
    assert "accuracy, highest level" in svg
    assert "accuracy, root, MLP probe" in svg
    assert "probe of the root is linear" in svg
    # m^3 against m^5: (8 / 6)^2.
    assert "1.0 in P / (v m^3)" in svg
    assert "1.8 in P / (v m^5)" in svg


def measured_curves():
    found = []
    for target, depth, m in [("latent", 3, 4), ("latent", 4, 4), ("token", 4, 4), ("latent", 4, 2)]:
        rows = [
            row(m, p, g, [accuracy], target, depth, 16, 2)
            for p, accuracy in ((100, 0.2), (400, 0.8))
            for g in range(3)
        ]
        found.append(thresholds(rows))
    rows = [row(4, p, g, [0.6], "root", 2, 16, 2) for p in (32, 64) for g in range(3)]
    return [*found, thresholds(rows)]


def test_thresholds_stand_beside_theory_and_floors_are_named(tmp_path):
    curves = [curve.as_json() for curve in measured_curves()]
    draw_thresholds(curves[::-1], tmp_path / "thresholds")
    stored = read(tmp_path / "thresholds.csv")
    depth = [r for r in stored if r["panel"].startswith("Against depth")]
    ours = {(r["series"], r["x"]): r for r in depth if r["source"] == "ours"}
    assert set(ours) == {("latent", "3"), ("latent", "4"), ("token", "4"), ("root", "2")}
    assert float(ours["latent", "3"]["y"]) == pytest.approx(200)
    theory = {(r["series"], r["x"]): float(r["y"]) for r in depth if r["source"] == "theory"}
    assert theory["token", "4"] == pytest.approx(16384, rel=1e-3)
    assert theory["root", "2"] == 256
    assert depth[0]["series"] == "latent"
    svg = (tmp_path / "thresholds.svg").read_text()
    assert "root, L = 2, m = 4: at 50 % at the first point of its grid already" in svg


def test_one_run_of_clustering(tmp_path):
    rows = [
        row(4, p, g, [x + g / 10], target, 4, 16, 2)
        for target in ("latent", "token")
        for p, x in ((100, 0.2), (1000, 0.6))
        for g in range(3)
    ]
    measured = [thresholds([r for r in rows if r["target"] == t]) for t in ("latent", "token")]
    draw_ilc(rows, measured, tmp_path / "curves")
    stored = read(tmp_path / "curves.csv")
    assert [(r["series"], r["x"], r["y"], r["low"], r["high"]) for r in stored][:2] == [
        ("latent", "100", "0.3", "0.2", "0.4"), ("latent", "1000", "0.7", "0.6", "0.8"),
    ]  # fmt: skip
    assert "token: 16,384" in (tmp_path / "curves.svg").read_text()


def test_points_that_axes_cannot_show_are_in_the_csv_alone():
    points = [
        Point("a", "ours", 1, 5), Point("a", "ours", 0, 5), Point("a", "ours", 2, float("inf")),
        Point("a", "theory", 3, 5),
    ]  # fmt: skip
    panel = Panel("t", "x", "y", points)
    layers = figure([panel], title="", notes=[]).to_dict()
    drawn = [value for data in _data(layers) for value in data if "series" in value]
    assert {(v["x"], v["y"]) for v in drawn} == {(1, 5), (3, 5)}
    assert as_csv([panel]).splitlines()[3] == "t,a,ours,2,inf,,"


def _data(node):
    if isinstance(node, dict):
        if (
            isinstance(node.get("values"), list)
            and node["values"]
            and isinstance(node["values"][0], dict)
        ):
            yield node["values"]
        for value in node.values():
            yield from _data(value)
    elif isinstance(node, list):
        for value in node:
            yield from _data(value)


def test_more_series_than_colours_are_refused(tmp_path):
    points = [Point(f"s{k}", "ours", 1, 1) for k in range(9)]
    with pytest.raises(ValueError, match="at most 8 series, got 9"):
        write_panels([Panel("t", "x", "y", points)], title="", notes=[], stem=tmp_path / "a")


def test_the_size_note_counts_grammars():
    one = [row(6, p, 0, [0.5]) for p in (100, 2000)]
    assert size_note(one) == "v = 8, s = 3, L = 4, m = 6, P = 100 to 2,000, 1 grammar a point."
