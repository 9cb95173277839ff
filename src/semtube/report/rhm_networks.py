"""Figures 9, 10 and 12 of the latents paper, of SLC; and all of its networks' figures by name.

Letters as in the paper: v symbols, m rules for each, s children, L levels, P strings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from semtube.errors import UserError
from semtube.report.network_points import (
    OVER_VM3,
    PAPER_NOTE,
    Rows,
    listed,
    losses_note,
    means,
    slc_family,
)
from semtube.report.network_run import epoch_panels, run_note
from semtube.report.panels import Panel, Point, write_panels
from semtube.report.rhm_encoders import (
    draw_figure_4,
    draw_figure_5,
    draw_figure_13,
    draw_figure_14,
)
from semtube.rhm.paper import DEPTH_SWEEP, LAYER_CROSSINGS, LOCAL_LEARNING

#: Arm -> its name in the legend, in the paper's order.
ARM_NAMES = {
    "ema": "EMA",
    "ema_local": "EMA, stop between modules",
    "local": "no EMA, stop between modules",
    "local_cut": "no EMA, stop everywhere",
}
LOCAL_LATENT_THEORY = 10 * 10**3
DEPTH_LATENT_THEORY = 16 * 8**3


def draw_network_figure(name: str, rows: Rows, stem: Path) -> None:
    """Write one figure as PNG, SVG and CSV.

    Args:
        name: a key of `NETWORK_FIGURES`.
        rows: those it does not show are passed over.
        stem: a path without suffix.

    Raises:
        UserError: no such figure, or no run that it shows.
    """
    if name not in NETWORK_FIGURES:
        raise UserError(f"no figure {name!r}: use one of {', '.join(NETWORK_FIGURES)}")
    what, learner, is_shown, draw = NETWORK_FIGURES[name]
    shown = [row for row in rows if row["learner"] == learner and is_shown(row)]
    if not shown:
        raise UserError(f"figure {name} ({what}): none of the {len(rows)} runs is shown by it")
    draw(shown, stem)


def slc_curve_rows(rows: Rows) -> list[dict[str, Any]]:
    """Runs of plain SLC as `draw_figure_3` and `draw_figure_11` of `semtube.report.rhm` take them.

    Accuracy is that of the MLP probe of the root: for s = 2 a linear one cannot hold all rules.
    """
    names = ("num_features", "num_synonyms", "branching", "depth", "num_strings")
    plain = [row for row in rows if row["learner"] == "slc" and _is_plain(row)]
    return [
        {name: row[name] for name in names}
        | {"grammar": row["seed"], "accuracy": row["result"]["root_accuracy"]["mlp"]}
        for row in (slc_family(plain, "num_synonyms") if plain else [])
    ]


def _figure_9(rows: Rows, stem: Path) -> None:
    """Local learning: accuracy of every arm against the number of strings."""
    rows = slc_family(rows, "arm")
    root = means(rows, _arm, lambda row: row["result"]["root_accuracy"]["linear"])
    root += [
        Point(arm, "paper", strings / LOCAL_LATENT_THEORY, accuracy)
        for arm, curve in LOCAL_LEARNING.items()
        for strings, accuracy in curve.items()
    ]
    top = means(rows, _arm, lambda row: row["result"]["test"]["accuracy"][-1])
    panels = [
        Panel("Root, linear probe", OVER_VM3, "accuracy", root, y_domain=(0, 1)),
        Panel("Highest level below the root", OVER_VM3, "accuracy", top, y_domain=(0, 1)),
    ]
    write_panels(panels, title="Where gradients stop", notes=_slc_notes(rows), stem=stem)


def _figure_10(rows: Rows, stem: Path) -> None:
    """Accuracy and prediction loss of every level by epoch, of one run."""
    run = max(rows, key=lambda row: (row["depth"], row["num_strings"], -row["seed"]))
    accuracy, loss = epoch_panels(run)
    paper = [
        Point(f"module {module}", "paper", epoch, 0.5) for module, epoch in LAYER_CROSSINGS.items()
    ]
    panels = [replace(accuracy, points=[*accuracy.points, *paper]), loss]
    notes = [
        run_note(run),
        PAPER_NOTE + " Each is where a level crosses 50 % (L = 7, P = 9,797).",
    ]
    write_panels(panels, title="Every level, epoch by epoch", notes=notes, stem=stem)


def _figure_12(rows: Rows, stem: Path) -> None:
    """Root accuracy against the number of strings, one curve a depth."""
    rows = slc_family(rows, "depth")
    panels = []
    for kind, title in (("linear", "Root, linear probe"), ("mlp", "Root, MLP probe")):
        points = means(
            rows, lambda row: f"L = {row['depth']}",
            lambda row, kind=kind: row["result"]["root_accuracy"][kind],
        )  # fmt: skip
        if kind == "linear":
            points += [
                Point(f"L = {depth}", "paper", strings / DEPTH_LATENT_THEORY, accuracy)
                for depth, curve in DEPTH_SWEEP.items()
                for strings, accuracy in curve.items()
            ]
        panels.append(Panel(title, OVER_VM3, "accuracy", points, y_domain=(0, 1)))
    write_panels(
        panels,
        title="What the highest codes know of the root, by depth",
        notes=_slc_notes(rows),
        stem=stem,
    )


def _is_plain(row: Mapping[str, Any]) -> bool:
    return row["arm"] == "ema" and row["target"] == "latent"


def _is_own_latents(row: Mapping[str, Any]) -> bool:
    return row["target"] == "latent"


def _is_online(row: Mapping[str, Any]) -> bool:
    return row["num_strings"] is None and row["objective"] == "data2vec"


def _is_offline(row: Mapping[str, Any]) -> bool:
    return row["num_strings"] is not None


#: Figure -> what it shows, the learner and the runs it needs, and how it is drawn.
NETWORK_FIGURES: dict[
    str, tuple[str, str, Callable[[Mapping[str, Any]], bool], Callable[[Rows, Path], None]]
] = {
    "4": ("data2vec online, root accuracy", "data2vec", _is_online, draw_figure_4),
    "5": ("data2vec online, synonym scores", "data2vec", _is_online, draw_figure_5),
    "9": ("SLC with gradients stopped", "slc", _is_own_latents, _figure_9),
    "10": ("SLC by level and epoch", "slc", _is_plain, _figure_10),
    "12": ("SLC at several depths", "slc", _is_plain, _figure_12),
    "13": ("data2vec by block and level", "data2vec", _is_online, draw_figure_13),
    "14": ("data2vec and token baselines offline", "data2vec", _is_offline, draw_figure_14),
}


def _arm(row: Mapping[str, Any]) -> str:
    return ARM_NAMES[row["arm"]]


def _slc_notes(rows: Rows) -> list[str]:
    seeds = len({row["seed"] for row in rows})
    note = (
        f"v = {listed(rows, 'num_features')}, s = {listed(rows, 'branching')}, "
        f"m = {listed(rows, 'num_synonyms')}, L = {listed(rows, 'depth')}, "
        f"{losses_note(rows)}, {seeds} seeds: means, and bars "
        "from lowest to highest. Test strings at the best validation epoch."
    )
    return [note, PAPER_NOTE + " Its s = 3; a linear probe cannot hold all rules of s = 2."]
