"""`semtube train`."""

from __future__ import annotations

import shlex
from pathlib import Path

from semtube.cli.parser import Parser
from semtube.config import RunConfig
from semtube.errors import UserError
from semtube.run_folder import RunFolder


def build_parser() -> Parser:
    """Every field of a run as an option, a YAML file for all, dotted names for groups."""
    parser = Parser(
        "train",
        usage="(--data FILE | --task TASK) --output FOLDER [--config FILE.yaml] [options]\n"
        "       semtube train --resume FOLDER",
        description="Train one model, with an auxiliary objective or without. Options come from "
        "--config, then from the command line. The resolved settings are stored with the run.",
        example="semtube train --model tiny-2m --data train.jsonl --test test.jsonl "
        "--objective tube --weight 0.02 --steps 1000 --output runs/tube",
    )
    parser.add_argument("--config", action="config", help="YAML (or JSON) file with options.")
    parser.add_argument(
        "--resume",
        type=str | None,
        metavar="FOLDER",
        help="Go on with an interrupted run; takes no option but trust_remote_code.",
    )
    parser.add_class_arguments(RunConfig, as_group=False)
    return parser


def run(argv: list[str]) -> int:
    """Parse, train, test, and say where everything is."""
    config, resume = _read(argv)
    from rich.console import Console

    from semtube.cli.display import RunProgress, metrics_table
    from semtube.study.run import Interrupted, execute

    console = Console()
    try:
        with RunProgress(console, log_every=config.log_every) as progress:
            result = execute(config, resume=resume, listener=progress.listener())
    except Interrupted as stop:
        where = shlex.quote(config.output)
        text = f"{stop}; go on with:\n  semtube train --resume {where}"
        console.print(text, markup=False, soft_wrap=True)
        return 130
    if result["metrics"]:
        console.print(metrics_table(result["metrics"], f"{config.output}: {config.test}"))
    console.print(
        f"Done: {result['num_steps']:,} steps in {result['training_seconds']:.0f} s. "
        f"Model in {config.output}/model, numbers in {config.output}/result.json.",
        markup=False,
        soft_wrap=True,
    )
    return 0


def _read(argv: list[str]) -> tuple[RunConfig, bool]:
    only = "--resume takes a run's folder and no option but trust_remote_code"
    match [part for word in argv for part in word.split("=", 1)]:
        case ["--resume"]:
            raise UserError("--resume needs the folder of the run to go on with")
        case ["--resume", path, *rest]:
            if rest and rest not in (["--trust_remote_code", word] for word in ("true", "false")):
                raise UserError(only)
            fields = RunFolder(path).read_config()
            # A stored run may come from somebody else: its code is trusted anew or not at all.
            fields |= {"output": str(Path(path)), "trust_remote_code": rest[1:] == ["true"]}
            return RunConfig.from_dict(fields), True
        case words if "--resume" in words:
            raise UserError(only)
    fields = build_parser().parse_args(argv).as_dict()
    for name in ("config", "resume"):
        fields.pop(name, None)
    return RunConfig.from_dict(fields), False
