"""The runs of networks that the paper's figures need, and what it lacks: as cells of a sweep.

Letters as in the paper: v symbols, m rules, s children, L levels, P strings.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from semtube.rhm.data2vec_settings import CPU_SIZE, Data2VecSettings
from semtube.rhm.network_settings import NetworkSettings
from semtube.rhm.paper import SLC_GRID, SLC_SIZES, SLC_THRESHOLDS
from semtube.rhm.slc_settings import ARMS, SLCSettings
from semtube.rhm.sweeps import Cell, cell_path

Size = Literal["small", "paper"]

#: Two cores: the plain sum of losses, which costs less than UPGrad.
SMALL_SLC: dict[str, Any] = {
    "num_features": 16, "num_synonyms": 4, "branching": 2, "depth": 3, "aggregation": "sum",
    "num_validation": 1000,
}  # fmt: skip
#: With values tuned on validation strings of seeds 11 to 14 at L = 4 and 4,096 strings, own latents
#: as targets: docs/log.md, section 8. (The paper tuned its own, with Optuna.)
SMALL_TUNED_SLC = SMALL_SLC | {
    "clustering_weight": 64.0, "similarity_threshold": 0.7, "sparsity_weight": 0.006,
}  # fmt: skip
#: Of the arms: those under which arm (c) fails and (a) learns. In the small size s (s - 1) D, which
#: makes a mean of the prediction loss; in the paper's, that (768) keeps (a) from learning, too. Of
#: the paper's size only (a) and (c) were seen, for six epochs of the plain sum: docs/log.md, 8.
ARMS_WEIGHT: dict[Size, float] = {"small": 128.0, "paper": 32.0}
PAPER_ARMS: dict[str, Any] = {
    "num_features": 10, "num_synonyms": 10, "branching": 3, "depth": 4, "codebook_size": 128,
}  # fmt: skip
SMALL_DATA2VEC: dict[str, Any] = CPU_SIZE | {
    "steps": 3000, "num_evaluations": 4, "probe_steps": 1000, "num_probe": 4096,
}  # fmt: skip
SMALL_NUM_SEEDS, PAPER_NUM_SEEDS = 2, 3


def depths(size: Size, seed: int) -> list[Cell]:
    """Figures 10 and 12: SLC at several depths."""
    if size == "small":
        return [
            _slc(SMALL_TUNED_SLC | {"depth": depth, "num_strings": count, "seed": seed + k})
            for depth in (3, 4)
            for count in (512, 2048, 4096)
            for k in range(SMALL_NUM_SEEDS)
        ]
    points = np.geomspace(3000, 32_000, 13).round().astype(int).tolist()
    sizes = {"num_features": 16, "num_synonyms": 8, "branching": 3}
    return [
        _slc(sizes | {"depth": depth, "num_strings": count, "seed": seed + k})
        for depth in (3, 4, 5, 6, 7)
        for count in points
        for k in range(PAPER_NUM_SEEDS)
    ]


def arms(size: Size, seed: int) -> list[Cell]:
    """Figure 9: local learning, with `ARMS_WEIGHT` of the clustering losses."""
    grid = np.geomspace(1000, 50_000, 11).round().astype(int).tolist()
    counts = [512, 4096] if size == "small" else grid
    return _arm_cells(size, seed, [ARMS_WEIGHT[size]], counts)


def clustering_weights(size: Size, seed: int) -> list[Cell]:
    """Not in the paper: the arms at one P, the clustering losses weighed more and more."""
    if size == "small":
        return _arm_cells(size, seed, [1.0, 8.0, 32.0, 128.0], [4096])
    return _arm_cells(size, seed, [1.0, 8.0, 32.0, 768.0], [10_456])


def _arm_cells(size: Size, seed: int, weights: list[float], counts: list[int]) -> list[Cell]:
    """Every arm at every weight and P."""
    sizes, num_seeds = {
        "small": (SMALL_SLC, SMALL_NUM_SEEDS),
        "paper": (PAPER_ARMS, PAPER_NUM_SEEDS),
    }[size]
    return [
        _slc(
            sizes
            | {"arm": arm, "clustering_weight": weight, "num_strings": count, "seed": seed + k}
        )
        for weight in weights
        for arm in ARMS
        for count in counts
        for k in range(num_seeds)
    ]


def synonyms(size: Size, seed: int) -> list[Cell]:
    """Figures 3 and 11, right: SLC with several numbers of rules."""
    if size == "small":
        sizes, rules, ratios, num_seeds = SMALL_TUNED_SLC, (3, 4), (0.5, 2, 4), SMALL_NUM_SEEDS
    else:
        sizes, rules, num_seeds = SLC_SIZES, tuple(SLC_THRESHOLDS), PAPER_NUM_SEEDS
        first, last = SLC_GRID["first_over_vm3"], SLC_GRID["last_over_vm3"]
        ratios = np.geomspace(first, last, SLC_GRID["num_points"])
    return [
        _slc(
            sizes
            | {
                "num_synonyms": m,
                "num_strings": round(ratio * sizes["num_features"] * m**3),
                "seed": seed + k,
            }
        )
        for m in rules
        for ratio in ratios
        for k in range(num_seeds)
    ]


def control(size: Size, seed: int) -> list[Cell]:
    """Not in the paper: SLC that predicts visible tokens, where own latents succeed.

    At the values tuned for own latents, so that the target alone differs.
    """
    if size == "small":
        sizes, counts, num_seeds = SMALL_TUNED_SLC, [4096], SMALL_NUM_SEEDS
    else:
        sizes = {"num_features": 16, "num_synonyms": 8, "branching": 3}
        counts, num_seeds = [9798, 32_000], PAPER_NUM_SEEDS
    return [
        _slc(sizes | {"target": "token", "depth": depth, "num_strings": count, "seed": seed + k})
        for depth in (3, 4)
        for count in counts
        for k in range(num_seeds)
    ]


def aggregation(size: Size, seed: int) -> list[Cell]:
    """Not in the paper: UPGrad and the plain sum at one size."""
    sizes = SMALL_TUNED_SLC | {"num_strings": 4096}
    if size == "paper":
        sizes = {"num_features": 16, "num_synonyms": 8, "branching": 3, "num_strings": 9798}
    return [_slc(sizes | {"aggregation": how, "seed": seed}) for how in ("sum", "upgrad")]


def online(size: Size, seed: int) -> list[Cell]:
    """Figures 4, 5 and 13: data2vec on fresh strings."""
    if size == "small":
        return [_data2vec(SMALL_DATA2VEC | {"seed": seed})]
    return [
        _data2vec({"num_synonyms": m, "steps": 2**16 if m < 5 else 2**18, "seed": seed})
        for m in (3, 4, 5, 6, 7)
    ]


def offline(size: Size, seed: int) -> list[Cell]:
    """Figure 14, and the baselines the paper lacks: the same strings again and again."""
    objectives = ("data2vec", "masked_token", "next_token", "stacked")
    if size == "small":
        return [
            _data2vec(SMALL_DATA2VEC | {"objective": name, "num_strings": 8192, "seed": seed})
            for name in objectives
        ]
    return [
        _data2vec({"num_synonyms": 3, "objective": name, "num_strings": count, "seed": seed})
        for name in objectives
        for count in (1000, 3000, 10_000, 30_000)
    ]


GROUPS: dict[str, Callable[[Size, int], list[Cell]]] = {
    "depths": depths,
    "arms": arms,
    "clustering_weights": clustering_weights,
    "synonyms": synonyms,
    "control": control,
    "aggregation": aggregation,
    "online": online,
    "offline": offline,
}
#: Figure of the paper -> the group it needs.
FIGURE_GROUPS = {
    "3": "synonyms", "4": "online", "5": "online", "9": "arms", "10": "depths",
    "11": "synonyms", "12": "depths", "13": "online", "14": "offline",
}  # fmt: skip


def run_network_cell(cell: Cell, folder: Path) -> dict[str, Any]:
    """Train one network in a folder of its own below `folder`; an interrupted one goes on.

    Returns:
        result: see `run_slc` or `run_data2vec`; metrics: its lines; cpu_seconds: of this process,
        so of the last start alone.
    """
    import torch

    from semtube.rhm.data2vec_training import run_data2vec
    from semtube.rhm.slc_training import run_slc

    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # cells side by side use the cores better
    begin = time.process_time()
    run_folder = Path(folder) / cell_path(folder, cell).stem
    values = {name: value for name, value in cell.items() if name != "learner"}
    if cell["learner"] == "slc":
        result = run_slc(SLCSettings(**values), run_folder)
    else:
        result = run_data2vec(Data2VecSettings(**values), run_folder)
    lines = (run_folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "result": result,
        "metrics": [json.loads(line) for line in lines],
        "cpu_seconds": round(time.process_time() - begin, 1),
    }


def _slc(values: dict[str, Any]) -> Cell:
    return _cell("slc", SLCSettings(**values))


def _data2vec(values: dict[str, Any]) -> Cell:
    return _cell("data2vec", Data2VecSettings(**values))


def _cell(learner: str, settings: NetworkSettings) -> Cell:
    return {"learner": learner, **asdict(settings)}
