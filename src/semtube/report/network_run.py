"""One run of a network of the theory lab, along its training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semtube.report.network_points import losses_note
from semtube.report.panels import Panel, Point, write_panels


def draw_network_run(run: Mapping[str, Any], stem: Path) -> None:
    """Write what a run found of every level, as PNG, SVG and CSV.

    Args:
        run: learner ("slc" or "data2vec"), its settings, and metrics: its lines.
        stem: a path without suffix.
    """
    is_slc = run["learner"] == "slc"
    panels = epoch_panels(run) if is_slc else _strings_panels(run)
    title = "Stacked Latent Clustering" if is_slc else f"Encoder, {run['objective']}"
    write_panels(panels, title=title, notes=[run_note(run)], stem=stem)


def run_note(run: Mapping[str, Any]) -> str:
    """Which run it is, in a sentence."""
    count = "fresh strings" if run["num_strings"] is None else f"P = {run['num_strings']:,}"
    rest = "test strings"
    if run["learner"] == "slc":
        rest = f"{losses_note([run])}; validation strings"
    return (
        f"One run: v = {run['num_features']}, s = {run['branching']}, m = {run['num_synonyms']}, "
        f"L = {run['depth']}, {count}, seed {run['seed']}; {rest}."
    )


def epoch_panels(run: Mapping[str, Any]) -> list[Panel]:
    """Of SLC: accuracy and prediction loss of every module by epoch."""
    accuracy, loss = (
        [
            Point(f"module {module}", "ours", line["epoch"], value)
            for line in run["metrics"]
            for module, value in enumerate(line[name], start=1)
        ]
        for name in ("accuracy", "prediction_loss_nats")
    )
    return [
        Panel(
            "Level l, found by module l", "epoch", "accuracy", accuracy, log_x=False,
            y_domain=(0, 1),
        ),
        Panel("Level l - 1, predicted by module l", "epoch", "nats a token", loss, log_x=False),
    ]  # fmt: skip


def _strings_panels(run: Mapping[str, Any]) -> list[Panel]:
    """Of an encoder: probes of the root and of the levels by strings seen, from the start on."""
    root = [
        Point(name, "ours", line["num_strings_seen"], line[key])
        for line in run["metrics"]
        for name, key in (("linear probe", "root_linear"), ("MLP probe", "root_mlp"))
    ]
    levels = [
        Point(f"level {level}", "ours", line["num_strings_seen"], value)
        for line in run["metrics"]
        for level, value in enumerate(line["level_linear"], start=1)
    ]
    return [
        Panel("Root", "strings seen", "accuracy", root, log_x=False, y_domain=(0, 1)),
        Panel(
            "Levels, linear probe of the target", "strings seen", "accuracy", levels, log_x=False,
            y_domain=(0, 1),
        ),
    ]  # fmt: skip
