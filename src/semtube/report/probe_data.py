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
from semtube.run_folder import read_json
from semtube.statistics.intervals import Interval, t_interval

FORMAT = 1
NULL = "null: "
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
        nulls: null -> (measure, length) -> value.
        curves, paths: what pictures are drawn from.
    """

    settings: Mapping[str, Any]
    checkpoints: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    rows: Mapping[Key, Mapping[str, float]]
    sets: Mapping[Key, float]
    nulls: Mapping[str, Mapping[tuple[str, int], float]]
    curves: Sequence[Mapping[str, Any]]
    paths: Sequence[Mapping[str, Any]]

    @property
    def names(self) -> list[str]:
        """The checkpoints; the first is what others are compared with."""
        return [checkpoint["name"] for checkpoint in self.checkpoints]

    @property
    def layers(self) -> list[str]:
        """Every layer of any checkpoint, first to last."""
        return list(dict.fromkeys(layer for c in self.checkpoints for layer in c["layers"]))

    def measures(self, *, of_sets: bool, with_length: bool = False) -> list[str]:
        """Measures that have a number in some layer."""
        keys = self.sets if of_sets else self.rows
        return list(
            dict.fromkeys(
                measure
                for _, layer, measure, length in keys
                if layer and (length != NO_LENGTH) == with_length
            )
        )

    def cell(self, name: str, layer: str, measure: str, length: int = NO_LENGTH) -> Cell | None:
        """A checkpoint's number; None where there is none."""
        key = (name, layer, measure, length)
        if key in self.sets:
            return Cell(self.sets[key], None, 0)
        if key not in self.rows:
            return None
        values = list(self.rows[key].values())
        return Cell(float(np.mean(values)), t_interval(values, CONFIDENCE), len(values))

    def difference(
        self, name: str, layer: str, measure: str, length: int = NO_LENGTH
    ) -> Cell | None:
        """A checkpoint minus the first one, paired by row; None for the first, or without pairs."""
        first = self.names[0]
        one = self.rows.get((first, layer, measure, length))
        two = self.rows.get((name, layer, measure, length))
        if name == first or one is None or two is None:
            return None
        values = [two[example] - one[example] for example in one if example in two]
        if not values:
            return None
        return Cell(float(np.mean(values)), t_interval(values, CONFIDENCE), len(values))

    def nearest_null(self, measure: str, length: int, value: float) -> str | None:
        """The null that gives most nearly this value; None where there is no null."""
        key = (measure, length)
        found = {null: abs(of[key] - value) for null, of in self.nulls.items() if key in of}
        return min(found, key=lambda null: found[null]) if found else None


def read_probe(folder: Path) -> ProbeData:
    """Read what `semtube probe` has written.

    Raises:
        UserError: no probe, or one of a newer version.
    """
    if not (folder / "probe.json").is_file():
        raise UserError(f"{str(folder)!r} holds no probe (no probe.json)")
    told = read_json(folder / "probe.json")
    if told["format"] > FORMAT:
        raise UserError(
            f"{str(folder)!r} was written by a newer semtube (format {told['format']}, this one "
            f"reads {FORMAT}): update semtube"
        )
    pictures = read_json(folder / "pictures.json")
    rows: dict[Key, dict[str, float]] = defaultdict(dict)
    sets: dict[Key, float] = {}
    nulls: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            name, layer, measure = line["checkpoint"], line["layer"], line["measure"]
            length, value = int(line["length"] or NO_LENGTH), float(line["value"])
            if name.startswith(NULL):
                nulls[name.removeprefix(NULL)][measure, length] = value
            elif line["example"]:
                rows[name, layer, measure, length][line["example"]] = value
            else:
                sets[name, layer, measure, length] = value
    return ProbeData(
        told["settings"], told["checkpoints"], told["environment"], dict(rows), sets, dict(nulls),
        pictures["curves"], pictures["paths"],
    )  # fmt: skip
