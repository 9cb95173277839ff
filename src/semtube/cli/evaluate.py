"""`semtube evaluate`."""

from __future__ import annotations

from semtube.cli.parser import Parser
from semtube.errors import UserError


def build_parser() -> Parser:
    """A model or run, the rows, and where the records go."""
    parser = Parser(
        "evaluate",
        usage="MODEL --data FILE [--output FOLDER] [options]",
        description="Decode test rows greedily and score them: exact match, right content (the "
        "answer begins rightly, whether or not the model stops), stopped or not; with intervals.",
        example="semtube evaluate runs/tube --data test.jsonl",
    )
    parser.add_argument(
        "model", type=str, help="A run's folder, a model's folder, a .gguf file, or a hub name."
    )
    parser.add_argument("--data", type=str, required=True, help="JSONL file of rows to answer.")
    parser.add_argument(
        "--output",
        type=str | None,
        help="New folder for examples.jsonl and metrics.json; for a run, unset is "
        "RUN/evaluation-NAME after the data file's name.",
    )
    parser.add_argument(
        "--max_tokens",
        type=int | None,
        help="Longer rows are left out; unset for the run's own limit, or 512.",
    )
    parser.add_argument("--batch_size", type=int, default=64, help="Rows decoded together.")
    parser.add_argument("--limit", type=int | None, help="Only the first so many rows.")
    parser.add_argument(
        "--trust_remote_code", type=bool, default=False, help="Run code that comes with the model."
    )
    return parser


def run(argv: list[str]) -> int:
    """Parse, decode, score, and show the metrics."""
    options = build_parser().parse_args(argv)
    numbers = (options.batch_size, options.max_tokens, options.limit)
    if any(number is not None and number < 1 for number in numbers):
        raise UserError("batch_size, max_tokens and limit must be at least 1")
    from rich.console import Console
    from rich.progress import Progress

    from semtube.cli.display import metrics_table
    from semtube.study.evaluate import evaluate_model

    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("decoding", total=None)
        metrics, folder = evaluate_model(
            options.model,
            options.data,
            output=options.output,
            max_tokens=options.max_tokens,
            batch_size=options.batch_size,
            limit=options.limit,
            trust_remote_code=options.trust_remote_code,
            say=console.print,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console.print(metrics_table(metrics, f"{options.model} on {options.data}"))
    answers = f"Every answer is in {folder}/examples.jsonl"
    if "exact_match" not in metrics:
        answers = "No row asks a question, so only losses were measured"
    text = f"{answers}, the table is in {folder}/metrics.json."
    console.print(text, markup=False, soft_wrap=True)
    return 0
