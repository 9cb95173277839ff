"""`semtube rhm slc` and `semtube rhm data2vec`."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

from semtube.cli.parser import Parser
from semtube.cli.rhm import ACTIONS


def _network_parser(name: str, settings: type) -> Parser:
    parser = Parser(
        f"rhm {name}",
        usage="--output FOLDER [--config FILE.yaml] [options]",
        description=ACTIONS[name] + " An interrupted run goes on by the same command.",
        example=f"semtube rhm {name} --output rhm/{name}",
    )
    parser.add_argument("--config", action="config", help="YAML (or JSON) file with options.")
    parser.add_argument("--output", type=str, required=True, help="Folder of this run alone.")
    parser.add_class_arguments(settings, as_group=False)
    return parser


def slc_parser() -> Parser:
    """Options of `rhm slc`."""
    from semtube.rhm.slc_settings import SLCSettings

    return _network_parser("slc", SLCSettings)


def run_slc(argv: list[str]) -> int:
    """Train, or go on."""
    from semtube.rhm.slc_settings import SLCSettings

    settings, folder = _network_settings(slc_parser(), SLCSettings, argv)
    from semtube.rhm import slc_training

    return _train("slc", slc_training.run_slc, settings, folder)


def data2vec_parser(size: str = "small") -> Parser:
    """Options of `rhm data2vec`, with the defaults of a size."""
    from semtube.rhm.data2vec_settings import CPU_SIZE, Data2VecSettings

    parser = _network_parser("data2vec", Data2VecSettings)
    parser.add_argument(
        "--size",
        type=Literal["small", "paper"],
        default="small",
        help="Defaults of the other options: for two cores (shown), or the paper's, for a GPU.",
    )
    if size == "small":
        parser.set_defaults(CPU_SIZE)
    return parser


def run_data2vec(argv: list[str]) -> int:
    """Train, or go on."""
    from semtube.rhm.data2vec_settings import Data2VecSettings

    parser = data2vec_parser(data2vec_parser().parse_args(argv).size)
    settings, folder = _network_settings(parser, Data2VecSettings, argv)
    from semtube.rhm import data2vec_training

    return _train("data2vec", data2vec_training.run_data2vec, settings, folder)


def _network_settings(parser: Parser, kind: type, argv: list[str]) -> tuple[Any, Path]:
    values = vars(parser.parse_args(argv))
    folder = Path(values.pop("output"))
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in names}), folder


def _train(learner: str, train: Any, settings: Any, folder: Path) -> int:
    from rich.console import Console

    from semtube.report.network_run import draw_network_run

    say = partial(Console().print, highlight=False, markup=False, soft_wrap=True)
    try:
        train(settings, folder, lambda line: say(metrics_line(line)))
    except KeyboardInterrupt:
        say(f"{folder} keeps what is done: the same command goes on.")
        raise
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    run = {"learner": learner, **asdict(settings), "metrics": [json.loads(x) for x in lines]}
    draw_network_run(run, folder / "curves")
    say(f"{folder}: result.json, curves.png, curves.svg, curves.csv")
    return 0


def metrics_line(line: dict[str, Any]) -> str:
    """Numbers of one line of metrics, lists by level."""
    parts = []
    for name, value in line.items():
        numbers = value if isinstance(value, list) else [value]
        if all(isinstance(x, int | float) for x in numbers):
            shown = " ".join(f"{x:,}" if isinstance(x, int) else f"{x:.3f}" for x in numbers)
            parts.append(f"{name.replace('_', ' ')} {shown}")
    return "  ".join(parts)
