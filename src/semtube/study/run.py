"""A run from its settings to its result: data, model, training, test."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from semtube.config import RunConfig
from semtube.data.rendering import Renderer
from semtube.data.tokens import (
    ROW_KEY,
    Collator,
    TokenRows,
    TokenView,
    tokenize_rows,
    view_tokens,
)
from semtube.errors import UserError
from semtube.evaluation.batching import token_batches
from semtube.evaluation.held_out import held_out_losses
from semtube.models.adapters import add_lora
from semtube.models.loading import LoadedModel, load_model
from semtube.objectives.trajectories import CONTENT_ROLES
from semtube.run_folder import RunFolder, read_json, write_json, write_jsonl
from semtube.seeding import stream_seed
from semtube.study.checkpoint_order import CheckpointOrder
from semtube.study.environment import describe_environment
from semtube.study.evaluate import evaluate_rows
from semtube.study.failures import as_user_error, keep_failure
from semtube.study.geometry_callback import GeometryCallback
from semtube.study.splits import RunData, read_splits, report_splits
from semtube.training.host import (
    TrainingOutcome,
    build_objective,
    check_trainable,
    num_training_steps,
    train,
    use_bf16,
)

#: Rows whose trajectories are measured while a run trains.
GEOMETRY_ROWS = 64


@dataclass
class RunListener:
    """Where a run reports what a person wants to see; every hook may be left out."""

    say: Callable[[str], None] = lambda sentence: None
    show_tokens: Callable[[str, list[TokenView]], None] = lambda source, tokens: None
    on_start: Callable[[int], None] = lambda num_steps: None
    on_step: Callable[[dict[str, Any]], None] = lambda metrics: None
    on_decode_start: Callable[[int], None] = lambda num_rows: None
    on_decoded: Callable[[int], None] = lambda num_done: None


class Interrupted(Exception):  # noqa: N818 - not an error: the user asked for it
    """The run was ended by a signal; its checkpoint is saved."""


@dataclass(frozen=True)
class Prepared:
    """All that a run needs before its first step; nothing is written yet."""

    data: RunData
    loaded: LoadedModel
    renderer: Renderer
    tokens: dict[str, TokenRows]


def execute(
    config: RunConfig, *, resume: bool = False, listener: RunListener | None = None
) -> dict[str, Any]:
    """Do one run and return its result, which `result.json` in its folder then holds.

    Raises:
        UserError: bad settings, data or model (nothing is written then); a diverged loss
            (`failure.json` then says so).
        WriteError: as on a full disk; the run can be resumed.
        Interrupted: ended by Ctrl-C or TERM; what was saved is there to resume from.
    """
    listener = listener or RunListener()
    config.check()
    config = config.resolved()
    config = replace(config, precision="bf16" if use_bf16(config) else "fp32")
    folder = RunFolder(config.output)
    if not resume:
        folder.check_free()
    elif folder.is_done:
        raise UserError(f"{config.output!r} is finished: its result.json is there")
    prepared = prepare(config, listener)
    prints = prepared.data.fingerprints
    identity = {"id": config.identity(prints), "fingerprints": prints}
    if not resume:
        folder.begin(asdict(config), identity)
    elif read_json(folder.identity) != identity:
        raise UserError(
            f"{config.output!r} was begun with other data or settings than there are now: begin a "
            "new run"
        )
    folder.remove_parts()
    folder.failure.unlink(missing_ok=True)
    folder.add_environment(describe_environment())
    try:
        return _train_and_test(config, folder, prepared, resume=resume, listener=listener)
    except KeyboardInterrupt:
        raise Interrupted("stopped") from None
    except Interrupted:
        raise
    except Exception as error:
        failure = as_user_error(error, folder)
        keep_failure(folder, failure)
        raise failure from error


def prepare(config: RunConfig, listener: RunListener) -> Prepared:
    """Read and check everything a run needs, and say what a person should know of it.

    Raises:
        UserError: bad data, model or objective.
    """
    objective = build_objective(config)
    content_roles = CONTENT_ROLES[objective.content if objective is not None else "text"]
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    data = read_splits(config)
    report_splits(data, listener.say)
    # A preset's tokenizer sees the rows of its fraction and no others.
    texts = (message.content for example in data.chosen for message in example.messages)
    loaded = load_model(
        config.model,
        texts=texts,
        seed=stream_seed(config.seed, "init"),
        trust_remote_code=config.trust_remote_code,
        attention_dropout=config.attention_dropout,
    )
    if config.lora.rank:
        model = add_lora(
            loaded.model, config.lora, stream_seed(config.seed, "init"), base=config.model
        )
        loaded = replace(loaded, model=model)
    check_trainable(config, loaded.model, len(data.chosen))
    renderer = Renderer(
        loaded.tokenizer,
        loaded.stop_ids,
        labels=config.labels,
        train_stop=config.train_stop,
        chat_form=config.chat_form,
    )
    tokens = {}
    for name in ("train", "validation", "test"):
        if examples := data.chosen if name == "train" else getattr(data, name):
            tokens[name] = tokenize_rows(
                examples,
                renderer,
                config.max_tokens,
                content_roles=content_roles,
            )
            for note in tokens[name].notes():
                listener.say(f"{name}: {note}")
    first = tokens["train"].rows[0]
    listener.show_tokens(first.source, view_tokens(first, renderer, content_roles))
    return Prepared(data, loaded, renderer, tokens)


def _train_and_test(
    config: RunConfig, folder: RunFolder, prepared: Prepared, *, resume: bool, listener: RunListener
) -> dict[str, Any]:
    tokens = prepared.tokens
    listener.on_start(num_training_steps(config, len(tokens["train"].rows)))
    started = time.monotonic()
    outcome = train(
        config,
        folder,
        prepared.loaded,
        tokens["train"].rows,
        resume=resume,
        on_progress=listener.on_step,
        validate=_validator(config, prepared) if "validation" in tokens else None,
        callbacks=[
            CheckpointOrder(),
            *(_geometry(config, prepared) if config.geometry_every else ()),
        ],
    )
    if outcome.interrupted:
        raise Interrupted(f"stopped after step {outcome.num_steps:,}")
    training_seconds = time.monotonic() - started
    save_model(prepared.loaded, prepared.renderer.stop_ids, folder)
    metrics = {}
    if "test" in tokens and config.decode_test:
        listener.on_decode_start(len(tokens["test"].rows))
        records, metrics = evaluate_rows(
            prepared.loaded,
            prepared.renderer,
            tokens["test"].rows,
            prepared.data.scorer,
            max_new_tokens=config.max_new_tokens,
            say=listener.say,
            on_progress=listener.on_decoded,
        )
        write_jsonl(folder.examples, records)
    result = _result(config, prepared, outcome, training_seconds, metrics)
    write_json(folder.result, result)
    # What is done needs no checkpoint; the final model stays.
    shutil.rmtree(folder.checkpoints, ignore_errors=True)
    return result


def _validator(config: RunConfig, prepared: Prepared) -> Callable[[], float]:
    loaded, rows = prepared.loaded, prepared.tokens["validation"].rows

    def validate() -> float:
        losses = held_out_losses(
            loaded.model,
            rows,
            pad_id=loaded.tokenizer.pad_token_id,
            batch_size=config.micro_batch_size or config.batch_size,
        )
        mean = losses["loss"]["mean"]
        assert mean is not None, "every row has a supervised token"
        return mean

    return validate


def _geometry(config: RunConfig, prepared: Prepared) -> list[GeometryCallback]:
    rows = prepared.tokens.get("validation", prepared.tokens["train"]).rows[:GEOMETRY_ROWS]
    collate = Collator(prepared.loaded.tokenizer.pad_token_id, with_roles=True)
    lengths = [len(row.input_ids) for row in rows]
    batches = []
    for chosen in token_batches(lengths):
        batch = collate([(i, rows[i]) for i in chosen])
        batches.append({k: v for k, v in batch.items() if k not in (ROW_KEY, "labels")})
    return [GeometryCallback(batches, every=config.geometry_every)]


def _result(
    config: RunConfig,
    prepared: Prepared,
    outcome: TrainingOutcome,
    training_seconds: float,
    metrics: dict[str, Any],
) -> dict[str, Any]:
    parameters = list(prepared.loaded.model.parameters())
    return {
        "id": config.identity(prepared.data.fingerprints),
        "task": config.task,
        "arm": config.objective,
        "seed": config.seed,
        "fraction": config.fraction,
        "num_train_examples": len(prepared.tokens["train"].rows),
        "num_steps": outcome.num_steps,
        "num_parameters": sum(p.numel() for p in parameters),
        "num_trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "precision": config.precision,
        "overlap": [asdict(shared) for shared in prepared.data.overlaps],
        "near_overlap": [asdict(shared) for shared in prepared.data.near],
        "num_dropped": prepared.data.num_dropped,
        "fingerprints": prepared.data.fingerprints,
        "num_too_long": {name: len(part.too_long) for name, part in prepared.tokens.items()},
        # Of this process: a resumed run counts from its checkpoint.
        "training_seconds": round(training_seconds, 2),
        "metrics": metrics,
    }


def save_model(loaded: LoadedModel, stop_ids: frozenset[int], folder: RunFolder) -> None:
    """Final weights (adapters alone under LoRA) and tokenizer, in a folder that appears whole."""
    part = folder.path / f".model.{os.getpid()}.part"
    loaded.model.generation_config.eos_token_id = sorted(stop_ids)
    # Adapters leave the embeddings as they are; PEFT need not compare them with the base's.
    only = {"save_embedding_layers": False} if hasattr(loaded.model, "peft_config") else {}
    try:
        loaded.model.save_pretrained(part, **only)
        loaded.tokenizer.save_pretrained(part)
        if folder.model.exists():
            shutil.rmtree(folder.model)
        part.rename(folder.model)
    finally:
        shutil.rmtree(part, ignore_errors=True)
