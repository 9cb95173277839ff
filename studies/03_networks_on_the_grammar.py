"""Do networks learn a grammar from their own latents with v m^3 strings, and from tokens?

    python studies/03_networks_on_the_grammar.py --quick --runs studies-out/rhm_networks \\
        --output results/rhm_networks.json

Hypotheses, written before the first run, from arXiv 2605.27734 and its section of small checks:
Stacked Latent Clustering (SLC) finds the highest level below the root with at least 0.9 at
4 v m^3 strings at both depths and stays low below 0.5 v m^3; without teacher it collapses unless
predictor and clusterer are cut apart, and the other arms do not; with visible tokens as targets it
falls behind, the more the deeper the grammar; UPGrad and the plain sum of losses do alike.
data2vec is not expected to show its threshold at a size for two cores; whether its probe beats the
untrained encoder's there is open. The paper holds a second, stacked level to be redundant.

Added after the first runs, in which the arm without teacher did not collapse: the same arms with
the clustering losses weighed more (group clustering_weights). Hypothesis: the more they weigh, the
more they spoil the predictions of that arm, and of no other. Seeds 0, 11 and 12 had shown it.

--quick: v = 16, s = 2, m = 4, v m^3 = 1,024 for SLC, 30 epochs, two seeds, plain sum;
v = 8, s = 2, m = 4, L = 3 for encoders of 4 layers and width 64, one seed, 384,000 strings seen,
learning rate 1e-3 in place of the paper's 1e-4 for width 2,048. Expected: fifty minutes on one
core. Without --quick the sizes and grids of the paper, for GPUs: by its own account
about a hundred hours for SLC and more for data2vec.

SLC was tuned after the first runs, for own latents and the plain sum at L = 4 and 4 v m^3, on
other seeds (`SMALL_TUNED_SLC` in semtube.rhm.network_sweep); tokens and UPGrad run with the same,
the arms with the paper's values. data2vec was not tuned. A cell that stands under --runs is not run
again, and an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Before numpy comes: cells side by side use the cores better than threads do.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from semtube.rhm.network_sweep import GROUPS, run_network_cell
from semtube.rhm.sweeps import Cell, run_sweep
from semtube.run_folder import write_json
from semtube.study.environment import describe_environment


def run_cell(cell: Cell, folder: Path) -> dict[str, Any]:
    """One run, with the commit it was made at."""
    return run_network_cell(cell, folder) | {"commit": describe_environment()["commit"]}


def rounded(value: Any) -> Any:
    """Five significant digits, to keep the file small."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, list):
        return [rounded(part) for part in value]
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return value


def slc_table(rows: list[dict[str, Any]]) -> str:
    """Test scores at the best validation epoch, and codes in use at the last one; Markdown."""
    lines = [
        "| v | L | m | P / v m^3 | target | arm | losses | weight | S_m | lambda_spars | "
        "accuracy at L-1 | at 1 | root, MLP | root, linear | fewest codes at the end |",
        "| --- " * 15 + "|",
    ]
    names = ("num_features", "depth", "num_synonyms", "num_strings", "target", "arm", "aggregation")
    names += ("clustering_weight", "similarity_threshold", "sparsity_weight")
    slc = [row for row in rows if row["learner"] == "slc"]
    for key in dict.fromkeys(tuple(row[name] for name in names) for row in slc):
        runs = [row for row in slc if tuple(row[name] for name in names) == key]
        results = [row["result"] for row in runs]
        v, depth, m, count, target, arm, how, weight, threshold, sparsity = key
        ratio = count / (v * m**3)
        top, low = (
            " / ".join(f"{r['test']['accuracy'][level]:.2f}" for r in results) for level in (-1, 0)
        )
        mlp, linear = (
            " / ".join(f"{r['root_accuracy'][kind]:.2f}" for r in results)
            for kind in ("mlp", "linear")
        )
        codes = " / ".join(f"{min(r['metrics'][-1]['effective_codes']):.1f}" for r in runs)
        lines.append(
            f"| {v} | {depth} | {m} | {ratio:g} | {target} | {arm} | {how} | {weight:g} | "
            f"{threshold:g} | {sparsity:g} | {top} | {low} | {mlp} | {linear} | {codes} |"
        )
    return "\n".join(lines)


def encoder_table(rows: list[dict[str, Any]]) -> str:
    """Test scores before training and where the root probe did best; Markdown."""
    lines = [
        "| objective | strings | root, MLP: before, best, end | root, linear | levels 1..L before "
        "| levels 1..L best | synonym score, third block, levels 1..L |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if row["learner"] != "data2vec":
            continue
        points = [row["result"][name] for name in ("initial", "best", "final")]
        mlp, linear = (
            ", ".join(f"{point[name]:.3f}" for point in points)
            for name in ("root_mlp", "root_linear")
        )
        before, best = (" ".join(f"{x:.2f}" for x in point["level_linear"]) for point in points[:2])
        block = min(2, row["num_layers"] - 1)
        scores = " ".join(
            "-" if level[block] is None else f"{level[block]:.2f}"
            for level in points[1]["synonym_scores"]
        )
        strings = f"{row['num_strings']:,}" if row["num_strings"] else "fresh"
        lines.append(
            f"| {row['objective']} | {strings} | {mlp} | {linear} | {before} | {best} | {scores} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the cells that are missing, store all, print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    size = "small" if options.quick else "paper"
    cells: list[Cell] = []
    for group in options.groups:
        cells += [cell for cell in GROUPS[group](size, options.seed) if cell not in cells]
    seconds = []

    def tell(cell: Cell, result: dict[str, Any]) -> None:
        seconds.append(result["cpu_seconds"])
        print(
            f"{len(seconds)} of {len(cells)} cells, {np.sum(seconds):,.0f} CPU seconds", flush=True
        )

    rows = run_sweep(
        cells, options.runs, partial(run_cell, folder=options.runs),
        num_workers=options.workers, on_cell=tell,
    )  # fmt: skip
    environment = describe_environment()
    environment.pop("commit")  # every cell has that of its own run
    environment["versions"] |= {name: version(name) for name in ("scipy", "torchjd")}
    write_json(options.output, {"environment": environment, "size": size, "cells": rounded(rows)})
    print(slc_table(rows))
    print(encoder_table(rows))


if __name__ == "__main__":
    main()
