"""What the cheap measures of trajectories cost beside a plain forward pass over the same rows.

    python benchmarks/probe.py --rounds 10 --output benchmarks/probe.json

Three take turns in one process on the same tokenized rows: a forward pass with logits; what
`semtube probe --measures cheap` does with a checkpoint, all layers, the table written; and what
GeometryCallback measures while a run trains, one layer. Ratios are those of a round. Loading,
tokenizing and drawing the page stand outside. Nulls are simulated once for a length and width,
whatever the number of rows and checkpoints: their seconds are told apart.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from step import interval

from semtube.config import ProbeOptions
from semtube.data.regex_grammar import chat_row, generate_pairs
from semtube.data.tokens import ROW_KEY, Collator
from semtube.evaluation.batching import token_batches
from semtube.models.loading import load_model
from semtube.objectives.trajectories import ROLES_KEY
from semtube.run_folder import write_json, write_jsonl
from semtube.study.environment import describe_environment
from semtube.study.evaluate import read_asked
from semtube.study.geometry_callback import GeometryCallback
from semtube.study.probe import Probing
from semtube.study.probe_checkpoints import Checkpoint
from semtube.study.probe_table import writing_table

COMMAND, CALLBACK = "semtube probe --measures cheap", "GeometryCallback, one layer"
#: Rounds that warm caches and are not counted; the first simulates the nulls.
WARMING = 2


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--presets", nargs="+", default=["tiny-2m", "tiny-10m"])
    parser.add_argument("--rows", type=int, default=ProbeOptions.limit)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, help="JSON file")
    asked = parser.parse_args()
    presets: dict[str, Any] = {}
    for preset in asked.presets:
        with tempfile.TemporaryDirectory() as folder:
            presets[preset] = table = measure(preset, Path(folder), asked.rows, asked.rounds)
        for name in (COMMAND, CALLBACK):
            row = table[name]
            print(
                f"{preset}, {name}: {row['time_ratio']:.2f} "
                f"[{row['time_ratio_low']:.2f}, {row['time_ratio_high']:.2f}]"
            )
        print(f"{preset}, forward pass {table['forward_seconds']:.2f} s, "
              f"nulls {table['nulls_seconds']:.2f} s, once")  # fmt: skip
    if asked.output:
        settings = {"rows": asked.rows, "rounds": asked.rounds}
        environment = describe_environment()
        write_json(
            asked.output, {"environment": environment, "settings": settings, "presets": presets}
        )


def measure(preset: str, folder: Path, num_rows: int, num_rounds: int) -> dict[str, Any]:
    """Ratios to the forward pass, round by round."""
    pairs = generate_pairs(max(2000, num_rows), seed=0)
    write_jsonl(folder / "rows.jsonl", (chat_row(pair) for pair in pairs))
    options = ProbeOptions(
        data=str(folder / "rows.jsonl"), task="exact", measures="cheap", limit=num_rows
    )
    _, examples = read_asked(options)
    texts = [message.content for example in examples for message in example.messages]
    loaded = load_model(preset, texts=texts)
    checkpoint = Checkpoint(preset, lambda: loaded, None, None)
    with writing_table(folder / "table.csv") as table:
        probing = Probing(options, examples, table, lambda text: None, lambda *told: None)
        opened = probing.open(checkpoint)
        rows, pad_id = opened.tokens.rows, loaded.tokenizer.pad_token_id
        collate = Collator(pad_id, with_roles=True)
        batches = []
        for chosen in token_batches(
            [len(row.input_ids) for row in rows], batch_tokens=options.batch_tokens
        ):
            batch = collate([(i, rows[i]) for i in chosen])
            del batch[ROW_KEY], batch["labels"]
            batches.append(batch)
        callback = GeometryCallback(batches, layers=[-1])
        return timed(
            {
                "forward": lambda: forward(loaded.model, batches),
                COMMAND: lambda: probing.measure(checkpoint, opened),
                CALLBACK: lambda: callback.measure(loaded.model),
            },
            num_rounds,
        )


def timed(arms: dict[str, Callable[[], object]], num_rounds: int) -> dict[str, Any]:
    """Every arm once a round, in an order that changes."""
    rng = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(WARMING + num_rounds):
        for name in rng.sample(list(arms), k=len(arms)):
            started = time.perf_counter()
            arms[name]()
            seconds[name].append(time.perf_counter() - started)
    first = seconds[COMMAND][0]
    seconds = {name: of[WARMING:] for name, of in seconds.items()}
    table: dict[str, Any] = {
        "forward_seconds": round(statistics.median(seconds["forward"]), 4),
        "nulls_seconds": round(first - statistics.median(seconds[COMMAND]), 4),
    }
    for name in (COMMAND, CALLBACK):
        ratios = [a / b for a, b in zip(seconds[name], seconds["forward"], strict=True)]
        low, high = interval(ratios, rng)
        table[name] = {
            "time_ratio": round(statistics.median(ratios), 4),
            "time_ratio_low": round(low, 4),
            "time_ratio_high": round(high, 4),
        }
    return table


@torch.no_grad()
def forward(model: Any, batches: list[dict[str, torch.Tensor]]) -> None:
    """With logits, as an evaluation has them."""
    model.eval()
    for batch in batches:
        model(**{k: v for k, v in batch.items() if k != ROLES_KEY}, use_cache=False)


if __name__ == "__main__":
    main()
