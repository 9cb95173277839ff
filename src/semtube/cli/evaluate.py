"""`semtube evaluate`."""

from __future__ import annotations

from semtube.cli.parser import Parser
from semtube.config import EvaluationOptions


def build_parser() -> Parser:
    """A model or run, the rows, the task, and where the records go."""
    parser = Parser(
        "evaluate",
        usage="MODEL (--data FILE | --task TASK) [--output FOLDER] [options]",
        description="Decode test rows greedily and score them as their field does, with "
        "intervals; every answer is kept.",
        example="semtube evaluate runs/tube --task nl-rx-synth",
    )
    parser.add_argument(
        "model", type=str, help="A run's folder, a model's folder, a .gguf file, or a hub name."
    )
    parser.add_class_arguments(EvaluationOptions, as_group=False)
    return parser


def run(argv: list[str]) -> int:
    """Parse, decode, score, and show the metrics."""
    fields = build_parser().parse_args(argv).as_dict()
    model = fields.pop("model")
    from rich.console import Console
    from rich.progress import Progress

    from semtube.cli.display import metrics_table
    from semtube.study.evaluate import evaluate_model

    options = EvaluationOptions(**fields)
    console = Console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("decoding", total=None)
        metrics, folder = evaluate_model(
            model,
            options,
            say=lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True),
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    named = " ".join(filter(None, [options.task, options.data]))
    console.print(metrics_table(metrics, f"{model} on {named}"))
    if any(", " in name for name in metrics):
        console.print("Intervals: Wilson's over all rows, exact (Clopper-Pearson) in groups.")
    answers = f"Every answer is in {folder}/examples.jsonl"
    if "stopped" not in metrics:
        answers = "No row asks a question, so only losses were measured"
    text = f"{answers}, the table is in {folder}/metrics.json."
    console.print(text, markup=False, soft_wrap=True)
    return 0
