"""What a probe's folder holds, as its page reads it."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semtube.errors import UserError
from semtube.geometry.measures import MEASURES, PROBE_FORMAT
from semtube.models.layer_states import BEFORE_NORM, LAST
from semtube.run_folder import read_json
from semtube.statistics.intervals import Interval, t_interval

CONFIDENCE = 0.95
#: Of a measure without lengths.
NO_LENGTH = 0


@dataclass(frozen=True)
class Cell:
    """A number of a checkpoint: the mean over rows, or one of the whole set.

    Args:
        mean: over the rows that have a value.
        interval: over rows; None for one of a set, or of one row.
        num_rows: 0 for a number of a set.
    """

    mean: float
    interval: Interval | None
    num_rows: int


Key = tuple[str, str, str, int]
"""Checkpoint, layer, measure, length (`NO_LENGTH` for none)."""


@dataclass(frozen=True)
class ProbeData:
    """A probe.

    Args:
        settings: it was made with.
        checkpoints: what probe.json tells of each, in their order.
        rows: of each document's numbers, example -> value.
        sets: numbers of whole sets.
        nulls: null -> value; of layer "" those that hold in every layer.
        curves, cones, paths: what pictures are drawn from.
    """

    settings: Mapping[str, Any]
    checkpoints: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    rows: Mapping[Key, Mapping[str, float]]
    sets: Mapping[Key, float]
    nulls: Mapping[Key, Mapping[str, float]]
    curves: Sequence[Mapping[str, Any]]
    cones: Sequence[Mapping[str, Any]]
    paths: Sequence[Mapping[str, Any]]

    @property
    def names(self) -> list[str]:
        """The checkpoints."""
        return [checkpoint["name"] for checkpoint in self.checkpoints]

    @property
    def layers(self) -> list[str]:
        """Every layer of any checkpoint, first to last."""
        found = {layer for checkpoint in self.checkpoints for layer in checkpoint["layers"]}
        numbers = sorted((layer for layer in found if layer.isdigit()), key=int)
        return [*numbers, *(name for name in (BEFORE_NORM, LAST) if name in found)]

    def measures(self, *, of_sets: bool, with_length: bool = False) -> list[str]:
        """Measures that have a number in some layer; those of the cone have pictures of their own.

        With length, distances of the cone are left out: their lengths are steps.
        """
        keys = self.sets if of_sets else self.rows
        return list(
            dict.fromkeys(
                measure
                for _, layer, measure, length in keys
                if layer
                and (length != NO_LENGTH) == with_length
                and not measure.startswith("cone_distance")
            )
        )

    def cell(self, name: str, layer: str, measure: str, length: int = NO_LENGTH) -> Cell | None:
        """A checkpoint's number, its interval within the measure's range; None for none."""
        key = (name, layer, measure, length)
        if key in self.sets:
            return Cell(self.sets[key], None, 0)
        if key not in self.rows:
            return None
        found = _cell(list(self.rows[key].values()))
        if found.interval is None:
            return found
        about = MEASURES[measure]
        low, high = max(found.interval.low, about.low), min(found.interval.high, about.high)
        return Cell(found.mean, Interval(low, high, CONFIDENCE), found.num_rows)

    def compared_with(self, name: str) -> str | None:
        """The checkpoint that another is compared with."""
        return next(c["compared_with"] for c in self.checkpoints if c["name"] == name)

    def difference(
        self, name: str, layer: str, measure: str, length: int = NO_LENGTH
    ) -> Cell | None:
        """A checkpoint minus the one it is compared with, paired by row; None without pairs."""
        one = self.rows.get((self.compared_with(name) or "", layer, measure, length))
        two = self.rows.get((name, layer, measure, length))
        if one is None or two is None:
            return None
        values = [two[example] - one[example] for example in one if example in two]
        return _cell(values) if values else None

    def nulls_of(
        self, name: str, layer: str, measure: str, length: int = NO_LENGTH
    ) -> dict[str, float]:
        """Null -> value, for a checkpoint's number."""
        of = self.nulls
        return {
            **of.get((name, "", measure, length), {}),
            **of.get((name, layer, measure, length), {}),
        }


def _cell(values: Sequence[float]) -> Cell:
    return Cell(float(np.mean(values)), t_interval(values, CONFIDENCE), len(values))


def nearest_null(nulls: Mapping[str, float], value: float) -> str | None:
    """The null that gives most nearly this value; None where there is none."""
    return min(nulls, key=lambda null: abs(nulls[null] - value)) if nulls else None


def read_probe(folder: Path) -> ProbeData:
    """Read what `semtube probe` has written.

    Raises:
        UserError: no probe, or one of another version.
    """
    if not (folder / "probe.json").is_file():
        raise UserError(f"{str(folder)!r} holds no probe (no probe.json)")
    told = read_json(folder / "probe.json")
    if told["format"] != PROBE_FORMAT:
        todo = "update semtube" if told["format"] > PROBE_FORMAT else "probe the models again"
        raise UserError(
            f"{str(folder)!r} was written by another semtube (format {told['format']}, this one "
            f"reads {PROBE_FORMAT}): {todo}"
        )
    pictures = read_json(folder / "pictures.json")
    rows: dict[Key, dict[str, float]] = defaultdict(dict)
    sets: dict[Key, float] = {}
    nulls: dict[Key, dict[str, float]] = defaultdict(dict)
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            length, value = int(line["length"] or NO_LENGTH), float(line["value"])
            key = (line["checkpoint"], line["layer"], line["measure"], length)
            if line["null"]:
                nulls[key][line["null"]] = value
            elif line["example"]:
                rows[key][line["example"]] = value
            else:
                sets[key] = value
    return ProbeData(
        told["settings"], told["checkpoints"], told["environment"], dict(rows), sets, dict(nulls),
        pictures["curves"], pictures["cones"], pictures["paths"],
    )  # fmt: skip
