"""`semtube train`."""

from __future__ import annotations

from pathlib import Path

from semtube.cli.parser import Parser, plain
from semtube.config import RunConfig
from semtube.errors import UserError
from semtube.run_folder import RunFolder


def build_parser() -> Parser:
    """Every field of a run as an option, a YAML file for all, dotted names for groups."""
    parser = Parser(
        "train",
        usage="--data FILE --output FOLDER [--config FILE.yaml] [options]\n"
        "       semtube train --resume FOLDER",
        description="Train one model, with the tube loss or without it. Options come from "
        "--config, then from the command line. The resolved settings are stored with the run.",
        example="semtube train --model tiny-2m --data train.jsonl --test test.jsonl "
        "--objective tube --weight 0.02 --steps 1000 --output runs/tube",
    )
    parser.add_argument("--config", action="config", help="YAML (or JSON) file with options.")
    parser.add_argument(
        "--resume",
        type=str | None,
        metavar="FOLDER",
        help="Go on with an interrupted run; takes no other option.",
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
        console.print(f"{stop}; go on with:\n  semtube train --resume {config.output}")
        return 130
    if result["metrics"]:
        console.print(metrics_table(result["metrics"], f"{config.output}: {config.test}"))
    console.print(
        f"Done: {result['num_steps']:,} steps in {result['training_seconds']:.0f} s. "
        f"Model in {config.output}/model, numbers in {config.output}/result.json."
    )
    return 0


def _read(argv: list[str]) -> tuple[RunConfig, bool]:
    if any(word == "--resume" or word.startswith("--resume=") for word in argv):
        words = " ".join(argv).replace("--resume=", "--resume ").split(" ", 1)
        if words[0] != "--resume" or len(argv) > 2:
            raise UserError("--resume takes a run's folder and no other option")
        if len(words) < 2:
            raise UserError("--resume needs the folder of the run to go on with")
        folder = RunFolder(words[1])
        fields = folder.read_config()
        fields["output"] = str(Path(words[1]))
        return RunConfig.from_dict(fields), True
    parser = build_parser()
    namespace = parser.parse_args(argv)
    fields = plain(namespace)
    for name in ("config", "resume"):
        fields.pop(name, None)
    return RunConfig.from_dict(fields), False
