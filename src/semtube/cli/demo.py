"""`semtube demo`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from semtube.cli.parser import Parser
from semtube.errors import UserError

if TYPE_CHECKING:
    from semtube.study.runner import StudyFolder


def build_parser() -> Parser:
    """Where the demo writes, and how many runs it does at once."""
    parser = Parser(
        "demo",
        usage="[--output FOLDER] [--workers N]",
        description="A small study from start to end: train tiny models from nothing on generated "
        "text-to-regex rows, with and without the tube loss, on all rows and on a quarter of them, "
        "two seeds each; then write the report. No download. Stopped, it goes on where it was.",
        example="semtube demo --output semtube-demo",
    )
    parser.add_argument(
        "--output", type=str, default="semtube-demo", help="Folder for runs and report."
    )
    parser.add_argument(
        "--workers", type=int | None, help="Runs at once; unset for one a core, up to four."
    )
    return parser


def run(argv: list[str]) -> int:
    """Do the demo's study, and say what to do next."""
    options = build_parser().parse_args(argv)
    num_workers = options.workers or min(4, os.cpu_count() or 1)
    if num_workers < 1:
        raise UserError(f"workers is {num_workers}: it must be at least 1")
    from semtube.cli.study import do_study
    from semtube.study.demo import DEMO
    from semtube.study.local_workers import LocalWorkers
    from semtube.study.runner import StudyFolder

    DEMO.check()
    folder = StudyFolder(Path(options.output))
    again = f"semtube demo {shlex.join(argv)}"
    status = do_study(DEMO, folder, LocalWorkers(num_workers), again=again)
    if status == 0:
        print(_next_steps(folder))
    return status


def _next_steps(folder: StudyFolder) -> str:
    from semtube.run_folder import read_json

    runs = {run["arm"]: run["run"] for run in read_json(folder.plan)["runs"]}
    place, data = folder.store.path, folder.data
    return (
        "Next:\n"
        f"  semtube compare {place / runs['ntp']} {place / runs['tube']}\n"
        f"  semtube data show {data}/train.jsonl\n"
        f"  semtube train --data {data}/train.jsonl --test {data}/test.jsonl "
        "--weight 0.08 --steps 400 --output runs/tube-0.08"
    )
