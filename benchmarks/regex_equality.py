"""What it costs to tell whether two regexes of NL-RX describe the same language.

    python benchmarks/regex_equality.py synth_test.jsonl --output benchmarks/regex_equality.json

Takes the right answers of a file of chat rows, each against
- itself: the same text, known without a walk;
- itself, split: (X&Y)|(X&~Y) for X, so that all states are walked;
- itself and ".*": equal for some;
- mutants: a sign, word, class or count dropped, replaced or appended, as a model might;
- another answer.

Times are CPU time of one thread, with parsing.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from semtube.data.examples import read_examples
from semtube.run_folder import write_json
from semtube.study.environment import describe_environment
from semtube.tasks.regex_language import same_language
from semtube.tasks.regex_syntax import RegexSyntaxError, parse

#: What a mistake is made of.
PIECE = re.compile(r"\[[^]]*\]|\{[^}]*\}|\\b|[a-z]+|\.\*|.")
Pair = tuple[str, str]


def mutants(gold: str, all_pieces: list[str], rng: random.Random) -> Iterator[str]:
    """Texts with one change that are regexes still: a piece dropped, replaced and appended."""
    pieces = PIECE.findall(gold)
    for change in ("drop", "replace", "append"):
        for _ in range(100):
            place = rng.randrange(len(pieces))
            new = [] if change == "drop" else [rng.choice(all_pieces)]
            kept = place if change == "append" else place + 1
            text = "".join(pieces[:place] + new + pieces[kept:])
            try:
                parse(text)
            except RegexSyntaxError:
                continue
            if text != gold:
                yield text
                break


def make_pairs(golds: list[str], rng: random.Random) -> dict[str, list[Pair]]:
    """What is compared, by name."""
    all_pieces = [piece for gold in golds for piece in PIECE.findall(gold)]
    dog = ".*dog.*"
    return {
        "itself": [(gold, gold) for gold in golds],
        "itself, split": [(f"(({gold})&({dog}))|(({gold})&~({dog}))", gold) for gold in golds],
        'itself and ".*"': [(gold + ".*", gold) for gold in golds],
        "mutants": [(text, gold) for gold in golds for text in mutants(gold, all_pieces, rng)],
        "another": list(zip(golds[1:] + golds[:1], golds, strict=True)),
    }


def measure(pairs: list[Pair]) -> dict[str, Any]:
    """Verdicts and times of the pairs."""
    verdicts: Counter[str] = Counter()
    milliseconds = []
    for a, b in pairs:
        started = time.thread_time_ns()
        comparison = same_language(a, b)
        milliseconds.append((time.thread_time_ns() - started) / 1e6)
        verdicts[comparison.verdict.value] += 1
    percentiles = statistics.quantiles(milliseconds, n=100)
    return {
        "pairs": len(pairs),
        **{verdict: verdicts[verdict] for verdict in ("equal", "different", "undecided")},
        "undecided_share": verdicts["undecided"] / len(pairs),
        "median_milliseconds": round(percentiles[49], 4),
        "p99_milliseconds": round(percentiles[98], 4),
        "largest_milliseconds": round(max(milliseconds), 4),
    }


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", type=Path, help="JSONL file of chat rows")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    golds = [example.answer for example in read_examples(options.rows)]
    results: dict[str, Any] = {}
    print(f"{len(golds)} regexes of {options.rows.name}")
    print(f"{'against':<18}{'pairs':>7}{'equal':>7}{'undecided':>11}{'median':>9}{'p99':>9} ms")
    for name, pairs in make_pairs(golds, random.Random(0)).items():
        row = results[name] = measure(pairs)
        print(
            f"{name:<18}{row['pairs']:>7}{row['equal']:>7}{row['undecided_share']:>11.2%}"
            f"{row['median_milliseconds']:>9.3f}{row['p99_milliseconds']:>9.3f}"
        )
    if options.output:
        write_json(
            options.output,
            {"environment": describe_environment(), "rows": options.rows.name, "against": results},
        )


if __name__ == "__main__":
    main()
