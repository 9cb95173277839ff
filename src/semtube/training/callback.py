"""Give a Hugging Face Trainer's log the term's value, and the term the Trainer's step."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from semtube.models.attach import Attachment


class TermCallback(TrainerCallback):
    """For any `Trainer` or `SFTTrainer` that trains an attached model.

        with semtube.attach(trainer.model, objective) as attachment:
            trainer.add_callback(TermCallback(attachment))
            trainer.train()

    Training works without it; with it the term is logged as `term_loss` beside the host's own
    `loss`, which stays pure next-token loss, and a resumed run draws the triplets it would have
    drawn.
    """

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment

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
        values = self.attachment.pop_logs()
        logs.update(values)
        # The host has stored its own copy of the line already.
        state.log_history[-1].update(values)
