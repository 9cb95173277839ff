"""Scores of runs in a CSV file: one line a run."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semtube.errors import UserError

COLUMNS = ("arm", "num_examples", "seed")

Scores = dict[tuple[int, int], float]
"""(number of examples, seed) -> score, of one arm."""


def read_scores(path: str | Path, score: str) -> dict[str, Scores]:
    """The scores of every arm, arms in the order of the file.

    Args:
        score: the column to read; others than it and COLUMNS are passed over.

    Raises:
        UserError: no file, no UTF-8, no rows, a column missing, or a row that is short or long,
            doubled, or holds something else than it should; begins with file:line, from 1.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; wanted a CSV file with one line a run")
    found: dict[str, Scores] = {}
    first_line: dict[tuple[str, int, int], int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            _check_header(path, reader.fieldnames, score)
            for row in reader:
                place = f"{path}:{reader.line_num}"
                arm, size, seed, value = _parse(row, score, place)
                before = first_line.setdefault((arm, size, seed), reader.line_num)
                if before != reader.line_num:
                    raise UserError(
                        f"{place}: arm {arm!r} with {size} examples and seed {seed} stands in line "
                        f"{before} already; wanted one line a run"
                    )
                found.setdefault(arm, {})[size, seed] = value
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: wanted UTF-8 text ({error})") from error
    except csv.Error as error:
        raise UserError(f"{path}: wanted CSV ({error})") from error
    if not found:
        raise UserError(f"{path}: holds no runs; wanted one line a run under the column names")
    return found


def _check_header(path: Path, names: object, score: str) -> None:
    names = list(names) if isinstance(names, (list, tuple)) else []
    for name in (*COLUMNS, score):
        if names.count(name) != 1:
            how = "has two columns" if name in names else "lacks the column"
            shown = ", ".join(map(str, names)) or "nothing"
            raise UserError(f"{path}:1: {how} {name!r}; its columns: {shown}")


def _parse(row: Mapping[str | None, object], score: str, place: str) -> tuple[str, int, int, float]:
    if None in row or None in row.values():
        raise UserError(f"{place}: wanted as many fields as there are column names")
    arm, size, seed, value = (str(row[name]).strip() for name in (*COLUMNS, score))
    if not arm:
        raise UserError(f"{place}, column 'arm': wanted a name, got nothing")
    if not (size.isascii() and size.isdigit() and int(size) > 0):
        raise UserError(
            f"{place}, column 'num_examples': wanted a whole number above 0, got {size!r}"
        )
    if not (seed.isascii() and seed.isdigit()):
        raise UserError(f"{place}, column 'seed': wanted a whole number, got {seed!r}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{place}, column {score!r}: wanted a finite number, got {value!r}")
    return arm, int(size), int(seed), number


@dataclass(frozen=True)
class Grid:
    """Scores of one or more arms (A) at the same sizes (F) and seeds (S)."""

    sizes_F: np.ndarray
    seeds: tuple[int, ...]
    scores_AFS: np.ndarray
    left_out: tuple[str, ...]


def full_grid(arms: Mapping[str, Scores]) -> Grid:
    """The sizes that all arms have, and the seeds that have run at all of them in all arms.

    `left_out` tells in sentences what is not used.

    Raises:
        UserError: no size in all arms, or no seed at all sizes of all arms.
    """
    sizes = sorted(set.intersection(*({size for size, _ in s} for s in arms.values())))
    names = " and ".join(map(repr, arms))
    if not sizes:
        raise UserError(f"{names} have no number of examples in common")
    every = set.union(*({seed for _, seed in scores} for scores in arms.values()))
    missing = {
        seed: [f"{a!r} at {m}" for a, s in arms.items() for m in sizes if (m, seed) not in s]
        for seed in sorted(every)
    }
    seeds = tuple(seed for seed, where in missing.items() if not where)
    if not seeds:
        raise UserError(
            f"no seed has run at all of {', '.join(map(str, sizes))} examples in {names}: "
            + "; ".join(f"seed {seed} lacks {where[0]}" for seed, where in missing.items())
        )
    unused = {m for scores in arms.values() for m, _ in scores} - set(sizes)
    left_out = [f"{m} examples left out: not in all of {names}" for m in sorted(unused)]
    left_out += [f"seed {s} left out: not run for {w[0]}" for s, w in missing.items() if w]
    scores_AFS = np.array([[[s[m, seed] for seed in seeds] for m in sizes] for s in arms.values()])
    return Grid(np.array(sizes, dtype=float), seeds, scores_AFS, tuple(left_out))
