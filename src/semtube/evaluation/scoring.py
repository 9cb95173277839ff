"""Decode test rows, judge each one, and make the metrics from the judgements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from semtube.data.rendering import Rendered
from semtube.evaluation.decoding import decode_greedily
from semtube.evaluation.intervals import wilson_interval
from semtube.tasks.matching import exact_match, prefix_match


def length_limit(rows: Sequence[Rendered]) -> int:
    """Largest number of tokens an answer may take: twice the longest right answer.

    From the data, so that no right answer is cut, and long enough to tell a model that does not
    stop from one that is a little wordy.
    """
    return 2 * max(len(row.input_ids) - row.num_prompt_tokens for row in rows)


def score_rows(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Rendered],
    *,
    stop_ids: frozenset[int],
    batch_size: int = 64,
    on_progress: Callable[[int], None] = lambda num_done: None,
) -> list[dict[str, Any]]:
    """One record per row: `id`, `source`, `prompt`, `gold`, `prediction`, the scores, its length.

    `id` is the example's digest, by which runs are paired, also runs of different models. Special
    tokens that the model writes stay in the prediction and make it wrong.
    """
    decoded = decode_greedily(
        model,
        [row.input_ids[: row.num_prompt_tokens] for row in rows],
        stop_ids=stop_ids,
        pad_id=tokenizer.pad_token_id,
        max_new_tokens=length_limit(rows),
        batch_size=batch_size,
        on_progress=on_progress,
    )
    records = []
    for row, answer in zip(rows, decoded, strict=True):
        prediction = tokenizer.decode(
            answer.token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        records.append(
            {
                "id": row.digest,
                "source": row.source,
                "prompt": row.prompt,
                "gold": row.answer,
                "prediction": prediction,
                # Right content that never ends is no right answer.
                "exact_match": answer.stopped and exact_match(prediction, row.answer),
                "prefix_match": prefix_match(prediction, row.answer),
                "stopped": answer.stopped,
                "num_tokens": len(answer.token_ids),
            }
        )
    return records


def rate_metrics(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean of each score with its 95 % Wilson interval over the test rows."""
    metrics = {}
    for name in ("exact_match", "prefix_match", "stopped"):
        num_right = sum(record[name] for record in records)
        interval = wilson_interval(num_right, len(records))
        metrics[name] = {
            "mean": num_right / len(records),
            "low": interval.low,
            "high": interval.high,
            "num_examples": len(records),
        }
    return metrics
