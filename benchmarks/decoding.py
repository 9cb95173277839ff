"""Throughput of greedy decoding: in batches, against one prompt at a time.

    python benchmarks/decoding.py --data synth_test.jsonl --model runs/ntp --output decoding.json

Nothing is trained: `--model` is the folder of a run (or a model, or a preset, whose fresh weights
rarely stop). All arms write answers to the same prompts in one process and must write the same. One
prompt at a time is transformers' `generate` with a batch of one; it does a sample of the prompts,
spread over the rounds, since it is slow; the other arms do all prompts in every round. The ratio is
of prompts per second, round by round, and its median counts.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from semtube.data.examples import read_examples
from semtube.data.rendering import Renderer
from semtube.data.tokens import tokenize_rows
from semtube.evaluation.batching import token_batches
from semtube.evaluation.decoding import Decoded, decode_greedily, evaluating
from semtube.evaluation.padding import pad_left
from semtube.evaluation.scoring import length_limit
from semtube.models.loading import load_model
from semtube.run_folder import RunFolder, write_json
from semtube.study.environment import describe_environment


class Prompts:
    """The prompts of a file, and the arms that answer them."""

    def __init__(self, data: str, model: str, batch_tokens: int, limit: int | None) -> None:
        examples = read_examples(data)[:limit]
        run = RunFolder(model)
        texts = [message.content for example in examples for message in example.messages]
        loaded = load_model(str(run.model) if run.model.is_dir() else model, texts=texts)
        renderer = Renderer(loaded.tokenizer, loaded.stop_ids)
        rows = tokenize_rows(examples, renderer, 512).rows
        self.prompts = [row.input_ids[: row.num_prompt_tokens] for row in rows]
        self.model = loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.stop_ids = renderer.stop_ids
        self.pad_id = loaded.tokenizer.pad_token_id
        self.limit = length_limit(rows)
        self.batch_tokens = batch_tokens
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=self.limit,
            eos_token_id=sorted(self.stop_ids),
            pad_token_id=self.pad_id,
        )

    def one_at_a_time(self, chosen: Sequence[int]) -> list[Decoded]:
        """transformers' own loop, a prompt a call."""
        return [self._generate([self.prompts[i]])[0] for i in chosen]

    def generate(self, chosen: Sequence[int]) -> list[Decoded]:
        """transformers' own loop, in our batches."""
        prompts = [self.prompts[i] for i in chosen]
        found: dict[int, Decoded] = {}
        for batch in token_batches(
            [len(prompt) + self.limit for prompt in prompts], batch_tokens=self.batch_tokens
        ):
            found.update(zip(batch, self._generate([prompts[i] for i in batch]), strict=True))
        return [found[i] for i in range(len(prompts))]

    def _generate(self, prompts: list[list[int]]) -> list[Decoded]:
        ids, mask = pad_left(prompts, self.pad_id, self.model.device)
        with evaluating(self.model), torch.no_grad():
            written = self.model.generate(input_ids=ids, attention_mask=mask)
        answers = []
        for row in written[:, ids.shape[1] :].tolist():
            end = next((k for k, token in enumerate(row) if token in self.stop_ids), None)
            answers.append(Decoded(row[:end], end is not None))
        return answers

    def ours(self, chosen: Sequence[int], cache: Any) -> list[Decoded]:
        """`decode_greedily`."""
        return decode_greedily(
            self.model,
            [self.prompts[i] for i in chosen],
            stop_ids=self.stop_ids,
            pad_id=self.pad_id,
            max_new_tokens=self.limit,
            batch_tokens=self.batch_tokens,
            cache=cache,
        )


def measure(
    prompts: Prompts, num_rounds: int, sample_size: int, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Prompts per second of every arm and its ratio to one prompt at a time."""
    everyone = list(range(len(prompts.prompts)))
    sample = random.Random(seed).sample(everyone, min(sample_size or len(everyone), len(everyone)))
    arms: dict[str, Callable[[Sequence[int]], list[Decoded]]] = {
        "one at a time": prompts.one_at_a_time,
        "generate in batches": prompts.generate,
        "ours, dynamic cache": lambda chosen: prompts.ours(chosen, "dynamic"),
        "ours, static cache": lambda chosen: prompts.ours(chosen, "static"),
    }
    for arm in arms.values():
        arm(sample[:2])  # warms caches and allocators
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    num_alike = dict.fromkeys(arms, 0)
    rng = random.Random(seed)
    for number in range(num_rounds):
        asked = sample[number::num_rounds]
        answers = {}
        for name in rng.sample(list(arms), k=len(arms)):
            chosen = asked if name == "one at a time" else everyone
            started = time.perf_counter()
            written = arms[name](chosen)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            speeds[name].append(len(chosen) / (time.perf_counter() - started))
            answers[name] = dict(zip(chosen, written, strict=True))
        for name in arms:
            alone = answers["one at a time"]
            num_alike[name] += sum(answers[name][i] == alone[i] for i in asked)
    table = {}
    for name in arms:
        ratios = [a / b for a, b in zip(speeds[name], speeds["one at a time"], strict=True)]
        table[name] = {
            "prompts_per_second": round(statistics.median(speeds[name]), 2),
            "ratio": round(statistics.median(ratios), 2),
            "ratios": [round(ratio, 2) for ratio in ratios],
            "num_compared": len(sample),
            "num_alike": num_alike[name],
        }
    return table


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="JSONL file of rows")
    parser.add_argument("--model", required=True, help="a run's folder, a model or a preset")
    parser.add_argument("--sample", type=int, default=300, help="slow prompts in all; 0 for all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch_tokens", type=int, default=16_384)
    parser.add_argument("--limit", type=int, help="only the first so many rows")
    parser.add_argument("--threads", type=int, help="of torch; unset for its own choice")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    prompts = Prompts(options.data, options.model, options.batch_tokens, options.limit)
    table = measure(prompts, options.rounds, options.sample)
    print(f"{len(prompts.prompts):,} prompts, at most {prompts.limit} tokens an answer")
    print(f"  {'arm':<22}{'prompts / s':>12}{'ratio':>8}   same as one at a time")
    for name, row in table.items():
        alike = f"{row['num_alike']:,} of {row['num_compared']:,}"
        print(f"  {name:<22}{row['prompts_per_second']:>12.1f}{row['ratio']:>8.1f}   {alike}")
    if options.output:
        found = {
            "environment": describe_environment(),
            "data": Path(options.data).name,
            "model": Path(options.model).name,
            "num_prompts": len(prompts.prompts),
            "max_new_tokens": prompts.limit,
            "batch_tokens": options.batch_tokens,
            "arms": table,
        }
        write_json(options.output, found)


if __name__ == "__main__":
    main()
