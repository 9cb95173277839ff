"""`semtube rhm figure` and `semtube rhm all`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from semtube.cli.parser import Parser
from semtube.cli.rhm import ACTIONS, sweep
from semtube.errors import UserError
from semtube.rhm.data2vec_settings import Data2VecSettings
from semtube.rhm.slc_settings import SLCSettings
from semtube.run_folder import read_json


@dataclass(frozen=True)
class Request:
    """What a figure is asked for.

    Attributes:
        folder: where runs, cells and pictures are.
        size: "small", on a laptop; or "paper", the grids of the paper.
        seed: names grammars and strings.
        workers: processes.
        stored: a study's result file, if figures are to be drawn from one: `cells` of networks,
            or `results` of clustering.
        has_networks: whether figures 3 and 11 show networks beside clustering.
    """

    folder: Path
    size: Literal["small", "paper"]
    seed: int
    workers: int
    stored: dict[str, Any]
    has_networks: bool
    console: Console

    def stem(self, name: str) -> Path:
        """The picture's path without suffix."""
        return self.folder / f"figure_{name}_{self.size}"

    def clustering_rows(self) -> list[dict[str, Any]]:
        """Cells of figures 3 and 11, left."""
        from semtube.rhm.ilc_sweep import figure_3_cells, run_ilc_cell

        cells = figure_3_cells(self.size, seed=self.seed)
        folder = self.folder / "cells"
        return sweep(self.console, "clustering", cells, folder, run_ilc_cell, self.workers)

    def network_rows(self, name: str) -> list[dict[str, Any]]:
        """Cells of the networks that a figure shows."""
        if "cells" in self.stored:
            return self.stored["cells"]
        from semtube.rhm.network_sweep import FIGURE_GROUPS, GROUPS, run_network_cell

        cells = GROUPS[FIGURE_GROUPS[name]](self.size, self.seed)
        folder = self.folder / "networks"
        run_cell = partial(run_network_cell, folder=folder)
        return sweep(self.console, "networks", cells, folder, run_cell, self.workers)


def _clustering_and_network(name: str, request: Request) -> None:
    from semtube.report.rhm import draw_figure_3, draw_figure_11
    from semtube.report.rhm_networks import slc_curve_rows

    draw = draw_figure_3 if name == "3" else draw_figure_11
    clustering = request.clustering_rows()
    networks = slc_curve_rows(request.network_rows(name)) if request.has_networks else []
    draw(clustering, networks, request.stem(name))


def _networks(name: str, request: Request) -> None:
    from semtube.report.rhm_networks import draw_network_figure

    draw_network_figure(name, request.network_rows(name), request.stem(name))


def _thresholds(name: str, request: Request) -> None:
    from semtube.report.rhm import draw_thresholds
    from semtube.rhm.acceptance import acceptance_curves
    from semtube.rhm.ilc_sweep import run_ilc_cell, thresholds

    if "results" in request.stored:
        results = request.stored["results"]
        curves = max(results, key=lambda result: result["num_grammars"])["curves"]
        draw_thresholds(curves, request.stem(name))
        return
    curves = []
    for curve in acceptance_curves("small" if request.size == "small" else "full"):
        cells = curve.cells(seed=request.seed)
        what = f"{curve.target}, L = {curve.depth}, m = {curve.num_synonyms}"
        folder = request.folder / "cells"
        rows = sweep(request.console, what, cells, folder, run_ilc_cell, request.workers)
        curves.append(thresholds(rows).as_json())
    draw_thresholds(curves, request.stem(name))


#: Figure -> what it shows, and how it is made. Small networks take about a minute a run.
FIGURES: dict[str, tuple[str, Callable[[str, Request], None]]] = {
    "3": ("accuracy against P / (v m^3), clustering and networks", _clustering_and_network),
    "4": ("data2vec on fresh strings, root accuracy", _networks),
    "5": ("data2vec on fresh strings, synonym scores", _networks),
    "9": ("networks with gradients stopped", _networks),
    "10": ("a network by level and epoch", _networks),
    "11": ("figure 3 in the scaling of tokens", _clustering_and_network),
    "12": ("networks at several depths", _networks),
    "13": ("data2vec by block and level", _networks),
    "14": ("data2vec and token baselines on strings used again and again", _networks),
    "thresholds": ("strings that three targets need, against theory; ours", _thresholds),
}


def _parser(command: str, usage: str, example: str) -> Parser:
    shown = "; ".join(f"{name}: {what}" for name, (what, _) in FIGURES.items())
    parser = Parser(
        f"rhm {command}",
        usage=usage,
        description=f"{ACTIONS[command]} Writes PNG, SVG and CSV; runs that are done are not done "
        f"again. Figures: {shown}.",
        example=example,
    )
    parser.add_argument("--output", type=str, default="rhm-figures", help="Folder for all of it.")
    parser.add_argument(
        "--size",
        type=Literal["small", "paper"],
        default="small",
        help="Grids that fit a laptop, or those of the paper.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Names grammars and strings.")
    parser.add_argument("--workers", type=int, default=1, help="Processes.")
    parser.add_argument(
        "--results",
        type=str | None,
        metavar="FILE",
        help="Draw from a study's result file what it holds (networks, or thresholds); run the "
        "rest.",
    )
    parser.add_argument(
        "--networks",
        type=bool,
        default=True,
        help="Train networks; without, figures 3 and 11 show clustering alone, in a minute.",
    )
    return parser


def figure_parser() -> Parser:
    """Options of `rhm figure`."""
    parser = _parser("figure", "NAME [options]", "semtube rhm figure 3")
    parser.add_argument("name", metavar="NAME", type=str, help="One figure.")
    return parser


def all_parser() -> Parser:
    """Options of `rhm all`."""
    return _parser("all", "[options]", "semtube rhm all --output rhm-figures")


def run_figure(argv: list[str]) -> int:
    """Make one figure."""
    options = figure_parser().parse_args(argv)
    name = options.name.lower().removeprefix("figure").strip("_- ")
    if name not in FIGURES:
        near = difflib.get_close_matches(name, FIGURES, n=1) if not name.isdigit() else []
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(FIGURES)}"
        raise UserError(f"no figure {options.name!r}: {hint}")
    if FIGURES[name][1] is _networks and not options.networks:
        raise UserError(f"figure {name} shows networks alone: leave out --networks false")
    _make([name], options)
    return 0


def run_all(argv: list[str]) -> int:
    """Make every figure, or those without networks."""
    options = all_parser().parse_args(argv)
    names = [n for n, (_, make) in FIGURES.items() if options.networks or make is not _networks]
    _make(names, options)
    return 0


def _make(names: list[str], options: Any) -> None:
    console = Console()
    request = Request(
        folder=Path(options.output),
        size=options.size,
        seed=options.seed,
        workers=options.workers,
        stored=_read_results(options.results),
        has_networks=options.networks,
        console=console,
    )
    for name in names:
        FIGURES[name][1](name, request)
        console.print(
            f"{request.stem(name)}: .png, .svg, .csv", highlight=False, markup=False, soft_wrap=True
        )


SETTINGS = {"slc": SLCSettings, "data2vec": Data2VecSettings}
#: What a study's result file holds -> what each entry must have.
STORED = {"cells": {"learner", "result", "metrics"}, "results": {"num_grammars", "curves"}}


def _read_results(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    stored = read_json(Path(path))
    if not isinstance(stored, dict) or not set(STORED) & set(stored):
        raise UserError(f"{path} is no result file of a study of the lab: it has no cells")
    for name in set(STORED) & set(stored):
        rows = stored[name] if isinstance(stored[name], list) else []
        if not rows or not all(isinstance(row, dict) and STORED[name] <= set(row) for row in rows):
            wanted = ", ".join(sorted(STORED[name]))
            raise UserError(f"{path} is damaged: its {name} must be a list, each with {wanted}")
    for row in stored.get("cells", []):
        if row["learner"] not in SETTINGS:
            raise UserError(f"{path} is damaged: there is no learner {row['learner']!r}")
        kind = SETTINGS[row["learner"]]
        if missing := {field.name for field in fields(kind)} - set(row):
            raise UserError(
                f"{path} has cells of {row['learner']} without {', '.join(sorted(missing))}: it is "
                "damaged or of another version; run its study again"
            )
    return stored
