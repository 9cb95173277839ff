"""What a study looks like in a terminal."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from semtube.study.cost import ArmCost
from semtube.study.job import Outcome
from semtube.study.plan import PlannedRun
from semtube.study.runner import StudyListener
from semtube.study.store import Store


def plan_table(costs: Sequence[ArmCost], num_workers: int) -> Group:
    """Runs by arm, what is left of them, and the time that should take."""
    table = Table(title="plan")
    for column in ("phase", "arm", "runs", "done", "steps left", "seconds a step", "hours left"):
        table.add_column(column, justify="left" if column in ("phase", "arm") else "right")
    for cost in costs:
        known = cost.seconds_per_step is not None
        each = f"{cost.seconds_per_step:.3f} ({cost.source})" if known else cost.source
        hours = f"{_hours(cost):.2f}" if known or not cost.num_steps else "?"
        table.add_row(
            cost.phase, Text(cost.arm), f"{cost.num_runs:,}", f"{cost.num_done:,}",
            f"{cost.num_steps:,}", each, hours,
        )  # fmt: skip
    total = sum(_hours(cost) for cost in costs)
    sentence = f"About {total / num_workers:.1f} hours with {num_workers} workers"
    if any(cost.seconds_per_step is None and cost.num_steps for cost in costs):
        sentence += ", and what is marked ? beside"
    return Group(table, Text(f"{sentence}; decoding is not counted."))


def plan_lines(costs: Sequence[ArmCost]) -> str:
    """Every run with its id, a line each; without it where its settings are not chosen yet."""
    return "\n".join(
        f"{run.run or '-':<16}  {run_name(run)}{' (done)' if run.run in cost.done else ''}"
        for cost in costs
        for run in cost.runs
    )


def _hours(cost: ArmCost) -> float:
    return cost.num_steps * (cost.seconds_per_step or 0.0) / 3600


def run_name(run: PlannedRun) -> str:
    """Arm, point and tuned settings in one line."""
    values = {**run.point, **run.tried}
    told = ", ".join(f"{name} {_short(value)}" for name, value in values.items())
    return f"{run.phase} {run.arm}: {told}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class StudyProgress:
    """A line for every run that ends; in a terminal also what runs now and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False)
        self._shows_live = console.is_terminal
        self._runs: dict[str, PlannedRun] = {}
        self._store: Store | None = None
        self._phase = ""
        self._ended: set[str] = set()
        self._started = 0.0
        self._at_start = 0
        self.num_done = 0
        self.num_failed = 0

    def __enter__(self) -> StudyProgress:
        if self._shows_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows_live:
            self._live.stop()

    def listener(self) -> StudyListener:
        """What the study reports to."""
        return StudyListener(
            say=self._say, on_phase=self._on_phase, on_end=self._on_end, on_tick=self._on_tick
        )

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, soft_wrap=True, highlight=False, markup=False)

    def _on_phase(
        self, phase: str, runs: Sequence[PlannedRun], whole: Collection[str], store: Store
    ) -> None:
        self._runs, self._store, self._phase = {run.run: run for run in runs}, store, phase
        self._ended = set(whole)
        self._started = time.monotonic()
        self._at_start = len(whole)
        self._say(f"{phase}: {len(self._runs)} runs, {len(whole)} of them done already")

    def _on_end(self, run: PlannedRun, outcome: Outcome) -> None:
        self._ended.add(run.run)
        for note in outcome.notes:
            self._say(note)
        if outcome.status == "failed":
            self.num_failed += 1
            self._say(f"failed  {run_name(run)} ({run.run}): {outcome.error}")
        else:
            self.num_done += 1
            self._say(f"done    {run_name(run)} ({len(self._ended)} of {len(self._runs)})")

    def _on_tick(self) -> None:
        if self._shows_live:
            self._live.update(self._view(), refresh=True)

    def _view(self) -> Group:
        assert self._store is not None
        table = Table(box=None)
        table.add_column("running now")
        table.add_column("step", justify="right")
        for run in self._runs.values():
            folder = self._store.folder(run.run)
            if run.run in self._ended or folder.is_done or not folder.config.is_file():
                continue
            if step := self._store.step(run.run):
                table.add_row(Text(run_name(run)), f"{step:,}")
        return Group(table, Text(self.summary()))

    def summary(self) -> str:
        """Runs ended and failed, and the time that the others should take."""
        ended, total = len(self._ended), len(self._runs)
        sentence = f"{self._phase}: {ended} of {total} runs, {self.num_failed} failed"
        here = ended - self._at_start
        if here:
            # Since this start, on a clock that nobody sets.
            each = (time.monotonic() - self._started) / here
            sentence += f", about {timedelta(seconds=round(each * (total - ended)))} left"
        return sentence
