"""`semtube data`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

from semtube.cli import task_data
from semtube.cli.parser import Parser
from semtube.errors import UserError

OWN_ACTIONS = {
    "generate": "Write text-to-regex rows from the embedded grammar, split by regex.",
    "check": "Read files, count rows and duplicates, and what the splits share.",
    "show": "Show one row token by token: trained, trajectory, masked.",
}
ACTIONS = task_data.ACTIONS | OWN_ACTIONS


def run(argv: list[str]) -> int:
    """Run one action on data."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: semtube data ACTION [options]\n\nactions:")
        for name, summary in ACTIONS.items():
            print(f"  {name:<10}{summary}")
        print("\nexample: semtube data generate --output data/regex")
        return 0
    if argv[0] not in ACTIONS:
        near = difflib.get_close_matches(argv[0], ACTIONS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(ACTIONS)}"
        raise UserError(f"no action {argv[0]!r}: {hint}")
    actions = {
        "list": task_data.run_list,
        "get": task_data.run_get,
        "verify": task_data.run_verify,
        "card": task_data.run_card,
        "generate": _generate,
        "check": _check,
        "show": _show,
    }
    return actions[argv[0]](argv[1:])


def generate_parser() -> Parser:
    """Options of `data generate`."""
    parser = Parser(
        "data generate",
        usage="--output FOLDER [options]",
        description=OWN_ACTIONS["generate"],
        example="semtube data generate --output data/regex --num_pairs 10000",
    )
    parser.add_argument("--output", type=str, required=True, help="New folder for the three files.")
    parser.add_argument("--num_pairs", type=int, default=10_000, help="Rows in all.")
    parser.add_argument("--validation_fraction", type=float, default=0.05, help="Share of rows.")
    parser.add_argument("--test_fraction", type=float, default=0.2, help="Share of rows.")
    parser.add_argument("--seed", type=int, default=0, help="Of grammar and split.")
    return parser


def _generate(argv: list[str]) -> int:
    options = generate_parser().parse_args(argv)
    from semtube.study.generated import write_generated

    sizes = write_generated(
        Path(options.output),
        num_pairs=options.num_pairs,
        validation_fraction=options.validation_fraction,
        test_fraction=options.test_fraction,
        seed=options.seed,
    )
    for name, size in sizes.items():
        print(f"{options.output}/{name}.jsonl  {size:,} rows")
    return 0


def check_parser() -> Parser:
    """Options of `data check`."""
    parser = Parser(
        "data check",
        usage="--train FILE [--validation FILE] [--test FILE]",
        description=OWN_ACTIONS["check"],
        example="semtube data check --train train.jsonl --test test.jsonl",
    )
    for name in ("train", "validation", "test"):
        kind = str if name == "train" else str | None
        parser.add_argument(f"--{name}", type=kind, required=name == "train", help="JSONL file.")
    return parser


def _check(argv: list[str]) -> int:
    options = check_parser().parse_args(argv)
    from semtube.data.examples import read_examples
    from semtube.data.fractions import num_duplicates, overlap
    from semtube.data.near_duplicates import count_near

    parts = {
        name: read_examples(path)
        for name in ("train", "validation", "test")
        if (path := getattr(options, name))
    }
    for name, rows in parts.items():
        print(f"{name}: {len(rows):,} rows, {num_duplicates(rows):,} repeat an earlier one")
    names = list(parts)
    for place, name in enumerate(names):
        for other in names[:place]:
            pair = name, parts[name], other, parts[other]
            print(overlap(*pair).sentence())
            print(count_near(*pair).sentence())
    return 0


def show_parser() -> Parser:
    """Options of `data show`."""
    parser = Parser(
        "data show",
        usage="FILE --model MODEL [--row N]",
        description=OWN_ACTIONS["show"],
        example="semtube data show train.jsonl --model tiny-2m --row 3",
    )
    parser.add_argument("file", type=str, help="JSONL file.")
    parser.add_argument("--model", type=str, default="tiny-2m", help="Whose tokenizer is used.")
    parser.add_argument("--row", type=int, default=1, help="Which row, from 1.")
    parser.add_argument(
        "--labels", type=Literal["answer", "full"], default="answer", help="As in training."
    )
    parser.add_argument("--train_stop", type=bool, default=True, help="Stop tokens as targets.")
    parser.add_argument(
        "--content",
        type=Literal["text", "instruction", "answer", "all"],
        default="text",
        help="Trajectory, as in training.",
    )
    return parser


def _show(argv: list[str]) -> int:
    options = show_parser().parse_args(argv)
    from rich.console import Console

    from semtube.cli.display import show_tokens
    from semtube.data.examples import read_examples
    from semtube.data.rendering import Renderer
    from semtube.data.tokens import view_tokens
    from semtube.models.loading import load_model
    from semtube.objectives.trajectories import CONTENT_ROLES

    examples = read_examples(options.file)
    if not 1 <= options.row <= len(examples):
        raise UserError(f"row is {options.row}: {options.file} has rows 1 to {len(examples)}")
    texts = (message.content for example in examples for message in example.messages)
    loaded = load_model(options.model, texts=texts)
    renderer = Renderer(
        loaded.tokenizer, loaded.stop_ids, labels=options.labels, train_stop=options.train_stop
    )
    row = renderer.render(examples[options.row - 1])
    show_tokens(Console(), row.source, view_tokens(row, renderer, CONTENT_ROLES[options.content]))
    return 0
