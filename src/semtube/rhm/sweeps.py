"""Resumable sweeps: every cell of a grid is one small JSON file, written whole.

A cell is a flat dict of plain values that says everything its result depends on, its seed
included, so neither order, interruption nor the number of processes changes a number.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from semtube.errors import UserError
from semtube.run_folder import read_json, write_json, write_text, writing

Cell = dict[str, Any]


def cell_generator(seed: int, part: str, **key: Any) -> np.random.Generator:
    """The generator of one part of a cell, a function of the arguments alone.

    Args:
        seed: of the study.
        part: what is drawn, say "grammar".
        key: the settings that this draw may depend on. Two cells that agree on them draw alike.
    """
    text = json.dumps([seed, part, key], sort_keys=True)
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest(), "big"))


def cell_path(folder: Path, cell: Cell) -> Path:
    """Where a cell's result is kept."""
    digest = hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:20]}.json"


def run_sweep(
    cells: Sequence[Cell],
    folder: str | Path,
    run_cell: Callable[[Cell], dict[str, Any]],
    *,
    num_workers: int = 1,
    on_cell: Callable[[Cell, dict[str, Any]], None] = lambda cell, result: None,
) -> list[dict[str, Any]]:
    """Run the cells that the folder does not hold yet.

    Args:
        cells: no two alike.
        folder: made if it is missing.
        run_cell: a cell's result, plain values; a function of a module if num_workers > 1.
        num_workers: processes.
        on_cell: told every cell with its result, stored ones first.

    Returns:
        One dict a cell, in the order of `cells`: its settings and its result.

    Raises:
        UserError: a stored file is damaged or of another cell; the folder cannot be written; what
            `run_cell` raises, with the cell that raised it.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    results: dict[Path, dict[str, Any]] = {}
    missing = []
    for cell in cells:
        path = cell_path(folder, cell)
        if path.is_file():
            results[path] = read_cell(path, cell)
            on_cell(cell, results[path])
        else:
            missing.append(cell)
    if num_workers > 1 and len(missing) > 1:
        # Spawned, not forked: torch and OpenMP do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            num_workers, mp_context=context, initializer=_die_when_interrupted
        ) as pool:
            futures = {
                pool.submit(_run_and_store, cell, folder, run_cell): cell for cell in missing
            }
            try:
                for future in as_completed(futures):
                    cell = futures[future]
                    results[cell_path(folder, cell)] = future.result()
                    on_cell(cell, future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    else:
        for cell in missing:
            result = results[cell_path(folder, cell)] = _run_and_store(cell, folder, run_cell)
            on_cell(cell, result)
    return [{**cell, **results[cell_path(folder, cell)]} for cell in cells]


def read_cell(path: Path, cell: Cell) -> dict[str, Any]:
    """A stored result.

    Raises:
        UserError: the file is damaged, or holds another cell.
    """
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("cell") != cell or "result" not in stored:
        raise UserError(f"{path} does not hold the cell it is named for: delete it to run it anew")
    return stored["result"]


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A CSV with one line a cell; lists of numbers get a column for each, words share one."""
    flat = []
    for row in rows:
        flat.append({})
        for name, value in row.items():
            if isinstance(value, list) and value and not isinstance(value[0], str):
                flat[-1] |= {f"{name}_{place}": x for place, x in enumerate(value, 1)}
            else:
                flat[-1][name] = "; ".join(value) if isinstance(value, list) else value
    names = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    write_text(path, text.getvalue())


def _die_when_interrupted() -> None:
    """A terminal interrupts workers too: theirs would go on to cells that wait in the queue."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run_and_store(
    cell: Cell, folder: Path, run_cell: Callable[[Cell], dict[str, Any]]
) -> dict[str, Any]:
    try:
        result = run_cell(cell)
    except UserError as error:
        settings = ", ".join(f"{name} {value}" for name, value in cell.items())
        raise UserError(f"{error} (in the cell {settings})") from error
    write_json(cell_path(folder, cell), {"cell": cell, "result": result})
    return result
