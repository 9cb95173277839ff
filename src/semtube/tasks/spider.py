"""Spider: SQL from questions, judged by what the queries return."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semtube.errors import UserError
from semtube.tasks.json_lines import chat_row, read_json_lines
from semtube.tasks.matching import exact_match
from semtube.tasks.spider_card import SPIDER
from semtube.tasks.spider_schema import read_schemas
from semtube.tasks.sql_results import orders_rows, same_result
from semtube.tasks.sql_sandbox import Limits, Outcome, SqlSandbox
from semtube.tasks.task import Answer, Scores, Task

SYSTEM = "Convert natural language to SQL."
_QUESTION = re.compile(r"For db_id:\[(?P<database>\w+)\]\n\n(?P<question>.+)", re.DOTALL)
#: Share of all rows that the databases of `test-unseen` hold at least.
_UNSEEN_SHARE = 0.2
_MOST_NAMED = 10


class Spider(Task):
    """Questions on 160 databases.

    `execution_match`: the written query returns what the right one returns (`same_result`), and
    the model stopped. A query that fails, is refused, takes too long or returns too much is wrong,
    also where the right one returns nothing. A row whose right query fails is not judged; see
    `reasons`. `exact_match`: the same text, and stopped.

    Splits: `train` and `test` are the authors', with the same databases on both sides. In
    `train-unseen` and `test-unseen` no database is on both: of all rows, the test has those of the
    databases whose names have the smallest sha256, as many as it takes for a fifth of the rows.

    Args:
        schema: put the database's tables, columns and keys before the question; without them a
            model can only know them from training.
        seconds: a query may take.
        databases: folder of other databases than the card's, such as the original ones; each lies
            there as NAME/NAME.sqlite or NAME.sqlite, and is not verified.

    Source: Yu et al. 2018, arXiv 1809.08887; prompt form of galilai-group/llm-jepa 6d7d0d1.
    """

    card = SPIDER
    scores = ("execution_match", "exact_match")

    def __init__(
        self, schema: bool = False, seconds: float = 5.0, databases: str | None = None
    ) -> None:
        if not isinstance(schema, bool):
            raise UserError(f"task_options.schema is {schema!r}: true or false is needed")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not is_number or not 0 < seconds < math.inf:
            raise UserError(f"task_options.seconds is {seconds!r}: a number above 0 is needed")
        if databases is not None and not Path(str(databases)).is_dir():
            raise UserError(f"task_options.databases is {databases!r}: no such folder")
        self._schema = schema
        self._own = None if databases is None else Path(databases)
        self._databases = self._own
        self._limits = Limits(seconds=seconds)
        self._golds: dict[tuple[Path, str], Outcome] = {}

    def paths(self, split: str) -> tuple[str, ...]:
        """Rows; schemas if asked for; for a test the databases, unless others are used."""
        names = (split,) if split in ("train", "test") else ("train", "test")
        paths = [f"spider/spider_{name}.jsonl" for name in names]
        if self._schema:
            paths.append("spider/tables.json")
        if split.startswith("test") and self._own is None:
            paths += [file.path for file in self.card.files if file.path.endswith(".sqlite")]
        return tuple(paths)

    def read(self, folder: Path, split: str) -> list[dict[str, Any]]:
        """Rows with their `database`; for a test its file must be there."""
        self._databases = self._own or folder / "spider" / "database"
        if split in ("train", "test"):
            rows = self._read_file(folder, split)
        else:
            everything = self._read_file(folder, "train") + self._read_file(folder, "test")
            unseen = unseen_databases([row["database"] for row in everything])
            rows = [r for r in everything if (r["database"] in unseen) == (split == "test-unseen")]
        if split.startswith("test"):
            _check_databases(self._databases, {row["database"] for row in rows})
        return rows

    def _read_file(self, folder: Path, name: str) -> list[dict[str, Any]]:
        schemas = read_schemas(folder / "spider" / "tables.json") if self._schema else None
        rows = []
        path = folder / "spider" / f"spider_{name}.jsonl"
        for place, row in read_json_lines(path, ("messages",)):
            database, question, sql = _parts(row["messages"], place)
            if schemas is not None:
                if database not in schemas:
                    raise UserError(f"{place}: tables.json has no schema of {database!r}")
                question = f"{schemas[database]}\n\n{question}"
            user = f"For db_id:[{database}]\n\n{question}"
            rows.append(chat_row(SYSTEM, user, sql, database=database))
        return rows

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Run every query in a process of its own, which may only read, and compare."""
        with SqlSandbox(self._limits) as sandbox:
            return [
                {
                    "execution_match": self._executes_alike(sandbox, answer),
                    "exact_match": answer.stopped and exact_match(answer.prediction, answer.gold),
                }
                for answer in answers
            ]

    def _executes_alike(self, sandbox: SqlSandbox, answer: Answer) -> bool | None:
        path = self._path(answer.fields.get("database"))
        key = (path, answer.gold)
        if key not in self._golds:
            self._golds[key] = sandbox.run(path, answer.gold)
        gold = self._golds[key]
        if gold.kind != "rows":
            return None
        if not answer.stopped:
            return False
        predicted = sandbox.run(path, answer.prediction.strip())
        return same_result(gold, predicted, ordered=orders_rows(answer.gold))

    def _path(self, name: Any) -> Path:
        if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
            raise UserError(f"'database' of a row is {name!r}: task 'spider' needs its name there")
        if self._databases is None:
            raise ValueError("rows must be read before they are judged: no data folder is known")
        _check_databases(self._databases, {name})
        return _database_path(self._databases, name)

    def group(self, gold: str, fields: Mapping[str, Any]) -> str | None:
        """Whether the right query, which was run, returns rows: nothing is easily guessed."""
        outcome = self._golds.get((self._path(fields.get("database")), gold))
        if outcome is None or outcome.kind != "rows":
            return None
        return "right query returns rows" if outcome.rows else "right query returns none"

    def fingerprint(self) -> str | None:
        """sha256 of the databases used in place of the card's; the card's are verified."""
        if self._own is None:
            return None
        whole = hashlib.sha256()
        for path in sorted(self._own.rglob("*.sqlite")):
            whole.update(path.stem.encode() + hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()

    def check(self, gold: str, fields: Mapping[str, Any]) -> None:
        """The database is there."""
        self._path(fields.get("database"))

    def reasons(self) -> list[str]:
        """Right queries that could not be run so far, and why, a sentence each."""
        return [
            f"database {path.stem!r}: the right query {sql!r} is not judged: {outcome.reason}"
            for (path, sql), outcome in self._golds.items()
            if outcome.kind != "rows"
        ]


def _parts(messages: Any, place: str) -> tuple[str, str, str]:
    """Database, question and query of a row."""
    try:
        match = _QUESTION.fullmatch(messages[1]["content"])
        sql = messages[2]["content"]
    except (LookupError, TypeError):
        match, sql = None, None
    if match is None or not isinstance(sql, str):
        raise UserError(f"{place}: 'For db_id:[NAME]', a question and a query are needed")
    return match["database"], match["question"], sql


def unseen_databases(of_rows: Sequence[str]) -> set[str]:
    """The databases of `test-unseen`.

    Args:
        of_rows: database of every row.

    Returns:
        Databases in the order of sha256(name), up to the first with which they hold a fifth of
        the rows.
    """
    counts = Counter(of_rows)
    chosen: set[str] = set()
    num_rows = 0
    for name in sorted(counts, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if num_rows >= _UNSEEN_SHARE * len(of_rows):
            break
        chosen.add(name)
        num_rows += counts[name]
    return chosen


def _database_path(databases: Path, name: str) -> Path:
    """Where a database lies: in a folder of its own (the official layout), or beside the others."""
    official = databases / name / f"{name}.sqlite"
    return official if official.is_file() else databases / f"{name}.sqlite"


def _check_databases(databases: Path, names: set[str]) -> None:
    missing = sorted(name for name in names if not _database_path(databases, name).is_file())
    if missing:
        listed = ", ".join(missing[:_MOST_NAMED])
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        count = "1 database is" if len(missing) == 1 else f"{len(missing)} databases are"
        where = databases / "NAME.sqlite"
        raise UserError(f"{count} missing: {listed}{more}: put each at {where}")
