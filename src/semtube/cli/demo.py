"""`semtube demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from semtube.cli.parser import Parser


def build_parser() -> Parser:
    """Where the demo writes."""
    parser = Parser(
        "demo",
        usage="[--output FOLDER]",
        description="Train tiny models from nothing on generated text-to-regex rows: with and "
        "without the tube loss, on all rows and on a quarter of them, two seeds each; then compare "
        "them. No download. Stopped, it goes on where it was.",
        example="semtube demo --output semtube-demo",
    )
    parser.add_argument(
        "--output", type=str, default="semtube-demo", help="Folder for runs, table and figure."
    )
    return parser


def run(argv: list[str]) -> int:
    """Run the grid with a live display, then show and store table and figure."""
    folder = Path(build_parser().parse_args(argv).output)
    from rich.console import Console

    from semtube.cli.display import GridProgress
    from semtube.evaluation.compare import read_records
    from semtube.report.demo import DemoRun, markdown_table, rich_table, summary_rows
    from semtube.report.figure import write_figure
    from semtube.run_folder import RunFolder, write_text
    from semtube.study.demo import demo_configs, run_demo
    from semtube.study.run import Interrupted

    console = Console()
    configs = demo_configs(folder)
    console.print(
        f"{len(configs)} runs of {configs[0].model} in {folder}/ (nothing is downloaded):"
    )
    results: list[DemoRun] = []
    try:
        with GridProgress(console, configs) as progress:
            for number, result in run_demo(folder, progress.listener):
                progress.finish(number, result)
                records = read_records(RunFolder(configs[number].output).examples)
                results.append(_demo_run(result, records))
    except Interrupted as stop:
        console.print(f"{stop} of a run; go on with:\n  semtube demo --output {folder}")
        return 130
    rows = summary_rows(results)
    write_figure(results, folder / "figure.png")
    write_text(folder / "table.md", markdown_table(rows))
    console.print(rich_table(rows))
    console.print(_next_steps(folder, configs[0].output, configs[1].output))
    return 0


def _demo_run(result: dict[str, Any], records: Any) -> Any:
    from semtube.report.demo import DemoRun

    names = ("arm", "fraction", "seed", "num_train_examples", "metrics")
    return DemoRun(**{name: result[name] for name in names}, records=records)


def _next_steps(folder: Path, ntp: str, tube: str) -> str:
    return (
        f"Figure: {folder}/figure.png   table: {folder}/table.md\n"
        "Next:\n"
        f"  semtube compare {ntp} {tube}\n"
        f"  semtube data show {folder}/data/train.jsonl\n"
        f"  semtube train --data {folder}/data/train.jsonl --test {folder}/data/test.jsonl "
        "--weight 0.08 --steps 400 --output runs/tube-0.08"
    )
