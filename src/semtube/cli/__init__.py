"""The `semtube` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import difflib
import importlib
import sys
import warnings

from semtube.errors import UserError
from semtube.version import __version__

#: Command -> what it does, one line; the module of the same name has `run(argv)`.
COMMANDS = {
    "demo": "Compare next-token prediction with and without the tube; no download, a few minutes.",
    "train": "Train one model, with an auxiliary objective or without.",
    "evaluate": "Decode test rows with a trained model and score them.",
    "compare": "Compare two runs, test row by test row.",
    "probe": "See the tube: measure hidden-state trajectories, with their nulls.",
    "fit": "Learning curves of several arms, and how many times less data each needs.",
    "study": "Do every run that a study file asks for; stop and go on at will.",
    "report": "Write a study's report from what its runs have stored: one offline page.",
    "objectives": "List the objectives, or describe one with its options.",
    "rhm": "The theory lab: learn a grammar from own latents and from tokens.",
    "data": "List, fetch and verify the tasks' data; generate, check or show rows.",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 2 the user's mistake, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0
    if argv[0] == "--version":
        print(f"semtube {__version__}")
        return 0
    command = argv[0]
    # Libraries announce their next major versions to their developers, not to our users.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft|accelerate")
    try:
        if command not in COMMANDS:
            raise UserError(_unknown_command(command))
        return importlib.import_module(f"semtube.cli.{command}").run(argv[1:])
    except UserError as error:
        print(f"semtube: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("semtube"):
            raise
        print(
            f"semtube: {command} needs {error.name!r}, which is not installed: "
            "pip install 'semtube[all]'",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # the reader, say `head`, has seen enough
        sys.stdout = None
        return 0
    except OSError as error:
        print(f"semtube: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("semtube: interrupted", file=sys.stderr)
        return 130


def _unknown_command(command: str) -> str:
    near = difflib.get_close_matches(command, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(COMMANDS)}"
    return f"no command {command!r}: {hint}"


def _help() -> str:
    lines = [
        "usage: semtube COMMAND [options]",
        "",
        "Semantic Tube Prediction for language models, and an honest measurement of what it saves.",
        "",
        "commands:",
        *(f"  {name:<12}{summary}" for name, summary in COMMANDS.items()),
        "",
        "options:",
        "  -h, --help  Show this help; `semtube COMMAND --help` shows a command's.",
        "  --version   Show the version.",
        "",
        "example:",
        "  semtube demo",
    ]
    return "\n".join(lines)
