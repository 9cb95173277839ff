"""Probe every final run of a study, and hold the measures against its arms and its scores."""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from semtube.config import ProbeOptions
from semtube.errors import UserError
from semtube.geometry.measures import PROBE_FORMAT
from semtube.run_folder import RunFolder, read_json, write_json
from semtube.seeding import stream_seed
from semtube.statistics.holm import holm
from semtube.statistics.intervals import t_interval
from semtube.statistics.paired import paired_t_test
from semtube.statistics.rank_correlation import rank_correlation
from semtube.study.environment import describe_environment
from semtube.study.probe import probe_models

#: What is tested, fixed beforehand so that the family is: (measure, length in tokens). What a
#: probe lacks is left out: the share of the views where its rows are few beside the width.
FAMILY: tuple[tuple[str, str], ...] = (
    ("tube_loss", ""), ("span_loss", ""), ("turning_angle", ""), ("chord_over_path", ""),
    ("tube_deviation_relative", "8"), ("noise_to_signal", "8"), ("effective_rank", ""),
    ("first_share", ""), ("anisotropy", ""), ("views_residual_share", ""), ("concept_within", ""),
    ("capacity", ""), ("feature_stability", ""), ("stop_log_probability", ""),
    ("near_collision_share_sampled", ""), ("cell_margin", ""),
    ("cone_exponent_sampled_since_divergence", ""),
)  # fmt: skip
Measures = Mapping[str, float]


def main(argv: Sequence[str] | None = None) -> None:
    """The command of studies/09_geometry.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, help="the folder of a study that is done")
    parser.add_argument("--output", type=Path, required=True, help="JSON with every number")
    parser.add_argument("--limit", type=int, default=200, help="test rows that are probed")
    asked = parser.parse_args(argv)
    try:
        result = geometry_of_runs(asked.study, limit=asked.limit, say=print)
    except UserError as error:
        raise SystemExit(f"semtube: {error}") from None
    write_json(asked.output, result)
    print(markdown(result))


def geometry_of_runs(
    folder: Path, *, limit: int, say: Any = lambda sentence: None
) -> dict[str, Any]:
    """Every number as plain values. What is probed already is not probed again.

    Args:
        folder: of a study; each run's probe is kept in FOLDER/probes.
        limit: test rows that are probed, the first ones.

    Raises:
        UserError: no study there, no final run with its test rows read, or a probe made otherwise.
    """
    if not (folder / "study.json").is_file():
        raise UserError(f"{str(folder)!r} holds no study (no study.json)")
    study = read_json(folder / "study.json")
    store = folder / study["runs"]
    runs = [run for run in read_json(folder / "plan.json")["runs"] if run["phase"] == "final"]
    found = []
    for number, run in enumerate(runs, start=1):
        place = RunFolder(store / run["run"])
        reading = place.readings / "test" / "metrics.json"
        if not reading.is_file():
            continue
        probe = folder / "probes" / run["run"]
        options = _options(place, probe, limit)
        if probe.is_dir():
            check_probe(probe, options)
        else:
            say(f"probing {number} of {len(runs)}: {run['arm']}, {_told(run['point'])}")
            probe.parent.mkdir(exist_ok=True)
            probe_models([str(place.path)], options)
        point = {axis: value for axis, value in run["point"].items() if axis != "seed"}
        found.append(
            {
                "run": run["run"],
                "arm": run["arm"],
                "seed": run["point"]["seed"],
                "group": _told(point),
                "score": read_json(reading)[study["primary"]]["mean"],
                "measures": measures_of(probe / "table.csv"),
            }
        )
    if not found:
        raise UserError(f"{str(folder)!r} has no final run that is done")
    return {
        "study": study["name"],
        "primary": study["primary"],
        "baseline": study["baseline"],
        "num_examples": limit,
        "moved": moved(found, study["baseline"]),
        "tells_accuracy": tells_accuracy(found, within=("group",)),
        "tells_accuracy_within_arms": tells_accuracy(found, within=("group", "arm")),
        "runs": found,
        "environment": describe_environment(),
    }


def _told(point: Mapping[str, float]) -> str:
    return ", ".join(f"{axis} {value:g}" for axis, value in point.items())


def _options(run: RunFolder, output: Path, limit: int) -> ProbeOptions:
    config = run.read_config()
    # A run of a task reads that task's test split; one of one's own rows, its test file.
    data = config["test"] if config["data"] is not None else None
    return ProbeOptions(data=data, layers="last", limit=limit, output=str(output))


def check_probe(probe: Path, options: ProbeOptions) -> None:
    """Refuse a probe made by a version whose measures mean otherwise, or with other settings.

    Raises:
        UserError: naming the format or the first setting that differs.
    """
    told = read_json(probe / "probe.json")
    settings = {"format": told["format"]} | told["settings"]
    for name, wanted in ({"format": PROBE_FORMAT} | asdict(options)).items():
        # What is unset is filled in from the run.
        if name != "output" and wanted is not None and settings.get(name, wanted) != wanted:
            raise UserError(
                f"{str(probe)!r} was made with {name} {settings[name]!r}: wanted {wanted!r}; "
                "remove it, and it is made anew"
            )


def measures_of(table: Path) -> dict[str, float]:
    """Means over rows of the family's measures, of the last layer probed or of none."""
    sums: dict[str, list[float]] = defaultdict(list)
    with table.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            key = (line["measure"], line["length"])
            if key in FAMILY and not line["null"]:
                sums[_name(*key)].append(float(line["value"]))
    return {name: float(np.mean(values)) for name, values in sums.items()}


def moved(runs: Sequence[Mapping[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """Every arm minus the baseline in every measure, paired by seed; p after Holm.

    A seed's differences in several groups share its start and its rows: their mean is one number.
    """
    by_place = {(run["arm"], run["group"], run["seed"]): run["measures"] for run in runs}
    arms = dict.fromkeys(run["arm"] for run in runs if run["arm"] != baseline)
    rows = []
    for arm in arms:
        for name in _names(runs):
            by_seed: dict[Any, list[float]] = defaultdict(list)
            for (of, group, seed), measures in by_place.items():
                base = by_place.get((baseline, group, seed), {})
                if of == arm and name in measures and name in base:
                    by_seed[seed].append(measures[name] - base[name])
            if len(by_seed) < 2:
                continue
            differences = [float(np.mean(values)) for values in by_seed.values()]
            interval = t_interval(differences, 0.95)
            assert interval is not None, "two differences have an interval"
            values = [run["measures"][name] for run in runs
                      if run["arm"] == baseline and name in run["measures"]]  # fmt: skip
            rows.append(
                {"arm": arm, "measure": name, "baseline": float(np.mean(values)),
                 "difference": float(np.mean(differences)), "low": interval.low,
                 "high": interval.high, "seeds": len(differences),
                 "p": paired_t_test(differences).p_two_sided}
            )  # fmt: skip
    return _with_holm(rows)


def tells_accuracy(
    runs: Sequence[Mapping[str, Any]], *, within: Sequence[str]
) -> list[dict[str, Any]]:
    """Rank correlation of every measure with the score over all runs, within groups; Holm.

    Args:
        within: what runs of one group share. With the arm in it, what sets arms apart does not
            count, as it does not where an arm's seeds are taken for runs of their own.
    """
    rows = []
    for name in _names(runs):
        with_it = [run for run in runs if name in run["measures"]]
        found = rank_correlation(
            [run["measures"][name] for run in with_it],
            [run["score"] for run in with_it],
            [tuple(run[name] for name in within) for run in with_it],
            generator=np.random.default_rng(stream_seed(0, "bootstrap")),
        )
        rows.append(
            {"measure": name, "rho": found.rho, "p": found.p, "runs": found.num_runs,
             "low": found.interval.low if found.interval else None,
             "high": found.interval.high if found.interval else None}
        )  # fmt: skip
    return _with_holm(rows)


def _with_holm(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    tested = {str(place): row["p"] for place, row in enumerate(rows) if row["p"] is not None}
    corrected = holm(tested)
    return [{**row, "p_holm": corrected.get(str(place))} for place, row in enumerate(rows)]


def _names(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [n for n in (_name(*key) for key in FAMILY) if any(n in run["measures"] for run in runs)]


def _name(measure: str, length: str) -> str:
    return f"{measure}, {length} tokens" if length else measure


def markdown(result: Mapping[str, Any]) -> str:
    """The tables."""
    lines = [
        "| arm | measure | baseline | difference | 95 % interval | p (Holm) |",
        "|---|---|---:|---:|---|---:|",
    ]
    for row in result["moved"]:
        lines.append(
            f"| {row['arm']} | {row['measure']} | {row['baseline']:.4g} | {row['difference']:+.4g} "
            f"| {row['low']:+.4g} to {row['high']:+.4g} | {_p(row['p_holm'])} |"
        )
    for key, where in (("tells_accuracy", "all runs"), ("tells_accuracy_within_arms", "one arm")):
        lines += ["", f"| measure | rho with the score, {where} | 95 % interval | p | p (Holm) |",
                  "|---|---:|---|---:|---:|"]  # fmt: skip
        for row in result[key]:
            rho = "-" if row["rho"] is None else f"{row['rho']:+.2f}"
            between = "-" if row["low"] is None else f"{row['low']:+.2f} to {row['high']:+.2f}"
            lines.append(
                f"| {row['measure']} | {rho} | {between} | {_p(row['p'])} | {_p(row['p_holm'])} |"
            )
    return "\n".join(lines)


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
