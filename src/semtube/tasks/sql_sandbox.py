"""Run SQL of unknown origin on a SQLite file: it can change nothing and must end."""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from semtube.errors import UserError

#: What a result may hold.
Value = int | float | str | bytes | None

_WORKER = Path(__file__).with_name("sql_worker.py")
#: Between the query's own time limit, which the worker sees to, and its end by force.
_GRACE_SECONDS = 0.5
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Limits:
    """What one query may use.

    Args:
        seconds: of wall-clock time.
        rows: of its result.
        result_bytes: of its result: eight a value, and its text's characters or blob's bytes.
        memory_bytes: address space of the worker process, half of it for SQLite's heap.
        sql_characters: of the query itself.
    """

    seconds: float = 5.0
    rows: int = 100_000
    result_bytes: int = 8_000_000
    memory_bytes: int = 512 * 2**20
    sql_characters: int = 10_000


@dataclass(frozen=True)
class Outcome:
    """What came of one query.

    Args:
        kind: `rows`; `error` (SQLite's message); `refused` (it would do something else than
            query); `timeout`; `too_large` (itself, its result or its memory).
        rows: of the result.
        num_columns: of the result, also where it has no rows.
        reason: why there is no result.
    """

    kind: Literal["rows", "error", "refused", "timeout", "too_large"]
    rows: tuple[tuple[Value, ...], ...] = ()
    num_columns: int = 0
    reason: str = ""


class SqlSandbox:
    """Runs queries one after another in a process of its own.

    The worker (`sql_worker`, a small script under the same Python) opens the database read-only
    and immutable, so that no journal or lock file appears beside it. SQLite's authoriser denies
    whatever is no query of the database's own tables: writes, schema changes, transactions,
    ATTACH, PRAGMA, virtual tables, functions that load extensions or reach files. One statement a
    time; dot-commands belong to the sqlite3 shell and are syntax errors here. Time, memory, rows,
    bytes and the sizes inside a query are bounded, the process may create no files, and it is
    killed when it does not answer in time. A killed or dead worker is replaced. Messages are JSON.

    Not for several threads at once. Needs Linux or macOS: without their resource limits no query
    is run.

    Raises:
        UserError: there are no resource limits on this platform.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        if importlib.util.find_spec("resource") is None:
            raise UserError(
                "running SQL needs the resource limits of Linux or macOS: this platform has none, "
                "so execution accuracy cannot be measured here"
            )
        self._limits = limits or Limits()
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker; a later query starts another."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def run(self, database: Path, sql: str) -> Outcome:
        """The outcome of one query.

        Raises:
            UserError: there is no such database.
        """
        if not database.is_file():
            raise UserError(f"{database}: no such database")
        if not isinstance(sql, str):
            return Outcome("refused", reason=f"a query must be text, not {type(sql).__name__}")
        if len(sql) > self._limits.sql_characters:
            most = f"{self._limits.sql_characters:,} characters"
            return Outcome("too_large", reason=f"a query may have {most}, not {len(sql):,}")
        uri = f"{database.absolute().as_uri()}?mode=ro&immutable=1"
        for _ in range(2):
            try:
                return _outcome(self._ask({"uri": uri, "sql": sql}))
            except TimeoutError:
                self.close()
                return Outcome("timeout", reason="took too long and was killed")
            except (EOFError, BrokenPipeError):
                # It may have been ended from outside: the query gets a second, fresh worker.
                self.close()
        return Outcome("error", reason="ended its process, twice")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._worker is None:
            self._worker = _Worker(self._limits)
        return self._worker.ask(request, self._limits.seconds + _GRACE_SECONDS)


class _Worker:
    """The process and the messages to and from it."""

    def __init__(self, limits: Limits) -> None:
        self._process = subprocess.Popen(
            # Isolated from the user's settings and packages; Ctrl-C is for the parent alone.
            [sys.executable, "-I", "-S", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        try:
            self.ask(asdict(limits), _START_SECONDS)
        except (TimeoutError, EOFError, BrokenPipeError) as error:
            self.kill()
            code = self._process.returncode
            raise RuntimeError(f"{_WORKER.name} did not start (exit status {code})") from error
        except BaseException:
            self.kill()
            raise

    def ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a message and wait for the answer.

        Raises:
            TimeoutError: no answer in time.
            EOFError, BrokenPipeError: the process has ended.
        """
        stdin = self._process.stdin
        assert stdin is not None
        deadline = time.monotonic() + seconds
        body = json.dumps(message).encode()
        unsent = memoryview(len(body).to_bytes(4, "big") + body)
        while unsent:
            unsent = unsent[os.write(stdin.fileno(), unsent) :]
        length = int.from_bytes(self._read(4, deadline), "big")
        return json.loads(self._read(length, deadline))

    def _read(self, count: int, deadline: float) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        parts: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while count:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                part = os.read(stdout.fileno(), min(count, 2**20))
                if not part:
                    raise EOFError
                parts.append(part)
                count -= len(part)
        return b"".join(parts)

    def kill(self) -> None:
        """End the process and free what it held."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def _outcome(message: dict[str, Any]) -> Outcome:
    if message["kind"] != "rows":
        return Outcome(message["kind"], reason=message["reason"])
    rows = tuple(
        tuple(bytes.fromhex(v["blob"]) if isinstance(v, dict) else v for v in row)
        for row in message["rows"]
    )
    return Outcome("rows", rows, message["num_columns"])
