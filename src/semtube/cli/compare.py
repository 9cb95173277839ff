"""`semtube compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semtube.cli.parser import Parser
from semtube.errors import UserError


def build_parser() -> Parser:
    """Two runs and a score."""
    parser = Parser(
        "compare",
        usage="RUN_A RUN_B [--score SCORE]",
        description="Pair two runs by test row: difference with a paired bootstrap interval, and "
        "McNemar's exact test. It compares these two trained models, not two methods: for a "
        "method, compare several seeds.",
        example="semtube compare runs/ntp runs/tube",
    )
    parser.add_argument(
        "run_a", type=str, help="A run's or evaluation's folder, or examples.jsonl."
    )
    parser.add_argument("run_b", type=str, help="The other; the difference is B minus A.")
    parser.add_argument(
        "--score",
        type=str | None,
        help="What is compared, such as exact_match or stopped; unset for the task's first score.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Of the bootstrap.")
    return parser


def run(argv: list[str]) -> int:
    """Parse, pair, and print the comparison as Markdown."""
    options = build_parser().parse_args(argv)
    from semtube.evaluation.compare import compare_records, comparison_table, read_records
    from semtube.seeding import stream_seed

    records = [read_records(_examples_file(path)) for path in (options.run_a, options.run_b)]
    comparison = compare_records(
        *records,
        score=options.score,
        seed=stream_seed(options.seed, "bootstrap"),
    )
    print(comparison_table(comparison, options.run_a, options.run_b))
    for sentence in _differences(options.run_a, options.run_b):
        print(sentence)
    return 0


def _differences(run_a: str, run_b: str) -> list[str]:
    """Settings in which two runs differ; a warning where more than the objective does."""
    from semtube.run_folder import RunFolder

    folders = RunFolder(run_a), RunFolder(run_b)
    if not all(folder.config.is_file() for folder in folders):
        return ["Not both are runs, so their settings cannot be compared."]
    a, b = (folder.read_config() for folder in folders)
    names = [name for name in a | b if name != "output" and a.get(name) != b.get(name)]
    found = [f"{name}: {_short(a.get(name))} against {_short(b.get(name))}" for name in names]
    of_the_arm = ("objective", "weight", "weight_schedule", "weight_dropout", "options", "threads")
    others = [name for name in names if name not in of_the_arm]
    if others:
        found.append(f"Warning: they differ in more than the objective: {', '.join(others)}.")
    return found


def _short(value: Any) -> str:
    return str(value)[:80]


def _examples_file(path: str) -> Path:
    found = Path(path) / "examples.jsonl" if Path(path).is_dir() else Path(path)
    if not found.is_file():
        raise UserError(
            f"{path!r} holds no examples.jsonl: give a run trained with --test, or one evaluated "
            "with semtube evaluate"
        )
    return found
