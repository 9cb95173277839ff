"""Rows of a task's file as the source wrote them; a damaged one is named with file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from semtube.errors import UserError


def read_json_lines(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place (`test.jsonl:12`) and content of every row.

    Args:
        keys: what each row must have.

    Raises:
        UserError: the file cannot be read, or a row is no JSON object with these keys.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read ({reason})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path.name}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: not JSON ({error})") from None
        missing = [key for key in keys if not isinstance(row, dict) or key not in row]
        if missing:
            raise UserError(f"{path}:{number}: a JSON object with {missing[0]!r} is needed")
        yield place, row


def message_text(row: dict[str, Any], index: int, place: str) -> str:
    """What one turn of a chat row says.

    Raises:
        UserError: there is no such turn, or it holds no text.
    """
    try:
        text = row["messages"][index]["content"]
    except (LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise UserError(f"{place}: message {index} of 'messages' has no text")
    return text


def last_text(row: dict[str, Any], place: str) -> str:
    """What the last turn of a chat row says."""
    return message_text(row, -1, place)


def chat_row(system: str, user: str, assistant: str, **fields: Any) -> dict[str, Any]:
    """One question and its answer in chat form, with what the scorer needs beside them."""
    turns = {"system": system, "user": user, "assistant": assistant}
    return {"messages": [{"role": r, "content": t} for r, t in turns.items()], **fields}
