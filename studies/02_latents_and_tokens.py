"""How many strings do own latents need, how many do tokens, and what does depth change?

    python studies/02_latents_and_tokens.py --runs studies-out/rhm_ilc \\
        --output results/rhm_ilc.json

Hypothesis, written before the first run, from the theory of arXiv 2605.27734: with own latents as
targets the number of strings at which the highest level below the root crosses 50 % does not
depend on the depth L and grows as m^3; with tokens as targets it grows by a factor of about m a
level and as m^(L+1). The two arms are one algorithm, Iterative Latent Clustering, on the same
grammars and strings, and differ in the target alone; a third predicts the root's label.

Sets A (v = 16, s = 2, m = 4, L = 3 to 6) and C (L = 4, m = 2 to 8) of `semtube.rhm.acceptance`,
4 grammars a curve, none left out, 14 numbers of strings a grammar. Asked for: latent P50 at
L = 3..6 within a factor 1.5; token P50 growing 3 to 6 times a level; slopes in m within 0.3 of 3
and L + 1; token over latent at L = 5 at least 20. The same with 20 grammars, the first 4 among
them, was added after the first run: with 4 the interval of the token's growth from L = 3 to 4
reached from below 5 to above 7 and could not tell.

Expected cost: three minutes on one core with 4 grammars, twenty-five with 20. A cell that
stands under --runs is not run again.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import astuple
from pathlib import Path
from typing import Any, Literal

# Before numpy comes: a few dozen points are clustered, and threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from semtube.rhm.acceptance import acceptance_checks, acceptance_curves
from semtube.rhm.ilc_sweep import run_ilc_cell, thresholds
from semtube.rhm.sweeps import run_sweep
from semtube.run_folder import write_json
from semtube.study.environment import describe_environment


def run(
    runs: Path, size: Literal["small", "full"], num_grammars: int, num_workers: int
) -> dict[str, Any]:
    """Run what is missing, print both tables, return the results."""
    print(f"\n{num_grammars} grammars; 95 % intervals over grammars in brackets")
    measured, curves, checks = [], [], []
    for curve in acceptance_curves(size):
        cells = curve.cells(num_grammars=num_grammars)
        rows = run_sweep(cells, runs, run_ilc_cell, num_workers=num_workers)
        found = thresholds(rows)
        measured.append(found)
        curves.append(found.as_json() | {"seconds": round(sum(r["seconds"] for r in rows), 1)})
        print(
            f"{curve.target:<7}L = {curve.depth}  m = {curve.num_synonyms}  theory "
            f"{curve.theory:>7,.0f}  P50 {found.shown('p50'):<28} P90 {found.shown('p90')}",
            flush=True,
        )
    for check in acceptance_checks(measured):
        high = None if check.high == float("inf") else check.high
        checks.append(
            {"name": check.name, "estimate": check.estimate.as_json(), "low": check.low,
             "high": high, "holds": check.holds}
        )  # fmt: skip
        wanted = f"at least {check.low:g}" if high is None else f"{check.low:g} to {high:g}"
        value, low, top = (f"{x:.2f}" for x in astuple(check.estimate))
        verdict = "holds" if check.holds else "does not hold"
        print(f"{check.name}: {value} ({low} to {top}), asked for {wanted}: {verdict}")
    return {"num_grammars": num_grammars, "curves": curves, "checks": checks}


def main() -> None:
    """Both numbers of grammars, and the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--grammars", type=int, nargs="+", default=[4, 20])
    parser.add_argument("--size", choices=("small", "full"), default="full")
    options = parser.parse_args()
    results = [
        run(options.runs, options.size, count, options.workers) for count in options.grammars
    ]
    write_json(options.output, {"environment": describe_environment(), "results": results})


if __name__ == "__main__":
    main()
