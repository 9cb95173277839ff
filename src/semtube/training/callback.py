"""Give a Hugging Face Trainer's log the term's value, and the term the Trainer's step."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from semtube.errors import UserError
from semtube.models.attachment import Attachment
from semtube.run_folder import read_json, write_json


class TermCallback(TrainerCallback):
    """For any `Trainer` or `SFTTrainer` that trains an attached model.

        with semtube.attach(trainer.model, objective) as attachment:
            TermCallback(attachment).add_to(trainer)
            trainer.train()

    Training works without it; with it the term is logged as `term_loss` beside the host's own
    `loss`, which stays pure next-token loss, and a resumed run draws the triplets it would have
    drawn. Each checkpoint says in `semtube.json` what it was trained with, and keeps in
    `semtube.safetensors` the learnable parts that PEFT would leave out.
    """

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment

    def add_to(self, trainer: Trainer) -> None:
        """Become the trainer's first callback, so that its trackers see the term too."""
        trainer.callback_handler.callbacks.insert(0, self)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Check that a resumed run goes on with the objective it was begun with.

        Raises:
            UserError: it does not, or the learnable parts are missing beside the adapters.
        """
        if getattr(args, "packing_strategy", None) == "wrapped" and getattr(args, "packing", False):
            warnings.warn(
                "packing_strategy='wrapped' cuts texts without marking where they begin, so the "
                "term runs across them: use 'bfd'",
                stacklevel=2,
            )
        if state.global_step == 0:
            return
        folder = _checkpoint(args, state)
        description, tensors = folder / "semtube.json", folder / "semtube.safetensors"
        if self._needs_own_file and not tensors.is_file():
            raise UserError(
                f"{str(folder)!r} has no semtube.safetensors, so the learnable parts of "
                f"{self.attachment.objective} cannot go on: resume with the TermCallback from a "
                "checkpoint that was saved with it"
            )
        if not description.is_file():
            warnings.warn(
                f"{str(folder)!r} was saved without TermCallback, so nobody knows whether it was "
                f"trained with {self.attachment.objective}",
                stacklevel=2,
            )
        else:
            parts = load_file(tensors) if self._needs_own_file else None
            self.attachment.load_state_dict({**read_json(description), "parts": parts})

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        saved = self.attachment.state_dict()
        # Every process takes part in putting sharded tensors together; one writes them.
        parts = {name: _whole(value) for name, value in saved.pop("parts").items()}
        if state.is_world_process_zero:
            folder = _checkpoint(args, state)
            if self._needs_own_file:
                save_file(parts, folder / "semtube.safetensors")
            write_json(folder / "semtube.json", saved)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.attachment.step = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or "loss" not in logs:
            return
        values = self.attachment.pop_logs(all_processes=True)
        logs.update(values)
        # The host has stored its own copy of the line already.
        state.log_history[-1].update(values)

    def has_parts_in(self, checkpoint: Path) -> bool:
        """Whether a checkpoint has the learnable parts, or the host's own files hold them."""
        names = ("semtube.safetensors", "semtube.json")  # the second is written last
        return not self._needs_own_file or all((checkpoint / name).is_file() for name in names)

    @property
    def _needs_own_file(self) -> bool:
        """Whether the host's checkpoints leave the parts out: PEFT saves adapters alone."""
        return self.attachment.has_parts and hasattr(self.attachment.model, "peft_config")


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _whole(value: Tensor) -> Tensor:
    """A tensor of its own on the CPU, put together if it is sharded."""
    full = value.full_tensor() if hasattr(value, "full_tensor") else value
    return full.detach().cpu().contiguous().clone()
