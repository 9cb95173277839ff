"""`semtube rhm`: the theory lab."""

from __future__ import annotations

import contextlib
import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from semtube.cli.parser import Parser
from semtube.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

ACTIONS = {
    "sample": "Draw a grammar and strings with all their latents.",
    "ilc": "Iterative Latent Clustering: how many strings own latents need, and tokens; seconds.",
    "slc": "Train one Stacked Latent Clustering network.",
    "data2vec": "Train one data2vec encoder, or the same encoder on tokens.",
    "figure": "Run what one figure of the paper needs, and draw it beside the paper's numbers.",
    "all": "All figures, one after the other.",
}
#: Faults of a grammar that are listed.
MAX_FAULTS = 10


def run(argv: list[str]) -> int:
    """Run one action of the lab."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: semtube rhm ACTION [options]\n\nactions:")
        for name, summary in ACTIONS.items():
            print(f"  {name:<10}{summary}")
        print("\nexample: semtube rhm ilc --output rhm/ilc")
        return 0
    if argv[0] not in ACTIONS:
        near = difflib.get_close_matches(argv[0], ACTIONS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(ACTIONS)}"
        raise UserError(f"no action {argv[0]!r}: {hint}")
    # A few dozen points are clustered at a time: threads would only wait for each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if argv[0] in ("figure", "all"):
        from semtube.cli.rhm_figures import run_all, run_figure

        return (run_figure if argv[0] == "figure" else run_all)(argv[1:])
    if argv[0] in ("slc", "data2vec"):
        from semtube.cli.rhm_networks import run_data2vec, run_slc

        return (run_slc if argv[0] == "slc" else run_data2vec)(argv[1:])
    return {"sample": _sample, "ilc": _ilc}[argv[0]](argv[1:])


def _add_grammar(parser: Parser, *, depth: int) -> None:
    parser.add_argument("--num_features", type=int, default=16, help="v, symbols of every level.")
    parser.add_argument("--num_synonyms", type=int, default=4, help="m, rules of every symbol.")
    parser.add_argument("--branching", type=int, default=2, help="s, children of every node.")
    parser.add_argument("--depth", type=int, default=depth, help="L, levels of rules.")
    parser.add_argument("--seed", type=int, default=0, help="Names grammars and strings.")
    parser.add_argument(
        "--degenerate",
        type=Literal["keep", "redraw"],
        default="keep",
        help="Keep grammars with an absent symbol or two nearly equal parents, or draw anew.",
    )


def _sizes(options: Any) -> dict[str, int]:
    names = ("num_features", "num_synonyms", "branching", "depth")
    return {name: getattr(options, name) for name in names}


def sample_parser() -> Parser:
    """Options of `rhm sample`."""
    parser = Parser(
        "rhm sample",
        usage="--output FILE.npz [options]",
        description=ACTIONS["sample"] + " The file holds level_0 (the tokens) to level_L (the "
        "root), each (strings, nodes), and rules (levels, symbols, rules, children).",
        example="semtube rhm sample --output strings.npz --num_strings 10000",
    )
    parser.add_argument("--output", type=str, required=True, help="New file.")
    parser.add_argument("--num_strings", type=int, default=1000, help="P, strings.")
    _add_grammar(parser, depth=4)
    return parser


def _sample(argv: list[str]) -> int:
    options = sample_parser().parse_args(argv)
    path = Path(options.output)
    if path.exists():
        raise UserError(f"output {str(path)!r} is there already: choose another output")
    if path.suffix != ".npz":
        raise UserError(f"output {str(path)!r}: the file's name must end in .npz")
    import numpy as np

    from semtube.rhm.counts import num_distinct_strings
    from semtube.rhm.degeneracy import degeneracies
    from semtube.rhm.grammar import Grammar
    from semtube.rhm.sweeps import cell_generator
    from semtube.run_folder import writing

    sizes = _sizes(options)
    grammar = Grammar.draw(
        **sizes,
        degenerate=options.degenerate,
        generator=cell_generator(options.seed, "grammar", **sizes),
    )
    latents = grammar.sample(options.num_strings, cell_generator(options.seed, "strings", **sizes))
    # At f = 1 no two parents differ: there is nothing to list.
    faults = [str(fault) for fault in degeneracies(grammar.rules)] if grammar.f < 1 else []
    arrays: dict[str, Any] = {"rules": np.stack(grammar.rules)}
    arrays |= {f"level_{level}": symbols for level, symbols in enumerate(latents)}
    part = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(part, **arrays)
            part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    count = num_distinct_strings(grammar)
    shown = f"{count:,}" if count < 10**15 else f"about 10^{len(str(count)) - 1}"
    print(f"{path}: {options.num_strings:,} of {shown} strings of {grammar.num_tokens} tokens")
    print(f"f = {grammar.f:.3g} of all tuples are grammatical")
    if grammar.f == 1:
        print("At f = 1 all strings are equally likely: nothing can be learned from them.")
    for fault in faults[:MAX_FAULTS]:
        print(f"degenerate: {fault}")
    if len(faults) > MAX_FAULTS:
        print(f"degenerate: {len(faults) - MAX_FAULTS:,} more")
    return 0


def ilc_parser() -> Parser:
    """Options of `rhm ilc`."""
    parser = Parser(
        "rhm ilc",
        usage="--output FOLDER [options]",
        description="Iterative Latent Clustering with one target or several, on the same grammars "
        "and strings: accuracy of the highest level below the root, and the numbers of strings at "
        "which it crosses 50 % and 90 %. An interrupted run goes on by the same command.",
        example="semtube rhm ilc --output rhm/ilc --depth 4",
    )
    parser.add_argument("--output", type=str, required=True, help="Folder for cells and curves.")
    parser.add_argument(
        "--target",
        nargs="+",
        type=Literal["latent", "token", "root"],
        default=["latent", "token"],
        help="What a tuple predicts: decoded cousins, their first leaf, the label (supervised).",
    )
    parser.add_argument(
        "--positions",
        type=Literal["one", "all"],
        default="all",
        help="Tuples of a string that are counted; the root target always takes one.",
    )
    parser.add_argument(
        "--contexts", type=Literal["one", "all"], default="all", help="Symbols of the cousins."
    )
    parser.add_argument(
        "--num_strings",
        nargs="+",
        type=int | None,
        help="P, several numbers; unset: v m^3 / 4, doubled up to 4 times the largest threshold.",
    )
    parser.add_argument("--num_grammars", type=int, default=4, help="Grammars of every point.")
    parser.add_argument("--num_restarts", type=int, default=6, help="Of k-means.")
    parser.add_argument("--workers", type=int, default=1, help="Processes.")
    _add_grammar(parser, depth=4)
    return parser


def _ilc(argv: list[str]) -> int:
    options = ilc_parser().parse_args(argv)
    from rich.console import Console

    from semtube.report.rhm import draw_ilc
    from semtube.rhm.ilc import LatentClustering
    from semtube.rhm.ilc_sweep import doubling_grid, ilc_cells, run_ilc_cell, thresholds
    from semtube.rhm.sweeps import write_rows

    sizes = _sizes(options)
    targets = list(dict.fromkeys(options.target))
    points = options.num_strings
    if points is None:
        points = doubling_grid(targets, **sizes)
    cells = [
        cell
        for target in targets
        for cell in ilc_cells(
            LatentClustering(
                target,
                positions="one" if target == "root" else options.positions,
                contexts=options.contexts,
                num_restarts=options.num_restarts,
            ),
            **sizes,
            num_strings=points,
            num_grammars=options.num_grammars,
            seed=options.seed,
            degenerate=options.degenerate,
        )
    ]
    console = Console()
    folder = Path(options.output)
    rows = sweep(console, "clustering", cells, folder / "cells", run_ilc_cell, options.workers)
    write_rows(rows, folder / "cells.csv")
    measured = [thresholds([row for row in rows if row["target"] == target]) for target in targets]
    draw_ilc(rows, measured, folder / "curves")
    _show_ilc(console, rows, measured)
    files = f"{folder}: curves.png, curves.svg, curves.csv, cells.csv"
    console.print(files, highlight=False, markup=False, soft_wrap=True)
    return 0


def _show_ilc(console: Console, rows: list[dict[str, Any]], measured: list[Any]) -> None:
    import numpy as np
    from rich.table import Table

    from semtube.rhm.scoring import log_median

    targets = [curve.target for curve in measured]
    table = Table(title="accuracy of the highest level below the root: median (lowest to highest)")
    for column in ("strings", *targets):
        table.add_column(column, justify="right")
    for count in sorted({row["num_strings"] for row in rows}):
        shown = []
        for target in targets:
            values = sorted(
                row["accuracy"][-1]
                for row in rows
                if (row["num_strings"], row["target"]) == (count, target)
            )
            middle = float(log_median(np.array(values)))
            shown.append(f"{middle:.2f} ({values[0]:.2f} to {values[-1]:.2f})")
        table.add_row(f"{count:,}", *shown)
    console.print(table)
    table = Table(title="strings at which the median grammar crosses, 95 % interval over grammars")
    for column in ("target", "theory", "50 %", "90 %"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for curve in measured:
        p50, p90 = curve.shown("p50"), curve.shown("p90")
        table.add_row(curve.target, f"{curve.theory:,.0f}", p50, p90)
    console.print(table)


def sweep(
    console: Console, what: str, cells: list[Any], folder: Path, run_cell: Any, workers: int
) -> list[dict[str, Any]]:
    """Run cells with a bar, and say where the finished ones are if it is interrupted."""
    from rich.progress import Progress

    from semtube.rhm.sweeps import run_sweep

    if workers < 1:
        raise UserError(f"workers is {workers}: at least 1 is needed")
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(what, total=len(cells))
            return run_sweep(
                cells,
                folder,
                run_cell,
                num_workers=workers,
                on_cell=lambda cell, result: bar.advance(task),
            )
    except KeyboardInterrupt:
        where = f"Finished cells are in {folder}: the same command goes on."
        console.print(where, highlight=False, markup=False, soft_wrap=True)
        raise
