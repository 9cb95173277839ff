"""`semtube probe`."""

from __future__ import annotations

from semtube.cli.parser import Parser
from semtube.config import ProbeOptions


def build_parser() -> Parser:
    """Checkpoints, the rows, and what is measured."""
    parser = Parser(
        "probe",
        usage="RUN... (--data FILE | --task TASK) [--output FOLDER] [options]",
        description="Measure the hidden-state trajectories of one checkpoint or several on the "
        "same rows: straightness, tube, spectra, views, capacity, drift and the inference cone, "
        "with what they are of trajectories that mean nothing. Writes a table (long form), "
        "pictures and one offline page.",
        example="semtube probe runs/tube --data test.jsonl",
    )
    parser.add_argument(
        "models",
        type=str,
        nargs="+",
        help="Runs' folders, models' folders, .gguf files, or hub names; others are compared with "
        "the first, or with --start each with its own start.",
    )
    parser.add_class_arguments(ProbeOptions, as_group=False)
    return parser


def run(argv: list[str]) -> int:
    """Parse, measure, write the page, and say where it is."""
    fields = build_parser().parse_args(argv).as_dict()
    models = fields.pop("models")
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from semtube.report.probe_page import write_probe_page
    from semtube.study.probe import probe_models

    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TextColumn("rows"), TimeElapsedColumn())  # fmt: skip
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("measuring", total=None)

        def show(checkpoint: str, done: int, total: int) -> None:
            progress.update(task, description=checkpoint, completed=done, total=total)

        folder = probe_models(
            models, ProbeOptions(**fields), draw=write_probe_page, say=say, on_progress=show
        )
    say(f"The page is {folder}/index.html, the table is {folder}/table.csv.")
    return 0
