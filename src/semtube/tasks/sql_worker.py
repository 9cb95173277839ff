"""The process in which SQL of unknown origin runs; `sql_sandbox` starts this file as a script.

It reads requests on standard input and answers each on standard output: four bytes of length
(big-endian), then JSON. The first request holds the limits and is answered with `{"ready": true}`.
It imports nothing of this package, so it starts in milliseconds and shares no state with a model.
"""

from __future__ import annotations

import json
import math
import resource
import sqlite3
import sys
import time
from typing import Any, BinaryIO

_FUNCTIONS = """
    abs avg ceil ceiling char coalesce concat concat_ws count cume_dist current_date current_time
    current_timestamp date datetime dense_rank exp first_value floor format glob group_concat hex
    ifnull iif instr julianday lag last_value lead length like likely ln log log10 log2 lower ltrim
    max median min mod nth_value ntile nullif percent_rank pow power printf quote rank replace round
    row_number rtrim sign sqrt strftime string_agg substr substring sum time timediff total trim
    trunc typeof unicode unixepoch unlikely upper
"""
#: Functions that only compute on their arguments. Left out, beside those that reach files or
#: settings: those that draw at random, since a verdict must be repeatable. Those that read the
#: clock stay: questions ask how long ago.
FUNCTIONS = frozenset(_FUNCTIONS.split())
SQL_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 500,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 32,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
#: Virtual-machine steps between two looks at the clock.
STEPS_PER_LOOK = 1_000
#: Memory that sqlite must leave to the interpreter and the result.
INTERPRETER_SHARE = 0.5


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """The next request; None at the end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    return json.loads(stream.read(int.from_bytes(head, "big")))


def write_message(stream: BinaryIO, message: dict[str, Any]) -> None:
    """Send an answer."""
    body = json.dumps(message).encode()
    stream.write(len(body).to_bytes(4, "big") + body)
    stream.flush()


def limit_process(memory_bytes: int) -> None:
    """No files, no core dump and so much address space, for the rest of this process.

    macOS knows no limit of address space; sqlite's own limit and that of the result hold there.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform != "darwin":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def limit_processor_time(seconds: float) -> None:
    """End this process after so many more seconds of processor time, whatever it does then."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


class Guard:
    """Allows queries of the database's own tables, and notes what it refused.

    Args:
        tables: names of its tables and views.
    """

    def __init__(self, tables: set[str]) -> None:
        self.refused: list[str] = []
        self._tables = {name.lower() for name in tables}

    def __call__(self, action: int, first: Any, second: Any, database: Any, source: Any) -> int:
        """sqlite's authoriser: whatever is not listed here is denied."""
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and second.lower() in FUNCTIONS:
            return sqlite3.SQLITE_OK
        # A common table expression whose columns are not used reads the column "".
        if action == sqlite3.SQLITE_READ:
            is_expression = second == "" and not first.lower().startswith("sqlite_")
            if is_expression or first.lower() in self._tables:
                return sqlite3.SQLITE_OK
        words = [text for text in (first, second) if isinstance(text, str) and text]
        self.refused.append(" ".join([_ACTIONS.get(action, f"action {action}"), *words]))
        return sqlite3.SQLITE_DENY


_ACTIONS = {
    getattr(sqlite3, f"SQLITE_{name.upper().replace(' ', '_')}"): name
    for name in (
        "alter table", "analyze", "attach", "create index", "create table", "create temp index",
        "create temp table", "create temp trigger", "create temp view", "create trigger",
        "create view", "create vtable", "delete", "detach", "drop index", "drop table",
        "drop temp index", "drop temp table", "drop temp trigger", "drop temp view",
        "drop trigger", "drop view", "drop vtable", "function", "insert", "pragma", "read",
        "reindex", "savepoint", "transaction", "update",
    )
}  # fmt: skip


def open_guarded(uri: str, heap_bytes: int) -> tuple[sqlite3.Connection, Guard]:
    """A connection through which only queries pass."""
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, cached_statements=0)
    # Bytes that are no UTF-8 are kept: two values are equal only if their bytes are.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    for setting in (
        f"hard_heap_limit = {heap_bytes}",
        "temp_store = memory",
        "query_only = on",
        "trusted_schema = off",
        "cell_size_check = on",
    ):
        connection.execute(f"pragma {setting}")
    names = "select name from sqlite_master where type in ('table', 'view')"
    guard = Guard({name for (name,) in connection.execute(names)})
    for limit, value in SQL_LIMITS.items():
        connection.setlimit(limit, value)
    connection.set_authorizer(guard)
    return connection, guard


def answer(request: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """Run one query and say what came of it."""
    heap_bytes = int(limits["memory_bytes"] * (1 - INTERPRETER_SHARE))
    try:
        connection, guard = open_guarded(request["uri"], heap_bytes)
    except sqlite3.Error as error:
        return {"kind": "error", "reason": f"the database cannot be read ({error})"}
    deadline = time.monotonic() + limits["seconds"]
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_PER_LOOK)
    try:
        return _fetch(connection.execute(request["sql"]), limits)
    except MemoryError:
        return {"kind": "too_large", "reason": "needs more memory than a query may use"}
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return _failure(error, guard)
    finally:
        connection.close()


def _fetch(cursor: sqlite3.Cursor, limits: dict[str, Any]) -> dict[str, Any]:
    if cursor.description is None:
        return {"kind": "error", "reason": "holds no statement"}
    rows: list[list[Any]] = []
    num_bytes = 0
    for row in cursor:
        num_bytes += sum(8 + (len(v) if isinstance(v, str | bytes) else 0) for v in row)
        if len(rows) == limits["rows"] or num_bytes > limits["result_bytes"]:
            most = f"{limits['rows']:,} rows or {limits['result_bytes']:,} bytes"
            return {"kind": "too_large", "reason": f"gives more than {most}"}
        rows.append([{"blob": v.hex()} if isinstance(v, bytes) else v for v in row])
    return {"kind": "rows", "rows": rows, "num_columns": len(cursor.description)}


def _failure(error: Exception, guard: Guard) -> dict[str, Any]:
    if guard.refused:
        return {"kind": "refused", "reason": f"may only query: {guard.refused[0]}"[:200]}
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_INTERRUPT:
        return {"kind": "timeout", "reason": "took too long"}
    kind = "too_large" if code == sqlite3.SQLITE_TOOBIG else "error"
    return {"kind": kind, "reason": str(error)[:200]}


def main() -> None:
    """Answer requests until standard input ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    limits = read_message(source)
    if limits is None:
        return
    limit_process(limits["memory_bytes"])
    write_message(sink, {"ready": True})
    while (request := read_message(source)) is not None:
        limit_processor_time(limits["seconds"])
        write_message(sink, answer(request, limits))


if __name__ == "__main__":
    main()
