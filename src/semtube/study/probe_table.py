"""The table of a probe: one number a line, in long form, written as it is measured."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("checkpoint", "layer", "example", "measure", "length", "null", "value", "low", "high")


@dataclass(frozen=True)
class Row:
    """One number.

    Args:
        checkpoint: which model.
        layer: see `models.layer_states`; empty for what is of no layer, or for a null of any layer.
        example: file and line of the row; empty for a number of the whole set, and for a null.
        measure: of `geometry.measures.MEASURES`.
        value: see `TableWriter.add` for one that is not finite.
        length: in tokens, for a measure that has one.
        null: empty for what was measured; else the null whose value this is, for that checkpoint.
        low, high: a 95 % interval of a number of the whole set, where it has one.
    """

    checkpoint: str
    layer: str
    example: str
    measure: str
    value: float
    length: int | None = None
    null: str = ""
    low: float | None = None
    high: float | None = None


class TableWriter:
    """Takes rows one after another; nothing is held in memory."""

    def __init__(self, lines: csv.writer) -> None:  # type: ignore[valid-type]
        self._lines = lines

    def add(self, rows: Iterable[Row], reasons: dict[str, str]) -> None:
        """Write rows; one whose value is not finite says nothing and would spoil the page.

        Args:
            reasons: measure -> why it has no value, filled in.
        """
        for row in rows:
            if not math.isfinite(row.value):
                where = f"layer {row.layer}: " if row.layer else ""
                reasons[row.measure] = f"{where}its value is not a finite number"
                continue
            length = "" if row.length is None else row.length
            where = [row.checkpoint, row.layer, row.example, row.measure, length, row.null]
            numbers = (row.value, row.low, row.high)
            shown = ["" if number is None else f"{number:.9g}" for number in numbers]
            self._lines.writerow([*where, *shown])  # type: ignore[attr-defined]


@contextmanager
def writing_table(path: Path) -> Iterator[TableWriter]:
    """A table that appears whole at the end, or, after an error, not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(COLUMNS)
            yield TableWriter(lines)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
