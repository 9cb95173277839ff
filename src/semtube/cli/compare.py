"""`semtube compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semtube.cli.parser import Parser
from semtube.config import CHANGES_NO_NUMBER
from semtube.errors import UserError

#: What an arm is made of: in nothing else should two runs, or two evaluations, differ.
OF_THE_ARM = ("objective", "weight", "weight_schedule", "weight_dropout", "options")
#: Of an evaluation: the models that are compared, places, and how batches are made.
EVALUATION_CHANGES_NO_NUMBER = (
    "model", "data", "data_folder", "output", "batch_tokens", "environment", "trust_remote_code",
)  # fmt: skip


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
    a, b = _settings(run_a), _settings(run_b)
    if a is None or b is None or ("fingerprint" in a) != ("fingerprint" in b):
        return ["These are not two runs, nor two evaluations, so settings cannot be compared."]
    names = [name for name in a | b if a.get(name) != b.get(name)]
    found = [f"{name}: {_short(a.get(name))} against {_short(b.get(name))}" for name in names]
    others = [name for name in names if name not in OF_THE_ARM]
    if others:
        found.append(f"Warning: they differ in more than the objective: {', '.join(others)}.")
    return found


def _settings(path: str) -> dict[str, Any] | None:
    """What can change a number: of a run, with its data, or of an evaluation, with its rows."""
    from semtube.run_folder import RunFolder, read_json

    evaluation = Path(path) / "evaluation.json"
    if evaluation.is_file():
        whole = read_json(evaluation)
        return {k: v for k, v in whole.items() if k not in EVALUATION_CHANGES_NO_NUMBER}
    run = RunFolder(path)
    if not (run.config.is_file() and run.identity.is_file()):
        return None
    kept = {k: v for k, v in run.read_config().items() if k not in CHANGES_NO_NUMBER}
    return kept | {f"{k} rows": v for k, v in read_json(run.identity)["fingerprints"].items()}


def _short(value: Any) -> str:
    return str(value)[:80]


def _examples_file(path: str) -> Path:
    found = Path(path)
    if found.is_dir():
        of_a_study = found / "readings" / "test" / "examples.jsonl"
        found = of_a_study if of_a_study.is_file() else found / "examples.jsonl"
    if not found.is_file():
        raise UserError(
            f"{path!r} holds no examples.jsonl: give a run trained with --test, or one evaluated "
            "with semtube evaluate"
        )
    return found
