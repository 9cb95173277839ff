"""What the cheap measures of trajectories cost beside a plain forward pass over the same rows.

    python benchmarks/probe.py --rounds 20 --output benchmarks/probe.json

Both take turns in one process on the same batches: a forward pass with logits, and the same rows
probed in one layer (as while a run trains) and in all layers (as `semtube probe --measures cheap`).
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from step import interval, make_batches

from semtube.models.layer_states import layer_names
from semtube.objectives.trajectories import ROLES_KEY
from semtube.run_folder import write_json
from semtube.study.checkpoint_probe import measure_batch
from semtube.study.environment import describe_environment


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--presets", nargs="+", default=["tiny-2m", "tiny-10m"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    results: dict[str, Any] = {"environment": describe_environment(), "presets": {}}
    for preset in options.presets:
        results["presets"][preset] = table = measure(preset, options.rounds)
        for name, row in table.items():
            print(
                f"{preset}, {name}: {row['time_ratio']:.2f} "
                f"[{row['time_ratio_low']:.2f}, {row['time_ratio_high']:.2f}]"
            )
    if options.output:
        write_json(options.output, results)


def measure(preset: str, num_rounds: int) -> dict[str, Any]:
    """Ratios to the forward pass, round by round."""
    model, batches = make_batches(preset, 32)
    model.eval()
    for batch in batches:
        del batch["labels"]
    names = layer_names(model)
    arms: dict[str, Callable[[dict[str, torch.Tensor]], None]] = {
        "forward": lambda batch: forward(model, batch),
        "one layer": lambda batch: probe(model, names[-1:], batch),
        "all layers": lambda batch: probe(model, names, batch),
    }
    rng = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(num_rounds + 2):
        for name in rng.sample(list(arms), k=len(arms)):
            started = time.perf_counter()
            arms[name](batches[number % len(batches)])
            if number >= 2:  # the first rounds warm caches
                seconds[name].append(time.perf_counter() - started)
    table = {}
    for name in ("one layer", "all layers"):
        ratios = [a / b for a, b in zip(seconds[name], seconds["forward"], strict=True)]
        low, high = interval(ratios, rng)
        table[name] = {
            "time_ratio": round(statistics.median(ratios), 4),
            "time_ratio_low": round(low, 4),
            "time_ratio_high": round(high, 4),
        }
    return table


@torch.no_grad()
def forward(model: Any, batch: dict[str, torch.Tensor]) -> None:
    """With logits, as an evaluation has them."""
    inputs = {name: value for name, value in batch.items() if name != ROLES_KEY}
    model(**inputs, use_cache=False)


def probe(model: Any, layers: list[str], batch: dict[str, torch.Tensor]) -> None:
    """The cheap measures of every row."""
    sources = [str(row) for row in range(len(batch["input_ids"]))]
    for _ in measure_batch(model, layers, dict(batch), sources, content="text", dear=False):
        pass


if __name__ == "__main__":
    main()
