"""Decode test rows, judge each one, and make the metrics from the judgements."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from semtube.data.rendering import Rendered, Renderer
from semtube.evaluation.decoding import Decoded, decode_greedily
from semtube.evaluation.likelihood import option_log_probabilities
from semtube.statistics.intervals import Interval, exact_interval, wilson_interval
from semtube.tasks.task import Answer, Contrast, Scorer

Decoder = Callable[[Sequence[list[int]], int], list[Decoded]]
"""Prompts and the most tokens an answer may take -> what was written after each."""

_MOST_NAMED = 5


def length_limit(rows: Sequence[Rendered]) -> int:
    """Largest number of tokens an answer may take: twice the longest right answer.

    From the data, so that no right answer is cut, and long enough to tell a model that does not
    stop from one that is a little wordy.
    """
    return 2 * max(len(row.input_ids) - row.num_prompt_tokens for row in rows)


def score_rows(
    model: Any,
    renderer: Renderer,
    rows: Sequence[Rendered],
    scorer: Scorer,
    *,
    decode: Decoder | None = None,
    batch_tokens: int,
    max_new_tokens: int | None = None,
    on_progress: Callable[[int], None] = lambda num_done: None,
) -> list[dict[str, Any]]:
    """One record per row: what was asked, written and right, and every score.

    `id` is the example's digest, by which runs are paired, also runs of different models;
    `prompt_hash` the first 16 hex digits of the prompt's sha256. Special tokens that the model
    writes stay in the prediction and make it wrong. Where a task chooses by likelihood, the
    options' log-probabilities (nats, summed over tokens) stand under `log_probabilities`.

    Args:
        decode: another engine than the model itself.
        batch_tokens: see `decode_greedily`.
        max_new_tokens: no answer is longer; unset for `length_limit`.
    """
    tokenizer = renderer.tokenizer
    prompts = [row.input_ids[: row.num_prompt_tokens] for row in rows]
    limit = max_new_tokens or length_limit(rows)
    if decode is None:
        decoded = decode_greedily(
            model,
            prompts,
            stop_ids=renderer.stop_ids,
            pad_id=tokenizer.pad_token_id,
            max_new_tokens=limit,
            batch_tokens=batch_tokens,
            on_progress=on_progress,
        )
    else:
        decoded = decode(prompts, limit)
    answers = [
        Answer(_text(tokenizer, written), written.stopped, row.answer, row.fields)
        for row, written in zip(rows, decoded, strict=True)
    ]
    judged = scorer.judge(answers)
    chosen = _choose(model, renderer, rows, scorer, batch_tokens)
    records = []
    for row, answer, written, scores, choice in zip(
        rows, answers, decoded, judged, chosen, strict=True
    ):
        found = scores | {name: right for name, (right, _) in choice.items()}
        records.append(
            {
                "id": row.digest,
                "source": row.source,
                "prompt": row.prompt,
                "prompt_hash": hashlib.sha256(row.prompt.encode()).hexdigest()[:16],
                "gold": row.answer,
                "prediction": answer.prediction,
                **{name: found[name] for name in scorer.scores},
                "stopped": answer.stopped,
                "num_tokens": len(written.token_ids),
                "group": scorer.group(row.answer, row.fields),
                "log_probabilities": {name: values for name, (_, values) in choice.items()},
            }
        )
    return records


def _text(tokenizer: Any, written: Decoded) -> str:
    return tokenizer.decode(
        written.token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )


def _choose(
    model: Any,
    renderer: Renderer,
    rows: Sequence[Rendered],
    scorer: Scorer,
    batch_tokens: int,
) -> list[dict[str, tuple[bool, list[float]]]]:
    """For every row and contrast: whether the likeliest option is the right one, and all of them.

    Of options that are equally likely the first counts as chosen.
    """
    contrasts = [scorer.contrasts(row.answer, row.fields) for row in rows]
    chosen: list[dict[str, tuple[bool, list[float]]]] = [{} for _ in rows]
    for name in dict.fromkeys(name for row in contrasts for name in row):
        places = [place for place, row in enumerate(contrasts) if name in row]
        asked = [contrasts[place][name] for place in places]
        tokens = [
            _option_tokens(renderer, rows[place], contrast)
            for place, contrast in zip(places, asked, strict=True)
        ]
        found = option_log_probabilities(
            model,
            [prompt for prompt, _ in tokens],
            [options for _, options in tokens],
            batch_tokens=batch_tokens,
        )
        for place, contrast, values in zip(places, asked, found, strict=True):
            compared = values
            if contrast.per_character:
                pairs = zip(values, contrast.options, strict=True)
                compared = [value / len(option.strip()) for value, option in pairs]
            # A broken model gives NaN, which no comparison would find.
            is_number = not any(map(math.isnan, values))
            is_right = is_number and compared.index(max(compared)) == contrast.right
            chosen[place][name] = (is_right, values)
    return chosen


def _option_tokens(
    renderer: Renderer, row: Rendered, contrast: Contrast
) -> tuple[list[int], list[list[int]]]:
    """Tokens of the prompt and of each option."""
    if contrast.prompt is None:
        ending = renderer.ending_of(row) if contrast.is_whole else []
        options = [renderer.continuation(row.prompt, text)[1] for text in contrast.options]
        return row.input_ids[: row.num_prompt_tokens], [option + ending for option in options]
    split = [renderer.continuation(contrast.prompt, text) for text in contrast.options]
    return renderer.start_ids(split[0][0]) + split[0][0], [option for _, option in split]


def rate_metrics(
    records: Sequence[Mapping[str, Any]], scores: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Mean of each score with its 95 % interval over the test rows.

    Wilson's interval over all rows; groups of rows, which may be small, are named
    "score, group" and carry the exact (Clopper-Pearson) interval. Rows that were not judged are
    left out and counted; where none was judged, mean and interval are None.
    """
    metrics = {}
    for name in (*scores, "stopped"):
        metrics[name] = _rate([record[name] for record in records], wilson_interval)
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        if record.get("group") is not None:
            groups[record["group"]].append(record)
    for name in scores:
        for group, members in sorted(groups.items()):
            values = [record[name] for record in members]
            metrics[f"{name}, {group}"] = _rate(values, exact_interval)
    return metrics


def _rate(
    values: Sequence[bool | None], interval_of: Callable[[int, int], Interval]
) -> dict[str, Any]:
    judged = [value for value in values if value is not None]
    rate: dict[str, Any] = {"mean": None, "low": None, "high": None}
    if judged:
        interval = interval_of(sum(judged), len(judged))
        rate = {
            "mean": sum(judged) / len(judged),
            "low": interval.low,
            "high": interval.high,
        }
    return rate | {"num_examples": len(judged), "num_unjudged": len(values) - len(judged)}


def unjudged_notes(records: Sequence[Mapping[str, Any]], scores: Sequence[str]) -> list[str]:
    """Which rows a score could not judge, a sentence a score; empty where all were judged."""
    notes = []
    for name in scores:
        sources = [record["source"] for record in records if record[name] is None]
        if sources:
            named = ", ".join(sources[:_MOST_NAMED]) + (
                ", ..." if len(sources) > _MOST_NAMED else ""
            )
            count = "1 row is" if len(sources) == 1 else f"{len(sources):,} rows are"
            notes.append(f"{name}: {count} not judged and left out of the rate: {named}")
    return notes
