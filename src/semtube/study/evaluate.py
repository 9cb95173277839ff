"""Evaluate a finished run, or any model, on a file of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from semtube.config import PRESET_NAMES, RunConfig
from semtube.data.examples import read_examples
from semtube.data.rendering import Rendered, Renderer
from semtube.data.tokens import tokenize_rows
from semtube.errors import UserError
from semtube.evaluation.held_out import held_out_losses
from semtube.evaluation.scoring import rate_metrics, score_rows
from semtube.models.loading import LoadedModel, load_model
from semtube.run_folder import RunFolder, read_json, write_json, write_jsonl


def evaluate_model(
    model: str,
    data: str,
    *,
    output: str | None = None,
    max_tokens: int | None = None,
    batch_size: int = 64,
    limit: int | None = None,
    trust_remote_code: bool = False,
    say: Callable[[str], None] = lambda sentence: None,
    on_progress: Callable[[int, int], None] = lambda num_done, num_rows: None,
) -> tuple[dict[str, Any], Path]:
    """Score the rows of `data`; returns the metrics and the folder they are stored in.

    Args:
        model: a run's folder (its final model and settings are used), or a model by name.
        output: a new folder; may be unset for a run.
        max_tokens: longer rows are left out; unset for the run's own, or 512.
        limit: only the first so many rows.

    Raises:
        UserError: bad model, data or output.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    name, config = _find_model(model)
    if output is None and config is None:
        raise UserError(f"--output is needed: {model!r} is no run's folder to write into")
    folder = Path(output) if output else Path(model) / f"evaluation-{Path(data).stem}"
    if folder.exists():
        raise UserError(f"output {str(folder)!r} exists: choose another with --output")
    examples = read_examples(data)[:limit]
    loaded = load_model(name, trust_remote_code=trust_remote_code)
    loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
    renderer = Renderer(
        loaded.tokenizer,
        loaded.stop_ids,
        labels=config.labels if config else "answer",
        train_stop=config.train_stop if config else True,
    )
    tokens = tokenize_rows(examples, renderer, max_tokens or (config.max_tokens if config else 512))
    for note in tokens.notes():
        say(note)
    records, metrics = evaluate_rows(
        loaded,
        tokens.rows,
        renderer.stop_ids,
        batch_size=batch_size,
        on_progress=lambda done: on_progress(done, len(tokens.rows)),
    )
    folder.mkdir(parents=True)
    write_jsonl(folder / "examples.jsonl", records)
    write_json(folder / "metrics.json", metrics)
    return metrics, folder


def _find_model(model: str) -> tuple[str, RunConfig | None]:
    """Where the weights are, and the settings if it is a run."""
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
    rows: Sequence[Rendered],
    stop_ids: frozenset[int],
    *,
    batch_size: int = 64,
    on_progress: Callable[[int], None] = lambda num_done: None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Per-row records and the metrics: rates, next-token loss and tube loss, with intervals."""
    # A plain text has no question to answer; its loss is measured all the same.
    with_question = [row for row in rows if row.num_prompt_tokens and row.prompt]
    records, rates = [], {}
    if with_question:
        records = score_rows(
            loaded.model,
            loaded.tokenizer,
            with_question,
            stop_ids=stop_ids,
            batch_size=batch_size,
            on_progress=on_progress,
        )
        rates = rate_metrics(records)
    losses = held_out_losses(
        loaded.model, rows, pad_id=loaded.tokenizer.pad_token_id, batch_size=batch_size
    )
    return records, {**rates, **losses}
