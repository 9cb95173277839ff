"""An argument parser whose errors are one sentence with the nearest right name."""

from __future__ import annotations

import difflib
import re
from typing import NoReturn

from jsonargparse import ArgumentParser

from semtube.errors import UserError


class Parser(ArgumentParser):
    """jsonargparse's parser; a user's mistake raises UserError.

    Args:
        command: after `semtube`.
        usage: the short form a person would type.
        description: what the command does.
        example: one command that works.
    """

    def __init__(self, command: str, *, usage: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"semtube {command}",
            usage=f"semtube {command} {usage}",
            description=description,
            epilog=f"example: {example}",
        )

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what was wrong in one sentence.

        Raises:
            UserError: always.
        """
        sentence = " ".join(str(message).split())
        for pattern, known in (
            (r"unrecognized arguments: (--[\w.\-]+)", self._option_names()),
            (r"[Oo]ption '([\w.\-]+)'", self._key_names()),
        ):
            found = re.search(pattern, sentence)
            if found:
                near = difflib.get_close_matches(found[1].replace("-", "_"), known, n=1, cutoff=0.5)
                near = near or difflib.get_close_matches(found[1], known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"see {self.prog} --help"
                raise UserError(f"no option {found[1]!r}: {hint}")
        # Of a choice that may be left out only the choice is told.
        sentence = re.sub(r"typing\.Literal\[([^\]]*)\], <class 'NoneType'>", r"\1", sentence)
        sentence = re.sub(
            r"Does not validate against any of the Union subtypes Subtypes: \[([^\]]*)\].*"
            r"Given value: (.*)",
            r"expected one of \1, got \2",
            sentence,
        )
        sentence = re.sub(r'Parser key "([\w.]+)": ?', r"\1: ", sentence)
        sentence = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", sentence)
        sentence = re.sub(r"<class '(\w+)'>", r"\1", sentence)
        sentence = sentence.replace("Expected a one of", "expected one of")
        # An option that may be left out; nobody types NoneType.
        sentence = re.sub(r"expected one of (\w+), NoneType, got", r"expected a \1, got", sentence)
        raise UserError(
            sentence.replace("Expected a", "expected a").replace(". Got value:", ", got")
        )

    def _option_names(self) -> list[str]:
        return [name for name in self._option_string_actions if name.startswith("--")]

    def _key_names(self) -> list[str]:
        """Names as a YAML file has them: dotted, and the last part alone for nested groups."""
        names = [name.removeprefix("--") for name in self._option_names()]
        return [*names, *(name.rsplit(".", 1)[1] for name in names if "." in name)]
