"""Write docs/cli.md from the commands' own help; with --check, fail if it differs."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

os.environ["COLUMNS"] = "100"

from semtube.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
COMMANDS = (
    "", "demo", "train", "evaluate", "compare", "probe", "fit", "study", "report", "objectives",
    "data", "data list", "data get", "data verify", "data card", "data generate", "data check",
    "data show",
    "rhm", "rhm sample", "rhm ilc", "rhm slc", "rhm data2vec", "rhm figure", "rhm all",
)  # fmt: skip


def page() -> str:
    """The whole page."""
    parts = ["# The command line\n\nWritten by `python tools/write_cli_docs.py`; a test checks it."]
    for command in COMMANDS:
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            main([*command.split(), "--help"])
        title = " ".join(["semtube", *command.split(), "--help"])
        parts.append(f"## `{title}`\n\n```\n{shown.getvalue().strip()}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(PAGE.read_text() != page() and "docs/cli.md differs: run tools/write_cli_docs.py")
    PAGE.write_text(page())
