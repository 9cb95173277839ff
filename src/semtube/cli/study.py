"""`semtube study`."""

from __future__ import annotations

import shlex
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semtube.cli.parser import Parser
from semtube.errors import UserError

if TYPE_CHECKING:
    from semtube.study.design import Study
    from semtube.study.runner import StudyFolder, Workers


#: Of all studies that are not told where; their runs are in a folder that they share.
STUDIES = Path("studies-out")


def build_parser() -> Parser:
    """A study file, where its runs go, and who does them."""
    parser = Parser(
        "study",
        usage="FILE [--quick] [--plan] [--output FOLDER] [--workers N | --ray [ADDRESS]]",
        description="Do every run that a study file asks for: tuning on validation rows first, "
        "then the final runs, whose test rows are decoded once. Stopped or killed, the same "
        "command goes on; a run that has its result is never done again.",
        example="semtube study studies/05_data_fractions.py --quick --workers 2",
    )
    parser.add_argument("file", type=str, help="A study: Python, or YAML for a simple grid.")
    parser.add_argument(
        "--quick", action="store_true", help="The file's small variant, for two CPU cores."
    )
    parser.add_argument(
        "--plan", action="store_true", help="Show runs and estimated cost, and run nothing."
    )
    parser.add_argument(
        "--output", type=str | None, help="Folder of the study; unset for studies-out/NAME."
    )
    parser.add_argument(
        "--runs",
        type=str | None,
        help="Folder of its runs; unset for studies-out/runs, which all studies share, or with "
        "--output for its own.",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="Runs at once on this machine; a cluster of Ray has as many as its CPUs allow.",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of every run.")
    parser.add_argument(
        "--gpus",
        type=str | None,
        help="GPUs of the workers in turn, such as 0,1; unset for all. With --ray: one for "
        "each run, whichever Ray gives.",
    )
    parser.add_argument(
        "--ray",
        type=str | None,
        nargs="?",
        const="local",
        help="Run on Ray: on this machine, or on the cluster at an address such as `auto`.",
    )
    parser.add_argument("--retry", action="store_true", help="Try runs again that failed before.")
    return parser


def run(argv: list[str]) -> int:
    """Read the study, show its plan or do its runs."""
    options = build_parser().parse_args(argv)
    for name in ("workers", "threads"):
        if getattr(options, name) < 1:
            raise UserError(f"{name} is {getattr(options, name)}: it must be at least 1")
    from semtube.study.runner import StudyFolder
    from semtube.study.study_file import load_study

    study = load_study(Path(options.file), quick=options.quick)
    study = replace(study, command=_command(options))
    output = Path(options.output or STUDIES / study.name)
    runs = options.runs
    if runs is None and options.output is None and not (output / "study.json").is_file():
        runs = STUDIES / "runs"
    folder = StudyFolder(output, Path(runs) if runs else None)
    if options.plan:
        return _plan(study, folder, options.workers)
    return do_study(
        study,
        folder,
        _workers(options),
        again=f"semtube study {shlex.join(argv)}",
        threads=options.threads,
        retry=options.retry,
    )


def _command(options: Any) -> str:
    """What does the study again; without what does not matter to that, such as --workers."""
    words = ["semtube", "study", options.file, *(["--quick"] if options.quick else [])]
    for name in ("output", "runs", "gpus"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", value]
    if options.threads != 1:
        words += ["--threads", str(options.threads)]
    if options.ray is not None:
        words += ["--ray", *([options.ray] if options.ray != "local" else [])]
    return shlex.join(words)


def _plan(study: Study, folder: StudyFolder, num_workers: int) -> int:
    from rich.console import Console

    from semtube.cli.study_display import plan_lines, plan_table
    from semtube.study.cost import estimate_costs

    console = Console()
    console.print(f"Question: {study.question}\nHypothesis: {study.hypothesis}", markup=False)
    costs = estimate_costs(study, folder)
    console.print(plan_lines(costs), markup=False, highlight=False, soft_wrap=True)
    console.print(plan_table(costs, num_workers))
    return 0


def do_study(
    study: Study,
    folder: StudyFolder,
    workers: Workers,
    *,
    again: str,
    threads: int = 1,
    retry: bool = False,
) -> int:
    """Do the runs with a live view, write the report, and tell the answer.

    Args:
        again: the command that goes on.
    """
    from rich.console import Console

    from semtube.cli.study_display import StudyProgress
    from semtube.report.study_page import write_report
    from semtube.run_folder import WriteError, read_json
    from semtube.study.runner import Stopped, run_study

    console = Console()
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        with StudyProgress(console) as progress:
            run_study(
                study, folder, workers, threads=threads, retry=retry, listener=progress.listener()
            )
        page = write_report(folder.path)
    except Stopped:
        console.print(f"stopped; go on with:\n  {again}", markup=False, soft_wrap=True)
        return 130
    except WriteError as error:
        raise UserError(f"{error}: make room, then go on with {again}") from error
    finally:
        workers.stop()
    answer = read_json(page.with_name("summary.json"))["answer"]["sentence"]
    failed = progress.num_failed
    done = f"Done: {progress.num_done} runs now, {failed} failed.\n{answer}\nReport: {page}"
    console.print(done, markup=False, soft_wrap=True, highlight=False)
    return 1 if failed else 0


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _workers(options: Any) -> Workers:
    if options.ray is not None:
        from semtube.study.ray_workers import RayWorkers

        address = None if options.ray == "local" else options.ray
        return RayWorkers(
            options.workers,
            address,
            num_threads=options.threads,
            num_gpus=1 if options.gpus else 0,
        )
    from semtube.study.local_workers import LocalWorkers

    return LocalWorkers(options.workers, options.gpus.split(",") if options.gpus else [])
