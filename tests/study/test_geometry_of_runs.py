"""Measures of runs against arms and scores: planted effects found, and a whole study read."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")
from small_study import STUDY, InThisProcess

from semtube.config import ProbeOptions
from semtube.errors import UserError
from semtube.geometry.measures import MEASURES, PROBE_FORMAT
from semtube.run_folder import read_json
from semtube.statistics.paired import paired_t_test
from semtube.study.geometry_of_runs import (
    FAMILY,
    check_probe,
    geometry_of_runs,
    main,
    markdown,
    measures_of,
    moved,
    tells_accuracy,
)
from semtube.study.runner import StudyFolder, run_study


def made_up(num_seeds: int = 6) -> list[dict]:
    """The tube lowers tube_loss by 0.4; anisotropy rises with the score; capacity is noise."""
    generator = np.random.default_rng(0)
    runs = []
    for group, easier in (("fraction 1", 0.3), ("fraction 0.125", 0.0)):
        for seed in range(num_seeds):
            for arm in ("ntp", "tube"):
                score = easier + generator.normal(0.4, 0.05)
                runs.append({
                    "arm": arm, "group": group, "seed": seed, "score": score,
                    "measures": {
                        "tube_loss": 1.4 - 0.4 * (arm == "tube") + generator.normal(0, 0.02),
                        # Higher in the hard group, so that pooled over groups it would fall.
                        "anisotropy": score - 3 * easier,
                        "capacity": generator.normal(),
                    },
                })  # fmt: skip
    return runs


def test_what_an_arm_moves_is_found() -> None:
    rows = {row["measure"]: row for row in moved(made_up(), "ntp")}
    assert rows.keys() == {"tube_loss", "anisotropy", "capacity"}
    assert rows["tube_loss"]["difference"] == pytest.approx(-0.4, abs=0.03)
    assert rows["tube_loss"]["low"] < -0.4 < rows["tube_loss"]["high"]
    assert rows["tube_loss"]["seeds"] == 6
    assert rows["tube_loss"]["p_holm"] == pytest.approx(3 * rows["tube_loss"]["p"])
    assert rows["tube_loss"]["p_holm"] < 0.001 < rows["capacity"]["p_holm"]


def test_groups_of_one_seed_are_one_number() -> None:
    """What a seed does in both groups counts once, so twice the groups give no shorter interval."""
    runs = made_up()
    for run in runs:
        run["measures"]["tube_loss"] = 1.4 - 0.1 * run["seed"] * (run["arm"] == "tube")
    rows = {row["measure"]: row for row in moved(runs, "ntp")}
    wanted = paired_t_test([-0.1 * seed for seed in range(6)])
    assert rows["tube_loss"]["p"] == pytest.approx(wanted.p_two_sided)


def test_a_measure_without_its_pair_is_left_out() -> None:
    runs = made_up()
    for run in runs:
        if run["arm"] == "ntp" and run["seed"] > 1:
            del run["measures"]["capacity"]
    rows = {row["measure"]: row for row in moved(runs, "ntp")}
    assert rows["capacity"]["seeds"] == 2
    assert rows["tube_loss"]["seeds"] == 6


def test_what_tells_the_score_is_found_within_groups() -> None:
    rows = {row["measure"]: row for row in tells_accuracy(made_up(), within=("group",))}
    assert rows["anisotropy"]["rho"] == pytest.approx(1)
    assert rows["anisotropy"]["p_holm"] < 0.01 < rows["capacity"]["p_holm"]


def test_what_sets_arms_apart_does_not_count_within_them() -> None:
    runs = made_up()
    for run in runs:
        run["score"] += 0.5 * (run["arm"] == "tube")
    over, within = (
        {row["measure"]: row for row in tells_accuracy(runs, within=names)}
        for names in (("group",), ("group", "arm"))
    )
    assert over["tube_loss"]["rho"] < -0.6
    assert over["tube_loss"]["p_holm"] < 0.01
    assert abs(within["tube_loss"]["rho"]) < 0.5
    assert within["tube_loss"]["p_holm"] > 0.05


def test_the_table_is_read_by_family(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(
        "checkpoint,layer,example,measure,length,null,value\n"
        "a,last,r:1,tube_loss,,,1\na,last,r:2,tube_loss,,,2\n"
        "a,last,r:1,noise_to_signal,8,,3\na,last,r:1,noise_to_signal,4,,9\n"
        "a,last,,capacity,,,4\na,last,,capacity_radius,,,5\n"
        "a,,,tube_loss,,memoryless points,1.5\n"
    )
    assert measures_of(tmp_path / "table.csv") == {
        "tube_loss": 1.5, "noise_to_signal, 8 tokens": 3.0, "capacity": 4.0,
    }  # fmt: skip


def test_the_family_is_of_measures_that_there_are() -> None:
    for measure, length in FAMILY:
        assert bool(length) == bool(MEASURES[measure].lengths), measure


def test_the_cone_is_tested_where_one_half_is_its_null() -> None:
    assert ("cone_exponent_sampled_since_divergence", "") in FAMILY
    assert not [measure for measure, _ in FAMILY if measure.endswith("since_prompt")]


def test_a_probe_made_otherwise_is_refused(tmp_path: Path) -> None:
    asked = ProbeOptions(layers="last", limit=200, output=str(tmp_path))
    settings = asdict(replace(asked, task="exact", output="elsewhere")) | {"models": ["a"]}
    told = {"format": PROBE_FORMAT, "settings": settings}
    (tmp_path / "probe.json").write_text(json.dumps(told))
    check_probe(tmp_path, asked)
    for changed in ({"limit": 50}, {"layers": "1"}, {"seed": 3}):
        (tmp_path / "probe.json").write_text(json.dumps(told | {"settings": settings | changed}))
        name, value = next(iter(changed.items()))
        with pytest.raises(UserError, match=f"was made with {name} {value!r}.*wanted.*remove it"):
            check_probe(tmp_path, asked)
    # Its numbers have the same names and are others.
    (tmp_path / "probe.json").write_text(json.dumps(told | {"format": 2}))
    with pytest.raises(UserError, match="was made with format 2: wanted 3; remove it"):
        check_probe(tmp_path, asked)


def test_no_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study"):
        geometry_of_runs(tmp_path, limit=3)
    with pytest.raises(SystemExit, match=r"semtube: .* holds no study"):
        main([str(tmp_path), "--output", str(tmp_path / "x.json")])


@pytest.mark.slow
def test_a_study_from_end_to_end(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "study"
    run_study(STUDY, StudyFolder(folder), InThisProcess())
    main([str(folder), "--output", str(tmp_path / "out.json"), "--limit", "8"])
    result = json.loads((tmp_path / "out.json").read_text())
    assert len(result["runs"]) == len(list((folder / "probes").iterdir()))
    assert {run["arm"] for run in result["runs"]} == set(STUDY.arms)
    assert markdown(result) in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (folder / "probes").glob("*/table.csv")}
    again = geometry_of_runs(folder, limit=8)
    assert again["runs"] == result["runs"]
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "probes").glob("*/table.csv")}
    assert read_json(folder / "study.json")["primary"] == again["primary"]
    with pytest.raises(UserError, match="was made with limit 8"):
        geometry_of_runs(folder, limit=9)
