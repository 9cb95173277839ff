"""What every objective costs per training step: time and peak memory, against next-token alone.

    python benchmarks/step.py --presets tiny-2m tiny-10m --steps 60 --output benchmarks/step.json
    python benchmarks/step.py --presets tiny-2m --steps 400 --arms "ntp again" "tube, 16 triplets"

The second form times few arms in many rounds, which tells ratios near 1 from noise.

Arms take turns in one process, in an order that changes at every round, on the same rows; the
ratio is taken round by round, so a machine whose speed drifts does not matter. A step is forward,
backward and AdamW. Peak memory counts what torch allocates during one step (on a GPU its own
counter), so it does not depend on the system's allocator.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import semtube
from semtube.data.examples import Example, Message
from semtube.data.regex_grammar import chat_row, generate_pairs
from semtube.data.rendering import Renderer
from semtube.data.tokens import ROW_KEY, Collator
from semtube.models.loading import load_model
from semtube.run_folder import write_json
from semtube.study.environment import describe_environment

ARMS: dict[str, semtube.Objective | None] = {
    "ntp": None,
    "ntp again": None,
    "tube, 1 triplet": semtube.SemanticTube(),
    "tube, 16 triplets": semtube.SemanticTube(draws=16),
    "tube, 1 span": semtube.SemanticTube(form="span"),
    "tube, Pred": semtube.SemanticTube(predictor="linear"),
    "tube, two layers": semtube.SemanticTube(layer=(2, -1)),
    "tube, ramp": semtube.SemanticTube(semtube.Ramp(0.02, 1000)),
    "tube, adaptive": semtube.SemanticTube(semtube.Adaptive(0.05)),
    "two-view": semtube.TwoView(),
    "curvature": semtube.Curvature(),
    "masked span": semtube.MaskedSpan(),
    "LLM-JEPA": semtube.LLMJepa(),
    "LLM-JEPA, 3 of 4 dropped": semtube.LLMJepa(semtube.Dropped(4.0, 0.75)),
    "next latent": semtube.NextLatent(),
    "R-Drop": semtube.RDrop(),
}
#: R-Drop compares dropout masks, so its arm alone drops attention weights.
DROPOUT = 0.1


def make_batches(preset: str, batch_size: int) -> tuple[Any, list[dict[str, torch.Tensor]]]:
    """A preset and eight batches of generated text-to-regex rows."""
    examples = []
    for number, pair in enumerate(generate_pairs(2000, seed=0)):
        turns = chat_row(pair)["messages"]
        messages = tuple(Message(turn["role"], turn["content"]) for turn in turns)
        examples.append(Example("chat", messages, f"row {number}"))
    texts = [message.content for example in examples for message in example.messages]
    loaded = load_model(preset, texts=texts)
    renderer = Renderer(loaded.tokenizer, loaded.stop_ids)
    rows = list(enumerate(renderer.render(example) for example in examples[: 8 * batch_size]))
    collate = Collator(loaded.tokenizer.pad_token_id, with_roles=True)
    batches = [collate(rows[i : i + batch_size]) for i in range(0, len(rows), batch_size)]
    for batch in batches:
        del batch[ROW_KEY]
    return loaded.model, batches


class Arm:
    """A model of its own with its optimizer, attached or not."""

    def __init__(self, model: Any, objective: semtube.Objective | None, device: str) -> None:
        self.model = copy.deepcopy(model).to(device).train()
        if isinstance(objective, semtube.RDrop):
            for layer in self.model.get_decoder().layers:
                layer.self_attn.attention_dropout = DROPOUT
        self.attachment = None if objective is None else semtube.attach(self.model, objective)
        # Behind attach(), so that it trains the learnable parts.
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        """One optimizer step."""
        if self.attachment is None:
            batch = {name: value for name, value in batch.items() if name != "token_roles"}
        self.model(**batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def peak_bytes(step: Callable[[], None], device: str) -> int:
    """Most bytes allocated at once during the step, above what was there before."""
    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        step()
    results = profile.profiler.kineto_results  # type: ignore[union-attr]
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in results.events()
        if event.name() == "[memory]"
    )
    assert changes, "the profiler saw no allocation"
    running = peak = 0
    for _, change in changes:
        running += change
        peak = max(peak, running)
    return peak


def interval(ratios: list[float], rng: random.Random) -> tuple[float, float]:
    """95 % bootstrap interval of the median ratio."""
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


def measure(
    preset: str, names: list[str], num_rounds: int, batch_size: int, device: str
) -> dict[str, Any]:
    """Ratios of the named arms to next-token prediction."""
    model, batches = make_batches(preset, batch_size)
    batches = [{name: value.to(device) for name, value in batch.items()} for batch in batches]
    arms = {
        name: Arm(model, objective, device) for name, objective in ARMS.items() if name in names
    }
    rng = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(num_rounds + 3):
        batch = batches[number % len(batches)]
        for name in rng.sample(list(arms), k=len(arms)):
            if device != "cpu":
                torch.cuda.synchronize()
            started = time.perf_counter()
            arms[name].step(batch)
            if device != "cpu":
                torch.cuda.synchronize()
            if number >= 3:  # the first rounds warm caches and allocators
                seconds[name].append(time.perf_counter() - started)
    peaks = {
        name: peak_bytes(lambda arm=arm: arm.step(batches[0]), device) for name, arm in arms.items()
    }
    table = {}
    for name in arms:
        ratios = [a / b for a, b in zip(seconds[name], seconds["ntp"], strict=True)]
        low, high = interval(ratios, rng)
        table[name] = {
            "time_ratio": round(statistics.median(ratios), 4),
            "mean_time_ratio": round(sum(seconds[name]) / sum(seconds["ntp"]), 4),
            "time_ratio_low": round(low, 4),
            "time_ratio_high": round(high, 4),
            "step_milliseconds": round(1000 * statistics.median(seconds[name]), 2),
            "peak_memory_ratio": round(peaks[name] / peaks["ntp"], 4),
            "peak_megabytes": round(peaks[name] / 1e6, 2),
        }
    return table


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--presets", nargs="+", default=["tiny-2m", "tiny-10m"])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--steps", type=int, default=60, help="rounds counted")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results: dict[str, Any] = {"environment": describe_environment(), "presets": {}}
    for preset in options.presets:
        names = ["ntp", *options.arms]
        table = measure(preset, names, options.steps, options.batch_size, device)
        results["presets"][preset] = table
        print(f"{preset}: {options.steps} rounds of {options.batch_size} rows")
        print(f"  {'arm':<26}{'time / ntp':>12}  {'95 % interval':<18}{'memory / ntp':>12}")
        for name, row in table.items():
            span = f"{row['time_ratio_low']:.3f} to {row['time_ratio_high']:.3f}"
            print(
                f"  {name:<26}{row['time_ratio']:>12.3f}  {span:<18}"
                f"{row['peak_memory_ratio']:>12.3f}"
            )
    if options.output:
        write_json(options.output, results)


if __name__ == "__main__":
    main()
