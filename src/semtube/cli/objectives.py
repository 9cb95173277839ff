"""`semtube objectives`."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import fields

from semtube.cli.parser import Parser
from semtube.errors import UserError


def build_parser() -> Parser:
    """One optional name."""
    parser = Parser(
        "objectives",
        usage="[NAME]",
        description="List the objectives that `semtube train` can add to next-token prediction, "
        "or describe one with its options.",
        example="semtube objectives tube",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="One objective.")
    return parser


def run(argv: list[str]) -> int:
    """Print the list, or one description."""
    name = build_parser().parse_args(argv).name
    from rich.console import Console
    from rich.table import Table

    from semtube.objectives.catalogue import OBJECTIVES

    console = Console()
    if name is None:
        table = Table("name", "weight", "what it adds")
        for known, kind in OBJECTIVES.items():
            table.add_row(known, str(kind().weight), (inspect.getdoc(kind) or "").split("\n")[0])
        console.print(table)
        console.print("One of them with its options: semtube objectives NAME")
        return 0
    if name == "ntp":
        console.print("ntp: next-token prediction alone; it has no options.")
        return 0
    if name not in OBJECTIVES:
        near = difflib.get_close_matches(name, OBJECTIVES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(OBJECTIVES)}"
        raise UserError(f"no objective {name!r}: {hint}")
    kind = OBJECTIVES[name]
    console.print(f"{name} (in Python semtube.{kind.__name__})\n", markup=False, highlight=False)
    console.print(inspect.getdoc(kind), markup=False, highlight=False)
    console.print("\nDefaults:", highlight=False)
    for field in fields(kind):
        option = "--weight" if field.name == "weight" else f"--options.{field.name}"
        console.print(f"  {option} {field.default}", markup=False, highlight=False)
    return 0
