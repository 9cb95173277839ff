"""Checkpoints in the order of their steps, whatever the clock said when they were written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class CheckpointOrder(TrainerCallback):
    """Date every checkpoint by its step, in seconds from 1970.

    The Trainer keeps the newest one by modification time. Once a clock is set back, that would be
    the one from before, and each new one would be removed as soon as it is written.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        _date_by_step(args)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        _date_by_step(args)


def _date_by_step(args: TrainingArguments) -> None:
    for path in Path(str(args.output_dir)).glob("checkpoint-*"):
        step = int(path.name.removeprefix("checkpoint-"))
        os.utime(path, (step, step))
