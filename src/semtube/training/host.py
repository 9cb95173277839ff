"""One training run on an unmodified Hugging Face Trainer, the objective attached from outside."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import get_reporting_integration_callbacks

from semtube.config import RunConfig
from semtube.data.rendering import Rendered
from semtube.data.tokens import Collator
from semtube.errors import UserError
from semtube.models.attach import attach
from semtube.models.decoder import causal_lm_of, find_decoder, find_state_module
from semtube.models.encoder import check_dropout
from semtube.models.loading import LoadedModel
from semtube.objectives import weights
from semtube.objectives.catalogue import OBJECTIVES, objective_from_dict
from semtube.objectives.objective import Objective
from semtube.objectives.r_drop import RDrop
from semtube.objectives.weights import Adaptive, Dropped, Ramp, Weight
from semtube.run_folder import RunFolder, WriteError
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


def build_objective(config: RunConfig, num_steps: int = 1) -> Objective | None:
    """The configured objective; None for next-token prediction alone.

    Args:
        num_steps: of the run, over which a weight schedule stretches.

    Raises:
        UserError: an option that the objective has not, or a value that it may not have.
    """
    if config.objective == "ntp":
        return None
    if "weight" in config.options:
        raise UserError("options has 'weight': use the option weight")
    try:
        default = OBJECTIVES[config.objective]().weight
        weight = {"weight": weights.to_plain(_weight(config, default, num_steps))}
        return objective_from_dict({"objective": config.objective, **config.options, **weight})
    except ValueError as error:
        raise UserError(str(error)) from error


def _weight(config: RunConfig, default: Weight, num_steps: int) -> Weight:
    """The configured weight and its course over the run."""
    if config.weight_schedule == "adaptive":
        return Adaptive() if config.weight is None else Adaptive(config.weight)
    if config.weight is not None:
        default = config.weight
    assert isinstance(default, float | int), "an objective's default weight is a number"
    if config.weight_schedule != "constant":
        return Ramp(default, num_steps, shape=config.weight_schedule)
    return Dropped(default, config.weight_dropout) if config.weight_dropout else default


def train(
    config: RunConfig,
    folder: RunFolder,
    loaded: LoadedModel,
    rows: Sequence[Rendered],
    *,
    resume: bool,
    on_progress: Callable[[dict[str, Any]], None],
    validate: Callable[[], float] | None,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainingOutcome:
    """Train `loaded.model` in place and keep `metrics.jsonl` and the newest checkpoint.

    Both arms of a comparison take this path: same data order, steps, targets and gradient scale.

    Args:
        validate: measures the validation loss at every checkpoint.
        callbacks: more of them, which see the log before it is written.

    Raises:
        UserError: the loss or the gradient is no longer finite.
        OSError: the disk is full; the last whole checkpoint is kept.
    """
    num_steps = num_training_steps(config, len(rows))
    objective = build_objective(config, num_steps)
    checkpoint = newest_checkpoint(folder.checkpoints) if resume else None
    monitor = TrainingMonitor(folder, rows, on_progress)
    trainer = Trainer(
        model=loaded.model,
        args=training_arguments(config, num_steps),
        data_collator=Collator(loaded.tokenizer.pad_token_id, with_roles=objective is not None),
        train_dataset=_Numbered(rows),
        processing_class=loaded.tokenizer,
        callbacks=[*callbacks, monitor],
    )
    trainer.remove_callback(PrinterCallback)  # the listener shows the log
    if validate is not None:
        trainer.add_callback(_Validation(trainer, validate))
    if checkpoint is not None and checkpoint.step >= num_steps:
        # Stopped between the last step and the result: nothing is left to train.
        trainer._load_from_checkpoint(str(checkpoint.path))
        return TrainingOutcome(num_steps, interrupted=False)
    with ExitStack() as stack:
        stack.enter_context(monitor.watching(loaded.model))
        stack.enter_context(monitor.ending_on_signals())
        # Autocast is wrapped around the model's forward; what is measured later runs without it.
        stack.callback(trainer.accelerator.unwrap_model, loaded.model, keep_fp32_wrapper=False)
        if objective is not None:
            attachment = stack.enter_context(
                attach(
                    loaded.model,
                    objective,
                    seed=stream_seed(config.seed, "spans"),
                    measure_gradients=config.geometry_every > 0,
                )
            )
            term = TermCallback(attachment)
            term.add_to(trainer)
            if checkpoint is not None and not term.has_parts_in(checkpoint.path):
                shutil.rmtree(checkpoint.path)  # stopped between the Trainer's files and ours
                checkpoint = None
        # PEFT looks for a config beside a GGUF base, to see whether embeddings grew: they do not.
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Could not find a config file", module="peft")
        # The run's own settings say it, where a stop or a full disk left out the file that does.
        warnings.filterwarnings("ignore", message=".* was saved without TermCallback")
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
    done = trainer.state.global_step
    return TrainingOutcome(done, monitor.interrupted and done < num_steps)


class _Validation(TrainerCallback):
    """Log the validation loss at every checkpoint, so that trackers see it too."""

    def __init__(self, trainer: Trainer, validate: Callable[[], float]) -> None:
        self._trainer = trainer
        self._validate = validate

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if control.should_save and (
            state.global_step % args.save_steps == 0 or state.global_step == state.max_steps
        ):
            self._trainer.log({"eval_loss": self._validate()})
            control.should_log = True  # which a log resets; the step's own is still to come


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


def training_arguments(config: RunConfig, num_steps: int) -> TrainingArguments:
    """The Trainer's settings for this run.

    Raises:
        ValueError: an unknown tracker, or a precision that the device lacks.
    """
    checkpoint_every = config.checkpoint_every or max(1, num_steps // 10)
    assert config.learning_rate is not None, "a run's settings are resolved before it trains"
    return TrainingArguments(
        output_dir=str(RunFolder(config.output).checkpoints),
        max_steps=num_steps,
        per_device_train_batch_size=config.batch_size // config.accumulation_steps,
        gradient_accumulation_steps=config.accumulation_steps,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type=config.schedule
        if config.schedule != "constant"
        else "constant_with_warmup",
        warmup_steps=round(config.warmup_fraction * num_steps),
        max_grad_norm=config.max_grad_norm,
        neftune_noise_alpha=config.neftune or None,
        bf16=use_bf16(config),
        use_cpu=not torch.cuda.is_available(),
        seed=stream_seed(config.seed, "dropout"),
        data_seed=stream_seed(config.seed, "order"),
        # Every step, so that a run stopped anywhere and resumed has the metrics of an unbroken one.
        logging_steps=1,
        # A bad loss must be seen, not replaced by an average.
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=checkpoint_every,
        save_total_limit=1,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=config.report_to or "none",
        run_name=Path(config.output).name,
        disable_tqdm=True,
    )


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint and its step."""

    path: Path
    step: int


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that was written to its end; half-written ones are removed."""
    whole = []
    for path in folder.glob("checkpoint-*"):
        try:  # the Trainer writes its state last
            state = json.loads((path / "trainer_state.json").read_text())
            whole.append(Checkpoint(path, state["global_step"]))
        except (OSError, ValueError):
            shutil.rmtree(path)
    return max(whole, key=lambda checkpoint: checkpoint.step, default=None)


def check_trainable(config: RunConfig, model: Any, num_rows: int) -> None:
    """Find out before anything is written whether this model can be trained as configured.

    Raises:
        UserError: it cannot, or the tracker is unknown.
        WriteError: the disk is too full, which is no fault of the run.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"model {config.model!r} has no parameter to train")
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and config.max_tokens > positions:
        raise UserError(f"max_tokens is {config.max_tokens}: the model takes at most {positions}")
    objective = build_objective(config)
    if objective is not None:
        for layer in objective.layers:
            find_state_module(model, find_decoder(model), layer)
        if isinstance(objective, RDrop) and not weights.is_never_used(objective.weight):
            check_dropout(causal_lm_of(model))
    try:
        for tracker in get_reporting_integration_callbacks(config.report_to):
            tracker()
    except (ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"report_to: {str(error).splitlines()[0]}") from error
    try:
        training_arguments(config, num_training_steps(config, num_rows))
    except ValueError as error:
        raise UserError(f"precision is {config.precision}: {error}") from error
    _check_disk(config, model)


def _check_disk(config: RunConfig, model: Any) -> None:
    """A checkpoint holds weights and two moments of what is trained; one is whole while the next
    is written, and the final weights come on top."""
    folder = Path(config.output).absolute()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    all_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    needed = 2 * (trained + 2 * trained) + all_bytes
    free = shutil.disk_usage(place).free
    if free < needed:
        raise WriteError(
            f"output {config.output!r} has {free / 1e6:,.0f} MB free and checkpoints of this "
            f"model need {needed / 1e6:,.0f} MB",
            ": make room, or choose another output",
        )
