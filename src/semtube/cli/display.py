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
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from semtube.config import RunConfig
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


class GridProgress:
    """One line per run of a grid: waiting, step by step, its result."""

    def __init__(self, console: Console, configs: Sequence[RunConfig]) -> None:
        self._configs = configs
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
        )
        self._tasks = [
            self._progress.add_task(
                f"{config.objective:<4} {config.fraction:>5.0%} of rows, seed {config.seed}",
                total=config.steps,
                start=False,
                status="waiting",
            )
            for config in configs
        ]

    def __enter__(self) -> GridProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def listener(self, number: int, config: RunConfig) -> RunListener:
        """What the given run reports to."""
        task = self._tasks[number]
        self._progress.start_task(task)
        self._progress.update(task, status="reading data")

        def on_step(metrics: dict[str, Any]) -> None:
            loss = metrics.get("loss")
            tube = f", tube loss {metrics['term_loss']:.2f}" if "term_loss" in metrics else ""
            if loss is not None:
                self._progress.update(
                    task, completed=metrics["step"], status=f"next-token loss {loss:.3f}{tube}"
                )

        def on_decoded(num_done: int) -> None:
            self._progress.update(task, status=f"decoded {num_done} test rows")

        if number > 0:  # every run has the same rows: what is to be said of them is said once
            return RunListener(on_step=on_step, on_decoded=on_decoded)
        return RunListener(
            say=lambda sentence: self._progress.console.print(
                sentence, soft_wrap=True, highlight=False, markup=False
            ),
            show_tokens=lambda source, tokens: show_tokens(self._progress.console, source, tokens),
            on_step=on_step,
            on_decoded=on_decoded,
        )

    def finish(self, number: int, result: dict[str, Any]) -> None:
        """Show a run's result."""
        task = self._tasks[number]
        self._progress.start_task(task)
        share = result["metrics"]["exact_match"]["mean"]
        self._progress.update(
            task, completed=result["num_steps"], status=f"exact match {share:.1%}"
        )
        self._progress.stop_task(task)
