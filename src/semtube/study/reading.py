"""Decode a split with a finished run's final model and keep the scores in the run's folder."""

from __future__ import annotations

import torch
from transformers.utils import logging as transformers_logging

from semtube.config import RunConfig
from semtube.data.rendering import Renderer
from semtube.data.tokens import tokenize_rows
from semtube.errors import UserError
from semtube.evaluation.stored_runs import read_scored
from semtube.models.loading import load_model
from semtube.run_folder import RunFolder, read_json, write_json, write_jsonl
from semtube.study.evaluate import evaluate_rows
from semtube.study.job import note_read
from semtube.study.splits import read_pool


def read_split(folder: RunFolder, split: str, score: str, *, num_threads: int) -> None:
    """Write `readings/SPLIT/examples.jsonl` and, last, `metrics.json`.

    The rows are those of the run's own settings, so a validation part carved from the training rows
    is the one that the run was kept from.

    Args:
        split: validation or test.
        score: that the rows must have.

    Raises:
        UserError: the run has no such split or model, its data changed, or the rows no such score.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(num_threads)
    config = RunConfig.from_dict(folder.read_config())
    pool = read_pool(config)
    prints = pool.fingerprints(pool.chosen(config.fraction, config.seed))
    if read_json(folder.identity)["fingerprints"] != prints:
        raise UserError(f"{str(folder.path)!r} was trained on other data than there is now")
    examples = {"validation": pool.validation, "test": pool.test}[split]
    if not examples:
        raise UserError(f"{str(folder.path)!r} has no {split} rows")
    if not folder.model.is_dir():
        raise UserError(f"{str(folder.path)!r} has no model: delete the folder to train it again")
    loaded = load_model(str(folder.model), trust_remote_code=config.trust_remote_code)
    loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
    renderer = Renderer(
        loaded.tokenizer,
        loaded.stop_ids,
        labels=config.labels,
        train_stop=config.train_stop,
        chat_form=config.chat_form,
    )
    rows = tokenize_rows(examples, renderer, config.max_tokens).rows
    place = folder.readings / split
    note_read(place)
    records, metrics = evaluate_rows(
        loaded, renderer, rows, pool.scorer, max_new_tokens=config.max_new_tokens
    )
    write_jsonl(place / "examples.jsonl", records)
    read_scored(place / "examples.jsonl", score)
    write_json(place / "metrics.json", metrics)
