"""Schemas of Spider's databases as text for a prompt."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from semtube.errors import UserError

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_WORDS = """
    add all alter and as autoincrement between case check collate commit constraint create default
    deferrable delete distinct drop else escape except exists foreign from group having in index
    insert intersect into is isnull join limit not notnull null on or order primary references
    select set table then to transaction union unique update using values when where
"""
#: Words that SQLite does not take for a name.
_RESERVED = frozenset(_WORDS.split())


def read_schemas(path: Path) -> dict[str, str]:
    """Name of a database -> its schema, a line a table, then a line a foreign key.

    "singer(Singer_ID*, Name, Age)", where an asterisk marks the primary key, and
    "concert.Singer_ID = singer.Singer_ID". Names are quoted as SQL needs it.

    Raises:
        UserError: the file cannot be read, or is no list of schemas.
    """
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return {schema["db_id"]: _as_text(schema) for schema in listed}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: no list of schemas as Spider's tables.json ({reason})") from None


def _as_text(schema: dict[str, Any]) -> str:
    tables = [_quoted(name) for name in schema["table_names_original"]]
    columns = [(table, _quoted(name)) for table, name in schema["column_names_original"]]
    # A key of several columns is a list in later editions of the file.
    keys = {k for key in schema["primary_keys"] for k in (key if isinstance(key, list) else [key])}
    lines = []
    for number, table in enumerate(tables):
        listed = [
            name + "*" * (place in keys)
            for place, (owner, name) in enumerate(columns)
            if owner == number
        ]
        lines.append(f"{table}({', '.join(listed)})")
    for pair in schema["foreign_keys"]:
        (table, column), (other, key) = (columns[place] for place in pair)
        lines.append(f"{tables[table]}.{column} = {tables[other]}.{key}")
    return "\n".join(lines)


def _quoted(name: str) -> str:
    is_plain = _PLAIN_NAME.fullmatch(name) and name.lower() not in _RESERVED
    return name if is_plain else '"' + name.replace('"', '""') + '"'
