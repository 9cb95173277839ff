"""Rows of a JSONL file as examples; every bad row is named with file and line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from semtube.errors import UserError

ROLES = ("system", "user", "assistant")
_MOST_NAMED = 10


@dataclass(frozen=True)
class Message:
    """One turn: who speaks (`system`, `user` or `assistant`) and what."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """One row.

    Args:
        kind: `chat` (rendered by the model's template), `pair` (prompt and answer, no template) or
            `text` (one plain text, all of it an answer).
        messages: the turns, the last one the assistant's.
        source: file and line, `train.jsonl:12`.
        fields: the row's other keys, for its scorer.
    """

    kind: Literal["chat", "pair", "text"]
    messages: tuple[Message, ...]
    source: str
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def answer(self) -> str:
        """Text of the last turn."""
        return self.messages[-1].content

    @property
    def question(self) -> tuple[Message, ...]:
        """The turns before the last."""
        return self.messages[:-1]

    def without_template(self) -> Example:
        """A chat row as prompt and answer, for models without a chat template.

        The prompt is every turn before the answer, each with a blank line behind it.
        """
        if self.kind != "chat":
            return self
        prompt = "".join(f"{message.content}\n\n" for message in self.question)
        if not prompt:
            return replace(self, kind="text")
        return replace(self, kind="pair", messages=(Message("user", prompt), self.messages[-1]))

    def digest(self) -> str:
        """sha256 of kind and turns: the identity of a row, wherever it stands."""
        turns = [[message.role, message.content] for message in self.messages]
        return hashlib.sha256(json.dumps([self.kind, turns]).encode()).hexdigest()


def read_examples(path: str | Path) -> list[Example]:
    """All rows of a JSONL file.

    A row is `{"messages": [{"role": ..., "content": ...}, ...]}` ending with the assistant,
    `{"prompt": ..., "completion": ...}`, or `{"text": ...}`; other keys are kept for the scorer.
    Blank lines are passed over.

    Raises:
        UserError: the file is missing, unreadable or empty, or rows are bad: the first ten are
            named with their lines and reasons.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: give a JSONL file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None
    examples, bad = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            examples.append(_example_from_row(_parsed(line), f"{path.name}:{number}"))
        except _BadRowError as error:
            bad.append(f"line {number}: {error}")
    return _usable(examples, bad, str(path))


def examples_from_rows(rows: Sequence[Any], name: str) -> list[Example]:
    """Rows that were read already, as a task gives them; `name` and a number are their source.

    Raises:
        UserError: no rows, or bad ones, which are named.
    """
    examples, bad = [], []
    for number, row in enumerate(rows, 1):
        try:
            examples.append(_example_from_row(row, f"{name}:{number}"))
        except _BadRowError as error:
            bad.append(f"row {number}: {error}")
    return _usable(examples, bad, name)


def _usable(examples: list[Example], bad: list[str], where: str) -> list[Example]:
    if bad:
        named = "; ".join(bad[:_MOST_NAMED])
        more = f"; and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else ""
        rows = "1 bad row" if len(bad) == 1 else f"{len(bad)} bad rows"
        raise UserError(f"{where}: {rows}: {named}{more}")
    if not examples:
        raise UserError(f"{where}: no rows")
    return examples


class _BadRowError(ValueError):
    """Why a row cannot be used."""


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _BadRowError(f"not JSON ({str(error)[:80]})") from None


def _example_from_row(row: Any, source: str) -> Example:
    if not isinstance(row, dict):
        raise _BadRowError(f"a JSON object is needed, not {type(row).__name__}")
    if "messages" in row:
        return Example("chat", _chat_messages(row["messages"]), source, _without(row, "messages"))
    if "prompt" in row and "completion" in row:
        prompt = _text(row["prompt"], "prompt")
        answer = _text(row["completion"], "completion")
        turns = (Message("user", prompt), Message("assistant", answer))
        return Example("pair", turns, source, _without(row, "prompt", "completion"))
    if "text" in row:
        turns = (Message("assistant", _text(row["text"], "text")),)
        return Example("text", turns, source, _without(row, "text"))
    keys = ", ".join(sorted(map(str, row))[:8]) or "no keys"
    raise _BadRowError(f"needs 'messages', 'prompt' and 'completion', or 'text', has {keys}")


def _without(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}


def _chat_messages(turns: Any) -> tuple[Message, ...]:
    if not isinstance(turns, list) or not turns:
        raise _BadRowError("'messages' must be a list of turns that is not empty")
    messages = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict):
            raise _BadRowError(f"message {number} is no object")
        if turn.get("role") not in ROLES:
            raise _BadRowError(
                f"message {number} has role {turn.get('role')!r}, not one of {', '.join(ROLES)}"
            )
        what = "answer" if turn["role"] == "assistant" else "content"
        messages.append(
            Message(turn["role"], _text(turn.get("content"), f"message {number}: {what}"))
        )
    if messages[-1].role != "assistant":
        raise _BadRowError("the last message must be the assistant's, the answer to learn")
    return tuple(messages)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _BadRowError(f"{name} must be text, not {type(value).__name__}")
    if not value.strip():
        raise _BadRowError(f"{name} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _BadRowError(f"{name} holds half a surrogate pair, which is no character") from None
    return value
