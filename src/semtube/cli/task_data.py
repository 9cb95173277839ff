"""`semtube data list | get | verify | card`: the tasks' own data."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from semtube.cli.parser import Parser
from semtube.errors import UserError

if TYPE_CHECKING:
    from semtube.tasks.task import Card

NO_ADDRESS = "no single address: from a folder or a mirror"
ACTIONS = {
    "list": "List the tasks that have data of their own, and where these are now.",
    "get": "Fetch a task's data from their source or a mirror, verified.",
    "verify": "Check a task's data against the sizes and sha256 of its card.",
    "card": "Show a task's card: source, licence, splits, known leaks, files.",
}


def _cards() -> dict[str, Card]:
    from semtube.tasks.catalogue import TASKS

    return {name: kind.card for name, kind in TASKS.items()}


def _card_of(name: str) -> Card:
    cards = _cards()
    if name not in cards:
        near = difflib.get_close_matches(name, cards, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(cards)}"
        raise UserError(f"no task {name!r}: {hint}")
    return cards[name]


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def list_parser() -> Parser:
    """Options of `data list`."""
    parser = Parser(
        "data list",
        usage="[--folder FOLDER]",
        description=ACTIONS["list"],
        example="semtube data list",
    )
    parser.add_argument(
        "--folder", type=str | None, help="Looked at instead of SEMTUBE_DATA or the cache."
    )
    return parser


def run_list(argv: list[str]) -> int:
    """Print a table of the tasks."""
    options = list_parser().parse_args(argv)
    from rich.console import Console
    from rich.table import Table

    from semtube.data.data_files import data_place

    place = data_place(Path(options.folder) if options.folder else None)
    table = Table(box=None, title=f"data folder: {place.path} ({place.named_by})")
    for column in ("name", "title", "rows", "licence", "files"):
        table.add_column(column, overflow="fold")
    for name, card in _cards().items():
        rows = "\n".join(f"{split} {size:,}" for split, size in card.splits.items())
        table.add_row(name, card.title, rows, card.licence, _whereabouts(card, place.path))
    Console(markup=False, highlight=False).print(table)
    return 0


def _whereabouts(card: Card, folder: Path) -> str:
    from semtube.data.data_files import verify

    problems = verify(card.files, folder)
    if not problems:
        return "here"
    damaged = sum(problem.kind == "damaged" for problem in problems)
    if damaged:
        return f"{damaged} of {len(card.files)} damaged"
    here = len(card.files) - len(problems)
    paths = {problem.path for problem in problems}
    lacking = [file for file in card.files if file.path in paths]
    size = _megabytes(sum(file.num_bytes for file in lacking))
    way = "to get" if all(file.url for file in lacking) else "to get from a mirror"
    count = f"{here} of {len(card.files)} here" if here else "not here"
    return f"{count} ({size} {way})"


def get_parser() -> Parser:
    """Options of `data get`."""
    parser = Parser(
        "data get",
        usage="NAME [--output FOLDER] [--mirror MIRROR]",
        description=ACTIONS["get"],
        example="semtube data get gsm8k",
    )
    parser.add_argument("name", type=str, help="A task: see `semtube data list`.")
    parser.add_argument(
        "--output", type=str | None, help="Data folder; else SEMTUBE_DATA, else the cache."
    )
    parser.add_argument(
        "--mirror",
        type=str | None,
        help="Folder, http(s) address or hf://datasets/OWNER/NAME that holds the same paths.",
    )
    return parser


def run_get(argv: list[str]) -> int:
    """Fetch what a data folder lacks of a task."""
    options = get_parser().parse_args(argv)
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from semtube.data.data_files import data_place
    from semtube.data.fetching import fetch

    card = _card_of(options.name)
    folder = data_place(Path(options.output) if options.output else None).path
    console = Console()
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(card.name, total=sum(file.num_bytes for file in card.files))
        here: dict[str, int] = {}

        def on_progress(path: str, num_bytes: int) -> None:
            here[path] = num_bytes
            progress.update(task, completed=sum(here.values()), description=path)

        fetch(card.files, folder, mirror=options.mirror, on_progress=on_progress)
    size = _megabytes(sum(file.num_bytes for file in card.files))
    print(f"{card.name}: {_files(len(card.files))}, {size}, verified, in {folder}")
    return 0


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def verify_parser() -> Parser:
    """Options of `data verify`."""
    parser = Parser(
        "data verify",
        usage="NAME [--folder FOLDER]",
        description=ACTIONS["verify"],
        example="semtube data verify gsm8k --folder data",
    )
    parser.add_argument("name", type=str, help="A task: see `semtube data list`.")
    parser.add_argument(
        "--folder", type=str | None, help="Data folder; else SEMTUBE_DATA, else the cache."
    )
    return parser


def run_verify(argv: list[str]) -> int:
    """Print a line for every file that is not as it should be, and how many are.

    Raises:
        UserError: a file is missing or damaged.
    """
    options = verify_parser().parse_args(argv)
    from semtube.data.data_files import data_place, problem_of

    card = _card_of(options.name)
    folder = data_place(Path(options.folder) if options.folder else None).path
    problems = []
    for file in card.files:
        problem = problem_of(file, folder)
        if problem:
            problems.append(problem)
            print(f"{file.path}  {problem.kind}: {problem.reason}")
    good = len(card.files) - len(problems)
    print(f"{card.name}: {good} of {_files(len(card.files))} as the card says, in {folder}")
    if problems:
        first = problems[0].path
        raise UserError(
            f"{len(problems)} of {_files(len(card.files))} of {card.name} in {folder} missing or "
            f"damaged, the first one {first}: `semtube data get {card.name} --output {folder}` "
            "fetches them"
        )
    return 0


def card_parser() -> Parser:
    """Options of `data card`."""
    parser = Parser(
        "data card", usage="NAME", description=ACTIONS["card"], example="semtube data card gsm8k"
    )
    parser.add_argument("name", type=str, help="A task: see `semtube data list`.")
    parser.add_argument(
        "--files", action="store_true", help="Every file of a folder by itself, with its sha256."
    )
    return parser


def run_card(argv: list[str]) -> int:
    """Print a card."""
    options = card_parser().parse_args(argv)
    print(card_text(_card_of(options.name), every_file=options.files))
    return 0


def card_text(card: Card, *, every_file: bool = True) -> str:
    """Everything a card says; files that only a mirror has in one line, unless asked for."""
    splits = ", ".join(f"{name} {size:,}" for name, size in card.splits.items())
    lines = [
        f"{card.name}: {card.title}",
        "",
        f"source    {card.source}",
        f"licence   {card.licence}",
        f"metric    {card.metric}",
        f"rows      {splits}",
        "",
        "known leaks and faults, measured:",
        *(f"- {leak}" for leak in card.leaks),
        "",
        "files:",
    ]
    for file in card.files:
        if every_file or file.url:
            lines += [
                f"- {file.path}, {file.num_bytes:,} bytes",
                f"  sha256 {file.sha256}",
                f"  {file.url or NO_ADDRESS}",
            ]
    rest = [file for file in card.files if not (every_file or file.url)]
    if rest:
        places = " ".join(sorted({str(Path(file.path).parent) + "/" for file in rest}))
        size = _megabytes(sum(file.num_bytes for file in rest))
        lines += [
            f"- {places}: {_files(len(rest))}, {size}",
            f"  {NO_ADDRESS}; the sha256 of each: semtube data card {card.name} --files",
        ]
    return "\n".join(lines)
