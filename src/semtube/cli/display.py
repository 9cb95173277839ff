"""What a run looks like in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from semtube.data.tokens import TokenView
from semtube.study.run import RunListener


def show_tokens(console: Console, source: str, tokens: Sequence[TokenView]) -> None:
    """One example: stretches of tokens that share role, training and trajectory, one a line."""
    table = Table(title=Text(f"{source}: what the model sees, learns and walks through"), box=None)
    table.add_column("role")
    table.add_column("trained")
    table.add_column("trajectory")
    table.add_column("tokens", overflow="fold")

    def kind(token: TokenView) -> tuple[str, bool, bool]:
        return token.role, token.is_target, token.in_trajectory

    for (role, is_target, in_trajectory), group in groupby(tokens, key=kind):
        style = "bold green" if is_target else "" if in_trajectory else "dim"
        table.add_row(
            role,
            "yes" if is_target else "-",
            "yes" if in_trajectory else "-",
            Text(" ".join(token.text for token in group)),
            style=style,
        )
    console.print(table)


def metrics_table(metrics: dict[str, dict[str, float]], title: str) -> Table:
    """Rates in per cent and losses as they are, each with its 95 % interval."""
    table = Table(title=Text(title))
    for column in ("metric", "value", "95 % interval", "rows"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, values in metrics.items():
        is_rate = "num_unjudged" in values

        def shown(key: str, values: Any = values, is_rate: bool = is_rate) -> str:
            if values[key] is None:
                return "-"
            return f"{100 * values[key]:.1f}" if is_rate else f"{values[key]:.4f}"

        table.add_row(
            name.replace("_", " "),
            shown("mean") + (" %" if is_rate and values["mean"] is not None else ""),
            f"{shown('low')} to {shown('high')}" if values["low"] is not None else "-",
            f"{values['num_examples']:,}",
        )
    return table


def step_line(metrics: dict[str, Any]) -> str:
    """One logged step in one line."""
    parts = [f"step {metrics['step']:>6,}"]
    for key, label in (
        ("loss", "next-token loss"),
        ("term_loss", "tube loss"),
        ("grad_norm", "gradient norm"),
        ("validation_loss", "validation loss"),
    ):
        if key in metrics:
            parts.append(f"{label} {metrics[key]:.4f}")
    return "  ".join(parts)


class RunProgress:
    """One run: its notes, a line now and then, and in a terminal a bar with the time left.

    Args:
        log_every: steps between lines.
    """

    def __init__(self, console: Console, *, log_every: int) -> None:
        self._console = console
        self._log_every = log_every
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> RunProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def listener(self) -> RunListener:
        """What the run reports to."""
        return RunListener(
            say=lambda sentence: self._console.print(
                sentence, soft_wrap=True, highlight=False, markup=False
            ),
            show_tokens=lambda source, tokens: show_tokens(self._console, source, tokens),
            on_start=lambda total: self._begin("training", total),
            on_step=self._on_step,
            on_decode_start=lambda total: self._begin("decoding the test rows", total),
            on_decoded=self._advance,
        )

    def _begin(self, what: str, total: int) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=total)

    def _advance(self, completed: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=completed)

    def _on_step(self, metrics: dict[str, Any]) -> None:
        self._advance(metrics["step"])
        if metrics["step"] % self._log_every == 0 or "validation_loss" in metrics:
            self._console.print(step_line(metrics), soft_wrap=True, highlight=False, markup=False)
