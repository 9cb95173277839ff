"""Evaluate a finished run, or any model, on a file of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers.utils import logging as transformers_logging

from semtube.config import (
    BATCH_TOKENS,
    PRESET_NAMES,
    EvaluationOptions,
    ProbeOptions,
    RunConfig,
)
from semtube.data.examples import Example
from semtube.data.fractions import fingerprint
from semtube.data.rendering import Rendered, Renderer
from semtube.data.tokens import tokenize_rows
from semtube.errors import UserError
from semtube.evaluation.engine import server_decoder
from semtube.evaluation.held_out import measure_held_out
from semtube.evaluation.scoring import rate_metrics, score_rows, unjudged_notes
from semtube.models.loading import LoadedModel, load_model
from semtube.run_folder import RunFolder, read_json, write_json, write_jsonl
from semtube.study.environment import describe_environment
from semtube.study.splits import check_rows, read_rows
from semtube.tasks.catalogue import TASKS, build_scorer
from semtube.tasks.task import Scorer, Task

Options = TypeVar("Options", EvaluationOptions, ProbeOptions)


def evaluate_model(
    model: str,
    options: EvaluationOptions,
    *,
    say: Callable[[str], None] = lambda sentence: None,
    on_progress: Callable[[int, int], None] = lambda num_done, num_rows: None,
) -> tuple[dict[str, Any], Path]:
    """Score rows; returns the metrics and the folder they are stored in.

    Args:
        model: a run's folder (its final model and settings are used), or a model by name.

    Raises:
        UserError: bad model, data or output.
    """
    options.check()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    name, config = find_model(model)
    options = with_task(options, config)
    folder = _free_folder(model, options, is_run=config is not None)
    scorer, examples = read_asked(options)
    check_rows(scorer, examples)
    loaded = load_model(name, trust_remote_code=options.trust_remote_code)
    loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
    renderer = renderer_of(loaded, options, config)
    tokens = tokenize_rows(
        examples, renderer, max_tokens_of(options, config, loaded.model), max_rows=options.limit
    )
    for note in tokens.notes():
        say(note)
    records, metrics = evaluate_rows(
        loaded,
        renderer,
        tokens.rows,
        scorer,
        batch_tokens=options.batch_tokens,
        max_new_tokens=options.max_new_tokens,
        engine=options.engine,
        say=say,
        on_progress=lambda done: on_progress(done, len(tokens.rows)),
    )
    if tokens.too_long:
        say(f"{len(tokens.too_long):,} rows over max_tokens are in no figure below")
    settings = {
        "model": model,
        **asdict(options),
        "fingerprint": fingerprint(examples),
        "num_rows": len(tokens.rows),
        "num_too_long": len(tokens.too_long),
    }
    folder.mkdir(parents=True)
    write_json(folder / "evaluation.json", settings | {"environment": describe_environment()})
    write_jsonl(folder / "examples.jsonl", records)
    write_json(folder / "metrics.json", metrics)
    return metrics, folder


def with_task(options: Options, config: RunConfig | None) -> Options:
    """With the run's own task and chat form where none is asked for.

    A file given with `data` is judged as `exact` where the run's task has data of its own.
    """
    task, task_options, chat_form = options.task, options.task_options, options.chat_form
    if config is not None:
        is_other = options.data is not None and config.task in TASKS
        task = task or ("exact" if is_other else config.task)
        if task_options is None and task == config.task:
            task_options = config.task_options
        chat_form = chat_form or config.chat_form
    return replace(
        options,
        task=task or "exact",
        task_options=task_options or {},
        chat_form=chat_form or "template",
    )


def read_asked(options: EvaluationOptions | ProbeOptions) -> tuple[Scorer, list[Example]]:
    """The task's scorer, and the rows: a file, or a split of the task, unset for its test.

    Raises:
        UserError: no such task or file, bad rows, or no file for a task without data of its own.
    """
    scorer = build_scorer(str(options.task), options.task_options or {})
    split = options.data or ("test" if isinstance(scorer, Task) else None)
    if split is None:
        raise UserError(f"data is unset: task {options.task!r} needs a JSONL file of rows")
    return scorer, read_rows(scorer, split, options.data_folder)


def renderer_of(
    loaded: LoadedModel, options: EvaluationOptions | ProbeOptions, config: RunConfig | None
) -> Renderer:
    """Rows as the run was trained on them; of a model that is no run, answers and their stop."""
    return Renderer(
        loaded.tokenizer,
        loaded.stop_ids,
        labels=config.labels if config else "answer",
        train_stop=config.train_stop if config else True,
        chat_form=options.chat_form or "template",
    )


def max_tokens_of(
    options: EvaluationOptions | ProbeOptions, config: RunConfig | None, model: Any
) -> int:
    """The longest row that is taken: as asked, or the run's own limit within the model's context.

    Raises:
        UserError: more is asked for than the model takes.
    """
    context = getattr(model.config, "max_position_embeddings", None)
    asked = options.max_tokens
    if asked and context and asked > context:
        raise UserError(f"max_tokens is {asked}: the model takes at most {context}")
    default = config.max_tokens if config else 512
    return asked or min(default, context or default)


def _free_folder(model: str, options: EvaluationOptions, *, is_run: bool) -> Path:
    if options.output is None and not is_run:
        raise UserError(f"--output is needed: {model!r} is no run's folder to write into")
    named = [str(options.task)] if options.task in TASKS else []
    if options.data:
        named.append(Path(options.data).stem)
    folder = Path(options.output or Path(model) / f"evaluation-{'-'.join(named)}")
    if folder.exists():
        raise UserError(f"output {str(folder)!r} exists: choose another with --output")
    return folder


def find_model(model: str) -> tuple[str, RunConfig | None]:
    """Where the weights are, and the settings if it is a run.

    Raises:
        UserError: a preset, or a run without a model.
    """
    if model in PRESET_NAMES:
        raise UserError(f"{model!r} is a preset, which knows nothing yet: give a trained run")
    run = RunFolder(model)
    if not run.identity.is_file():
        return model, None
    if not run.model.is_dir():
        if run.failure.is_file():
            raise UserError(f"run {model!r} failed: {read_json(run.failure)['error']}")
        raise UserError(f"run {model!r} has no model yet: finish it with semtube train --resume")
    return str(run.model), RunConfig.from_dict(run.read_config())


def evaluate_rows(
    loaded: LoadedModel,
    renderer: Renderer,
    rows: Sequence[Rendered],
    scorer: Scorer,
    *,
    batch_tokens: int = BATCH_TOKENS,
    max_new_tokens: int | None = None,
    engine: str = "transformers",
    say: Callable[[str], None] = lambda sentence: None,
    on_progress: Callable[[int], None] = lambda num_done: None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Per-row records and the metrics: rates, next-token loss and tube loss, with intervals."""
    measured = measure_held_out(
        loaded.model,
        rows,
        pad_id=loaded.tokenizer.pad_token_id,
        stop_ids=renderer.stop_ids,
        batch_tokens=batch_tokens,
    )
    # A plain text has no question to answer; its loss is measured all the same.
    asked = [place for place, row in enumerate(rows) if row.num_prompt_tokens and row.prompt]
    if not asked:
        return [], measured.metrics
    decode = None
    if engine != "transformers":
        decode = server_decoder(engine, renderer.stop_ids, on_progress)
    records = score_rows(
        loaded.model,
        renderer,
        [rows[place] for place in asked],
        scorer,
        decode=decode,
        batch_tokens=batch_tokens,
        max_new_tokens=max_new_tokens,
        on_progress=on_progress,
    )
    for place, record in zip(asked, records, strict=True):
        record["stop_log_probability"] = measured.stop_log_probabilities[place]
    for note in (*unjudged_notes(records, scorer.scores), *scorer.reasons()):
        say(note)
    return records, {**rate_metrics(records, scorer.scores), **measured.metrics}
