"""One training run on an unmodified Hugging Face Trainer, the objective attached from outside."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainingArguments

from semtube.config import RunConfig
from semtube.data.rendering import Rendered
from semtube.data.tokens import Collator
from semtube.errors import UserError
from semtube.models.attach import attach
from semtube.models.decoder import find_decoder, find_state_module
from semtube.models.loading import LoadedModel
from semtube.objectives.tube import SemanticTube
from semtube.run_folder import RunFolder
from semtube.seeding import stream_seed
from semtube.training.callback import TermCallback
from semtube.training.monitor import TrainingMonitor


@dataclass(frozen=True)
class TrainingOutcome:
    """How training ended: steps done, and whether it was interrupted before the last."""

    num_steps: int
    interrupted: bool


class _Numbered(Dataset):
    """Rows with their numbers, so that a bad batch can be named."""

    def __init__(self, rows: Sequence[Rendered]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, Rendered]:
        return index, self.rows[index]


def build_objective(config: RunConfig) -> SemanticTube | None:
    """The configured objective; None for next-token prediction alone."""
    if config.objective == "ntp":
        return None
    try:
        return SemanticTube(weight=config.weight, **asdict(config.tube))
    except ValueError as error:
        raise UserError(f"objective 'tube': {error}") from error


def train(
    config: RunConfig,
    folder: RunFolder,
    loaded: LoadedModel,
    rows: Sequence[Rendered],
    validation_rows: Sequence[Rendered],
    *,
    resume: bool,
    on_progress: Callable[[dict[str, Any]], None],
) -> TrainingOutcome:
    """Train `loaded.model` in place and keep `metrics.jsonl` and the newest checkpoint.

    Both arms of a comparison take this path: same data order, steps, targets and gradient scale.

    Raises:
        UserError: the loss or the gradient is no longer finite, or the disk is full.
    """
    num_steps = num_training_steps(config, len(rows))
    objective = build_objective(config)
    checkpoint = _newest_checkpoint(folder.checkpoints) if resume else None
    monitor = TrainingMonitor(folder, rows, on_progress)
    trainer = Trainer(
        model=loaded.model,
        args=_arguments(config, folder, num_steps, validation=bool(validation_rows)),
        data_collator=Collator(loaded.tokenizer.pad_token_id, with_roles=objective is not None),
        train_dataset=_Numbered(rows),
        eval_dataset=_Numbered(validation_rows) if validation_rows else None,
        processing_class=loaded.tokenizer,
        callbacks=[monitor],
    )
    trainer.remove_callback(PrinterCallback)  # the listener shows the log
    with ExitStack() as stack:
        stack.enter_context(monitor.watching(loaded.model))
        stack.enter_context(monitor.ending_on_signals())
        if objective is not None:
            attachment = stack.enter_context(
                attach(loaded.model, objective, seed=stream_seed(config.seed, "spans"))
            )
            # First in line, so that trackers see the term too.
            trainer.callback_handler.callbacks.insert(0, TermCallback(attachment))
        try:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except OSError as error:
            raise UserError(
                f"output {str(folder.path)!r} cannot be written ({error.strerror or error}); the "
                f"last whole checkpoint is kept: make room, then `semtube train --resume "
                f"{folder.path}`"
            ) from error
    done = trainer.state.global_step
    return TrainingOutcome(done, monitor.interrupted and done < num_steps)


def num_training_steps(config: RunConfig, num_rows: int) -> int:
    """Optimizer steps of a run: `steps`, or `epochs` passes over its rows."""
    if config.steps is not None:
        return config.steps
    steps_per_epoch = -(-num_rows // config.batch_size)
    return max(1, round(config.epochs * steps_per_epoch))


def use_bf16(config: RunConfig) -> bool:
    """Whether to run forward and backward in bf16 autocast; weights stay float32 either way."""
    if config.precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return config.precision == "bf16"


def _arguments(
    config: RunConfig, folder: RunFolder, num_steps: int, *, validation: bool
) -> TrainingArguments:
    checkpoint_every = config.checkpoint_every or max(1, num_steps // 10)
    assert config.learning_rate is not None, "a run's settings are resolved before it trains"
    return TrainingArguments(
        output_dir=str(folder.checkpoints),
        max_steps=num_steps,
        per_device_train_batch_size=config.batch_size // config.accumulation_steps,
        per_device_eval_batch_size=config.batch_size // config.accumulation_steps,
        gradient_accumulation_steps=config.accumulation_steps,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type=config.schedule
        if config.schedule != "constant"
        else "constant_with_warmup",
        warmup_steps=round(config.warmup_fraction * num_steps),
        max_grad_norm=config.max_grad_norm,
        bf16=use_bf16(config),
        seed=stream_seed(config.seed, "dropout"),
        data_seed=stream_seed(config.seed, "order"),
        # Every step, so that a run stopped anywhere and resumed has the metrics of an unbroken one.
        logging_steps=1,
        # A bad loss must be seen, not replaced by an average.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=checkpoint_every,
        save_total_limit=1,
        eval_strategy="steps" if validation else "no",
        eval_steps=checkpoint_every if validation else None,
        prediction_loss_only=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=config.report_to or "none",
        run_name=folder.path.name,
        disable_tqdm=True,
    )


def _newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint (its state is written last); half-written ones are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        if (path / "trainer_state.json").is_file():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def check_trainable(config: RunConfig, model: Any) -> None:
    """Find out before anything is written whether this model can be trained as configured.

    A checkpoint holds weights and two moments of what is trained; one is whole while the next is
    written, and the final weights come on top.

    Raises:
        UserError: the objective's layer does not exist, or the disk is too full.
    """
    objective = build_objective(config)
    if objective is not None:
        find_state_module(model, find_decoder(model), objective.layer)
    folder = Path(config.output).absolute()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    all_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    needed = 2 * (trained + 2 * trained) + all_bytes
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"output {config.output!r} has {free / 1e9:.1f} GB free and checkpoints of this "
            f"model need {needed / 1e9:.1f} GB: make room, or choose another output"
        )
