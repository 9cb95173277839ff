"""One epoch of NL-RX-SYNTH: the way the reference code trains the tube against ours.

    python benchmarks/reference.py --data synth_train.jsonl --output benchmarks/reference.json

The reference's way, written from its description: every row padded to 512 tokens, four rows a
forward pass with accumulation, all layers' hidden states kept, spans drawn and costs taken in a
Python loop over the rows. (Its gradient checkpointing is left out, which favours it.) Ours: rows
padded to the longest of the batch, the whole batch in one pass, `semtube.attach`. Same model, rows,
tube form (span), weight and optimizer; both arms take turns on each batch, and the ratio is taken
batch by batch.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from step import interval
from torch import Tensor

import semtube
from semtube.data.examples import read_examples
from semtube.data.rendering import Rendered, Renderer
from semtube.data.tokens import ROW_KEY, Collator
from semtube.models.loading import load_model
from semtube.objectives.trajectories import ANSWER, PROMPT
from semtube.run_folder import write_json
from semtube.study.environment import describe_environment

WIDTH, ROWS_PER_PASS, WEIGHT = 512, 4, 0.02


def reference_batch(rows: list[Rendered], pad_id: int) -> dict[str, Tensor]:
    """Rows padded to 512, all text a target."""
    ids = torch.full((len(rows), WIDTH), pad_id)
    mask = torch.zeros(len(rows), WIDTH, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row.input_ids)] = torch.tensor(row.input_ids)
        mask[number, : len(row.input_ids)] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def segment(row: Rendered, role: int) -> tuple[int, int]:
    """Place of the token before a view's first and of its last."""
    places = [place for place, value in enumerate(row.roles) if value == role]
    return places[0] - 1, places[-1]


def reference_cost(hidden_TD: Tensor, row: Rendered) -> Tensor:
    """1 - cos(span, rest) of one row, with a span drawn as the reference does."""
    (prompt_0, prompt_1), (answer_0, answer_1) = segment(row, PROMPT), segment(row, ANSWER)
    in_prompt, in_answer = prompt_1 - prompt_0, answer_1 - answer_0
    length = in_prompt + in_answer
    start = int(torch.randint(0, length, (1,)))
    stop = int(torch.randint(start + 1, length + 1, (1,)))
    while stop - start == length:
        stop = int(torch.randint(start + 1, length + 1, (1,)))

    def displacement(first: int, last: int) -> Tensor:
        """Over content tokens [first, last), summed over the two segments."""
        moved = torch.zeros_like(hidden_TD[0])
        if first < in_prompt:
            moved = moved + hidden_TD[prompt_0 + min(last, in_prompt)] - hidden_TD[prompt_0 + first]
        if last > in_prompt:
            begin = max(first - in_prompt, 0)
            moved = moved + hidden_TD[answer_0 + last - in_prompt] - hidden_TD[answer_0 + begin]
        return moved

    span = displacement(start, stop)
    rest = displacement(0, length) - span
    return 1 - F.cosine_similarity(rest.float(), span.float(), dim=0)


class Reference:
    """The reference's way."""

    def __init__(self, model: Any, pad_id: int) -> None:
        self.model = copy.deepcopy(model).train()
        self.pad_id = pad_id
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def step(self, rows: list[Rendered]) -> None:
        """One optimizer step over the rows."""
        passes = range(0, len(rows), ROWS_PER_PASS)
        for begin in passes:
            part = rows[begin : begin + ROWS_PER_PASS]
            output = self.model(**reference_batch(part, self.pad_id), output_hidden_states=True)
            states = output.hidden_states[-1]
            costs = [reference_cost(states[number], row) for number, row in enumerate(part)]
            ((output.loss + WEIGHT * torch.stack(costs).mean()) / len(passes)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class Ours:
    """The way of this package."""

    def __init__(self, model: Any, pad_id: int) -> None:
        self.model = copy.deepcopy(model).train()
        self.collate = Collator(pad_id, with_roles=True)
        objective = semtube.SemanticTube(WEIGHT, form="span", law="sequential")
        self.attachment = semtube.attach(self.model, objective)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def step(self, rows: list[Rendered]) -> None:
        """One optimizer step over the rows."""
        batch = self.collate(list(enumerate(rows)))
        del batch[ROW_KEY]
        self.model(**batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="JSONL file of training rows")
    parser.add_argument("--preset", default="tiny-2m")
    parser.add_argument("--steps", type=int, default=15, help="batches counted")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    examples = read_examples(options.data)
    texts = [message.content for example in examples for message in example.messages]
    loaded = load_model(options.preset, texts=texts)
    renderer = Renderer(loaded.tokenizer, loaded.stop_ids, labels="full")
    rng = random.Random(0)
    chosen = rng.sample(examples, k=(options.steps + 1) * options.batch_size)
    rows = [renderer.render(example) for example in chosen]
    arms = [kind(loaded.model, loaded.tokenizer.pad_token_id) for kind in (Reference, Ours)]
    seconds: dict[str, list[float]] = {"Reference": [], "Ours": []}
    for number in range(options.steps + 1):
        part = rows[number * options.batch_size : (number + 1) * options.batch_size]
        for arm in rng.sample(arms, k=2):
            started = time.perf_counter()
            arm.step(part)
            if number:  # the first batch warms caches and allocators
                seconds[type(arm).__name__].append(time.perf_counter() - started)
    ratios = [a / b for a, b in zip(seconds["Reference"], seconds["Ours"], strict=True)]
    low, high = interval(ratios, rng)
    steps_per_epoch = len(examples) / options.batch_size
    found = {
        "environment": describe_environment(),
        "preset": options.preset,
        "rows_in_an_epoch": len(examples),
        "speedup": round(statistics.median(ratios), 3),
        "speedup_low": round(low, 3),
        "speedup_high": round(high, 3),
        "epoch_seconds": {
            name: round(statistics.median(values) * steps_per_epoch, 1)
            for name, values in seconds.items()
        },
    }
    reference, ours = (round(found["epoch_seconds"][name]) for name in ("Reference", "Ours"))
    print(f"an epoch of {len(examples):,} rows: reference {reference} s, ours {ours} s")
    print(f"ratio {found['speedup']:.2f} [{low:.2f}, {high:.2f}]")
    if options.output:
        write_json(options.output, found)


if __name__ == "__main__":
    main()
