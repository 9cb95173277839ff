"""Watch a training run: write its metrics, stop it on a bad number, end it cleanly on demand."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from semtube.data.rendering import Rendered
from semtube.data.tokens import ROW_KEY
from semtube.errors import UserError
from semtube.run_folder import RunFolder, write_jsonl

_METRIC_NAMES = {
    "loss": "loss",
    "term_loss": "term_loss",
    "term_documents": "term_documents",
    "term_skipped": "term_skipped",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "eval_loss": "validation_loss",
    "gradient_next_token": "gradient_next_token",
    "gradient_term": "gradient_term",
    "gradient_cosine": "gradient_cosine",
    "term_weight": "term_weight",
}
#: What the names of measures of trajectories begin with, which are kept as they are.
_GEOMETRY = "geometry/"


class TrainingMonitor(TrainerCallback):
    """One run's metrics file, divergence check, interrupt and progress.

    Args:
        folder: where `metrics.jsonl` goes.
        rows: the training rows, to name those of a bad batch.
        on_progress: told each logged line of metrics.
    """

    def __init__(
        self,
        folder: RunFolder,
        rows: Sequence[Rendered],
        on_progress: Callable[[dict[str, Any]], None],
    ) -> None:
        self._folder = folder
        self._rows = rows
        self._on_progress = on_progress
        self._batches: list[Tensor] = []
        self._losses: list[Tensor] = []
        self.interrupted = False

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Take row numbers out of the batches and note the losses, while the block runs."""
        hooks = [
            model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
            model.register_forward_hook(self._after_forward),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def ending_on_signals(self) -> Iterator[None]:
        """Turn a first Ctrl-C or TERM into a checkpoint and an orderly end; a second one kills."""
        previous = {}

        def ask(number: int, frame: FrameType | None) -> None:
            self.interrupted = True
            signal.signal(number, previous[number])

        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _before_forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kwargs = dict(kwargs)
        numbers = kwargs.pop(ROW_KEY, None)
        if module.training and numbers is not None:
            self._batches.append(numbers)
        return args, kwargs

    def _after_forward(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if module.training:
            self._losses.append(output.loss.detach())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        # After a resume the file may hold lines from beyond the checkpoint.
        write_jsonl(self._folder.metrics, filter(None, map(_metrics_line, state.log_history)))

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **_: Any,
    ) -> None:
        """Stop before a bad gradient reaches the weights."""
        assert model is not None
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        loss = torch.stack(self._losses).sum()
        if not torch.isfinite(norm + loss):
            self._raise_diverged(state.global_step + 1, bool(torch.isfinite(loss)))
        self._losses.clear()
        self._batches.clear()

    def _raise_diverged(self, step: int, loss_is_finite: bool) -> None:
        numbers = torch.cat(self._batches).tolist()
        sources = [self._rows[number].source for number in numbers]
        named = ", ".join(sources[:8]) + (", ..." if len(sources) > 8 else "")
        what = "the gradient" if loss_is_finite else "the loss"
        raise UserError(
            f"step {step}: {what} is not finite in the batch of rows {named}; the last checkpoint "
            "is kept: look at those rows, or begin a new run with a lower learning rate"
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.interrupted:
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        line = _metrics_line(state.log_history[-1])
        if line is not None:
            with self._folder.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self._on_progress(line)


def _metrics_line(entry: dict[str, Any]) -> dict[str, Any] | None:
    values = {name: entry[key] for key, name in _METRIC_NAMES.items() if key in entry}
    values |= {key: value for key, value in entry.items() if key.startswith(_GEOMETRY)}
    return {"step": entry["step"], **values} if values else None
