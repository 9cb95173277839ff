"""The sandbox answers queries; no text changes a file, reaches another or goes on for ever."""

import hashlib
import importlib.util
import math
import os
import re
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from semtube.errors import UserError
from semtube.tasks import sql_sandbox, sql_worker
from semtube.tasks.sql_sandbox import Limits, Outcome, SqlSandbox

#: For queries that never end. All others have the usual seconds: the machine may be busy.
HASTY = Limits(seconds=0.2)
#: Numbers without end, and 1 to 100,000, as a start for bombs.
ENDLESS = "with recursive n(x) as (select 1 union all select x + 1 from n)"
MANY = "with recursive n(x) as (select 1 union all select x + 1 from n where x < 100000)"

#: Sorts 9 GB.
MEMORY_BOMB = (
    f"{MANY} select count(*) from (select printf('%.90000c', 'a') || x as y from n order by y)"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one database, and nothing else."""
    path = tmp_path_factory.mktemp("database") / "shop.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        create table item (id integer primary key, name text, price real, picture blob);
        insert into item values (1, 'bread', 2.5, x'00ff'), (2, 'milk', null, null),
            (3, '', -0.125, x''), (9223372036854775807, cast(x'fffe41' as text), 9e999, null);
        create table other (id integer, item integer);
        insert into other select 1, id from item;
        create index by_name on item(name);
        create view cheap as select name from item where price < 3;
        """
    )
    connection.close()
    return path.parent


@pytest.fixture(scope="module")
def database(folder):
    return folder / "shop.sqlite"


@pytest.fixture(scope="module")
def sandboxes(folder):
    """Sandboxes for all, started inside the folder: a relative path would land there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with SqlSandbox() as usual, SqlSandbox(HASTY) as hasty:
            for started in (usual, hasty):
                started.run(folder / "shop.sqlite", "select 1")
            yield {"usual": usual, "hasty": hasty}
    finally:
        os.chdir(before)


@pytest.fixture
def sandbox(sandboxes):
    return sandboxes["usual"]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# What is answered


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("select name, price from item where id < 3", (("bread", 2.5), ("milk", None))),
        ("SELECT count(*) FROM item;", ((4,),)),
        ("select max(id) from item -- the last", ((2**63 - 1,),)),
        ("select picture from item where id in (1, 3) order by id", ((b"\x00\xff",), (b"",))),
        ("select price from item where price > 3", ((math.inf,),)),
        ("select name from item where price > 3", (("\udcff\udcfeA",),)),
        ("select 0.1 + 0.2, 1e-320, 'ж😀', ''", ((0.1 + 0.2, 1e-320, "ж😀", ""),)),
        ("select * from cheap", (("bread",), ("",))),
        ("with t as (select 1 as a) select count(*) from t", ((1,),)),
        (f"{MANY} select sum(x) from n", ((5_000_050_000,),)),
        (
            "select t.id, rank() over (order by t.id) from item t join other o on o.item = t.id "
            "where t.id < 3 group by t.id having count(*) = 1 except select 2, 2",
            ((1, 1),),
        ),
        ("select strftime('%Y', '2020-05-01'), cast('3' as integer)", (("2020", 3),)),
        ("select name from item where name like 'B%' or name glob 'm?lk' limit 1", (("bread",),)),
        ("values (1), (2)", ((1,), (2,))),
    ],
)  # fmt: skip
def test_a_query_gives_its_rows_with_every_type_kept(sandbox, database, sql, rows):
    outcome = sandbox.run(database, sql)
    assert outcome == Outcome("rows", rows, len(rows[0]))
    assert [[type(v) for v in row] for row in outcome.rows] == [[type(v) for v in r] for r in rows]


def test_a_result_without_rows_still_has_columns(sandbox, database):
    outcome = sandbox.run(database, "select id, name from item where id < 0")
    assert outcome == Outcome("rows", (), 2)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("select colour from item", "no such column: colour"),
        ("select * from nowhere", "no such table: nowhere"),
        ("selekt 1", 'near "selekt": syntax error'),
        ("", "holds no statement"),
        (" \n\t", "holds no statement"),
        (";", "holds no statement"),
        ("-- select 1", "holds no statement"),
        ("/* select 1 */", "holds no statement"),
    ],
)
def test_an_invalid_query_is_an_error_with_its_message(sandbox, database, sql, reason):
    outcome = sandbox.run(database, sql)
    assert (outcome.kind, outcome.reason) == ("error", reason)


# What is stopped

REFUSED = """
insert into item values (5, 'x', 1, null)
insert or replace into item select * from item
replace into item values (1, 'x', 1, null)
update item set price = 0
update item set price = 0 returning id
delete from item
delete from item where id in (select id from item)
with t as (select 1) delete from item
with t as (select 5 as id) insert into item(id) select id from t
drop table item
drop table if exists item
drop view cheap
create table evil (a)
create table evil as select * from item
create temp table evil as select * from item
create temporary view evil as select 1
create view evil as select * from item
create index evil on item(name)
create unique index evil on item(name)
create trigger evil after insert on item begin delete from item; end
create temp trigger evil instead of insert on cheap begin select 1; end
create virtual table evil using fts5(a)
create virtual table evil using fts4(a)
create virtual table evil using rtree(a, b, c)
create virtual table temp.evil using dbstat
create virtual table evil using csv(filename='/etc/passwd')
alter table item rename to evil
alter table item add column evil text
alter table item drop column name
attach 'evil.sqlite' as evil
attach database 'file:evil.sqlite?mode=rwc' as evil
attach ':memory:' as evil
attach '/etc/passwd' as evil
detach main
vacuum
vacuum into 'evil.sqlite'
pragma writable_schema = on
pragma journal_mode = wal
pragma user_version = 7
pragma query_only = off
pragma hard_heap_limit = 0
pragma trusted_schema = on
pragma temp_store_directory = '/tmp'
pragma table_info(item)
pragma database_list
select * from pragma_table_info('item')
select count(*) from pragma_database_list
select file from pragma_database_list
select * from pragma_function_list
select * from pragma_user_version
select * from pragma_integrity_check
select sql from sqlite_master
select * from sqlite_temp_master
insert into sqlite_master values ('table', 'evil', 'evil', 2, 'create table evil (a)')
drop index by_name
select * from dbstat
select * from sqlite_stmt
select value from json_each('[1, 2, 3]')
select * from fts3tokenize
begin
begin immediate
begin exclusive
commit
end
rollback
savepoint evil
release evil
reindex
reindex item
analyze
analyze item
explain delete from item
explain query plan update item set price = 0
select load_extension('./evil.so')
select load_extension('libm.so.6', 'sin')
select fts3_tokenizer('simple')
select fts3_tokenizer('simple', x'0000000000000000')
select zeroblob(1000000000)
select randomblob(1000000000)
select random()
select * from item order by random()
select sqlite_compileoption_get(1)
select last_insert_rowid()
select sqlite_log(1, 'evil')
select json_group_array(x) from (select 1 as x)
""".strip().split("\n")

NO_QUERY = [
    ".shell touch evil",
    ".system touch evil",
    ".open evil.sqlite",
    ".output evil.txt",
    ".once evil.txt\nselect 1",
    ".dump",
    ".read /etc/passwd",
    ".load ./evil.so",
    ".import /etc/passwd item",
    ".backup evil.sqlite",
    ".quit",
    "select 1; select 2",
    "select 1; drop table item",
    "select 1;\n.shell touch evil",
    "select 1 -- \n; delete from item",
    "select 1 /* */; delete from item /* */",
    "/* ; */ select 1; insert into item values (6, 'x', 1, null)",
    "select '; drop table item' ; drop table item",
    "select readfile('/etc/passwd')",
    "select writefile('evil.txt', 'x')",
    "select edit('x', 'touch evil')",
    "select eval('drop table item')",
    "select * from fsdir('/')",
    "select * from generate_series(1, 1000000000)",
    "select ?",
    "select :name",
    "select 1 limit ?1",
    "select * from evil.item",
    "update sqlite_master set sql = 'x'",
    "delete from sqlite_master",
    "select \x00",
    "select 1\x00; drop table item",
    "\x00",
    "select '\ud800'",
    "\udcff\udcfe",
    "выберите все из item",
    "从 item 选择 *",
    "SELECT\u00a0name\u2003FROM item",
    "\uff33\uff25\uff2c\uff25\uff23\uff34 1",
    "\x1b[2J\x07\x08\x7f",
    "select " + "(" * 2_000 + "1" + ")" * 2_000,
    "select " + "-" * 4_000 + "1",
    "select " + "not " * 2_000 + "1",
    "select 1" + " + 1" * 2_000,
    "select 1" + " + 1" * 101,
    "select " + "abs(" * 1_000 + "1" + ")" * 1_000,
    "select 1 where " + "(select " * 1_000 + "1" + ")" * 1_000,
    "select " + " union ".join(["select 1"] * 500)[7:],
    "select " + ", ".join(["1"] * 3_000),
    "select max(" + ", ".join(["1"] * 1_000) + ")",
    "select " + "case when 1 then " * 300 + "1" + " end" * 300,
    "select 'a' like '" + "%a" * 2_000 + "'",
    "select 1 from " + ", ".join(["item"] * 70),
]

TOO_LONG = [
    f"{ENDLESS} select count(*) from n",
    f"{ENDLESS} select max(x) from n",
    f"{MANY} select count(*) from n a, n b",
    f"{MANY} select count(*) from n a join n b on a.x % 7 <> b.x",
    f"{MANY} select x from n a where not exists (select 1 from n b where b.x > a.x + 1000000)",
    f"{MANY} select sum(a.x * b.x) over (order by a.x) from n a, n b",
    "select count(*) from " + ", ".join(["item"] * 30),
    "select count(*) from (select replace(printf('%.900000c', 'a'), 'a', 'b') from "
    + ", ".join(["item"] * 20)
    + ")",
    # The whole time goes by in one call, which only the parent can end.
    "select printf('%.*c', 1000000000, 'x')",
    "select instr(printf('%.900000c', 'a'), printf('%.400000c', 'a') || 'b')",
    # And here in the planner: 2^40 terms.
    "with t0 as (select 1), "
    + ", ".join(f"t{k + 1} as (select 1 from t{k}, t{k})" for k in range(40))
    + " select count(*) from t40",
]

TOO_LARGE = [
    "select replace(printf('%.900000c', 'a'), 'a', 'aaaaaaaaaa')",
    "select hex(printf('%.900000c', 'a'))",
    "select replace(replace(replace(printf('%.900c', 'a'), 'a', hex(hex(hex('aaaaaaaaaa')))), '6', "
    "hex(hex(hex('aaaa')))), '3', 'xxxxxxxxxxxxxxxxxxx')",
    f"{MANY} select x, printf('%.900000c', 'a') from n",
    "select '" + "x" * 100_000 + "'",
    "ж" * 100_000,
    "select " + "(" * 50_000 + "1",
    "select 1 " + " " * 100_000,
    "😀" * 30_000,
]

#: Time or size, whichever ends first on this machine.
TOO_MUCH = [
    f"{MANY} select a.x from n a, n b",
    f"{MANY} select x from n union all select x from n",
    f"{MANY} select printf('%.90000c', 'a') || x as y from n order by y",
    f"{MANY} select distinct printf('%.90000c', 'a') || x from n where x > 50",
    MEMORY_BOMB,
    f"{MANY} select count(distinct a.x * 1000000 + b.x) from n a, n b where a.x < 3000",
    f"{MANY} select group_concat(printf('%.9000c', 'a')) from n",
    f"{MANY} select group_concat(a.x) from n a, n b",
    f"{ENDLESS} select x from n",
    "with recursive n(x) as (select 'a' union all select x || x from n) select length(x) from n",
    "with recursive n(x) as (select 'a' union all select replace(x, 'a', 'aaaa') from n) select x "
    "from n",
]

#: Odd, and harmless: what comes of them does not matter, what they leave behind does.
HARMLESS = [
    "\ufeff\ufeffselect 1",
    "select printf('%2000000000d', 1)",
    "select format('%.2000000000f', 1.5)",
    "select printf('%.900000c', 'a') glob '" + "*a" * 400 + "b'",
    "select printf('%.900000c', 'a') like '" + "%a_" * 300 + "b'",
    "with " + ", ".join(f"t{k} as (select * from t{k + 1})" for k in range(200)) + " select 1",
    "select 1 -- ; drop table item",
    "select 1 /* ; drop table item",
    "select 'drop table item'",
    'select "drop table item"',
    "explain select * from item",
    "select 1;;;;",
    "select * from (select * from item) where name = '' or 1 = 1 --",
    "select date('now'), current_timestamp",
    "select 9223372036854775807 + 9223372036854775807, 1 / 0, -9223372036854775808 / -1",
    "select abs(-9223372036854775808)",
    "select char(0, 55296, 1114111, -1)",
    "select cast(x'ff00fe' as text), x'" + "ff" * 1_000 + "'",
    "select upper('straße'), '" + "\u0300" * 1_000 + "'",
    "select name from item order by 1, 1 limit 9223372036854775807 offset -1",
]

CORPUS = [
    (sql, name, kinds)
    for group, name, kinds in (
        (REFUSED, "usual", {"refused"}),
        (NO_QUERY, "usual", {"error"}),
        (TOO_LARGE, "usual", {"too_large"}),
        (TOO_LONG, "hasty", {"timeout"}),
        (TOO_MUCH, "hasty", {"timeout", "too_large"}),
        (HARMLESS, "usual", {"rows", "error"}),
    )
    for sql in group
]
NAMES = [f"{'-'.join(sorted(kinds))}-{sql[:40]!a}" for sql, _, kinds in CORPUS]


def test_the_corpus_is_large():
    assert len({sql for sql, _, kinds in CORPUS if "rows" not in kinds}) >= 60


@pytest.mark.parametrize(("sql", "name", "kinds"), CORPUS, ids=NAMES)
def test_a_hostile_text_is_stopped_and_changes_nothing(
    sandboxes, database, folder, sql, name, kinds
):
    before = digest(database)
    start = time.monotonic()
    outcome = sandboxes[name].run(database, sql)
    seconds = time.monotonic() - start
    assert outcome.kind in kinds, outcome
    assert outcome.reason or outcome.kind == "rows"
    # The limit, half a second until the end by force, and time to start anew on a busy machine.
    assert seconds < 10
    assert digest(database) == before
    assert os.listdir(folder) == ["shop.sqlite"]
    assert sandboxes[name].run(database, "select name from item where id = 1").rows == (("bread",),)


@pytest.mark.parametrize("thing", [None, 5, b"select 1", ["select 1"], float("nan")])
def test_what_is_no_text_is_refused(sandbox, database, thing):
    assert sandbox.run(database, thing).kind == "refused"


def test_no_query_of_the_corpus_of_right_ones_is_refused_for_an_odd_name(tmp_path):
    # The guard knows the tables by name: their case, quotes and spaces must not matter.
    path = tmp_path / "odd.sqlite"
    connection = sqlite3.connect(path)
    connection.execute('create table "Odd name; --" ("Col 1" integer)')
    connection.execute('insert into "Odd name; --" values (7)')
    connection.commit()
    connection.close()
    with SqlSandbox() as sandbox:
        for sql in (
            'select "col 1" from "odd NAME; --"',
            "select [Col 1] from [Odd name; --] as t",
        ):
            assert sandbox.run(path, sql) == Outcome("rows", ((7,),), 1)


# Limits


@pytest.mark.parametrize(
    ("limits", "fits", "exceeds"),
    [
        (
            Limits(rows=3),
            "select 1 union all select 2 union all select 3",
            "values (1), (2), (3), (4)",
        ),
        (Limits(result_bytes=20), "select 'abcdefghijkl'", "select 'abcdefghijklm'"),
        (Limits(result_bytes=16), "select 1, null", "select 1, 2, 3"),
        (Limits(sql_characters=12), "select 12345", "select 123456"),
    ],
)
def test_a_limit_allows_what_it_says_and_no_more(database, limits, fits, exceeds):
    with SqlSandbox(limits) as sandbox:
        assert sandbox.run(database, fits).kind == "rows"
        assert sandbox.run(database, exceeds).kind == "too_large"


def test_an_endless_query_is_interrupted_and_only_a_deaf_one_costs_the_worker(database):
    with SqlSandbox(HASTY) as sandbox:
        assert sandbox.run(database, TOO_LONG[0]) == Outcome("timeout", reason="took too long")
        pid = sandbox._worker._process.pid
        assert sandbox.run(database, "select 1").kind == "rows"
        assert sandbox._worker._process.pid == pid
        outcome = sandbox.run(database, TOO_LONG[-1])
        assert outcome == Outcome("timeout", reason="took too long and was killed")


def test_memory_has_a_limit(database):
    sql = (
        f"{MANY} select count(*) from (select printf('%.90000c', 'a') || x as y from n order by y)"
    )
    with SqlSandbox(Limits(seconds=60, memory_bytes=64 * 2**20)) as sandbox:
        outcome = sandbox.run(database, sql)
        assert outcome == Outcome("too_large", reason="needs more memory than a query may use")
        assert sandbox.run(database, "select count(*) from item").rows == ((4,),)


def test_memory_has_a_limit_also_where_address_space_has_none(database):
    # In a process of its own: SQLite's limit is for a process, and for good.
    limits = asdict(Limits(seconds=60, memory_bytes=64 * 2**20))
    request = {"uri": f"{database.as_uri()}?mode=ro", "sql": MEMORY_BOMB}
    code = f"""
import runpy
worker = runpy.run_path({str(Path(sql_worker.__file__))!r})
print(worker["answer"]({request!r}, {limits!r})["kind"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "too_large\n", done.stderr


def test_the_limit_of_processor_time_counts_from_each_query(monkeypatch):
    # A long-lived worker uses more than one query may; that must not end it.
    used, hard = SimpleNamespace(ru_utime=7.2, ru_stime=1.0), resource.RLIM_INFINITY
    limits = []
    monkeypatch.setattr(resource, "getrusage", lambda who: used)
    monkeypatch.setattr(resource, "setrlimit", lambda *limit: limits.append(limit))
    sql_worker.limit_processor_time(5.0)
    assert limits == [(resource.RLIMIT_CPU, (15, hard))]


def test_the_limits_of_the_process_hold_by_themselves(tmp_path):
    code = f"""
import runpy, sys
worker = runpy.run_path({str(Path(sql_worker.__file__))!r})
worker["limit_process"](256 * 2**20)
try:
    with open({str(tmp_path / "evil")!r}, "w") as file:
        file.write("x")
except OSError as error:
    print("no file", error.errno)
try:
    bytearray(2**30)
except MemoryError:
    print("no memory")
worker["limit_processor_time"](0.1)
sys.stdout.flush()
while True:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert re.fullmatch(r"no file \d+\nno memory\n", done.stdout), (done.stdout, done.stderr)
    assert done.returncode < 0, "ended by the limit of processor time"


# Files


@pytest.mark.parametrize("name", ["a b.sqlite", "a?mode=rwc.sqlite", "a#b%20.sqlite", "é'\".db"])
def test_any_path_is_opened_as_it_is_written(database, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(database.read_bytes())
    with SqlSandbox() as sandbox:
        assert sandbox.run(path, "select count(*) from item").rows == ((4,),)
    assert os.listdir(tmp_path) == [name]


def test_a_write_ahead_database_is_read_without_its_side_files(database, tmp_path):
    path = tmp_path / "wal.sqlite"
    path.write_bytes(database.read_bytes())
    connection = sqlite3.connect(path)
    assert connection.execute("pragma journal_mode = wal").fetchone() == ("wal",)
    connection.execute("insert into other values (7, 7)")
    connection.commit()
    connection.close()
    assert os.listdir(tmp_path) == ["wal.sqlite"]
    with SqlSandbox() as sandbox:
        assert sandbox.run(path, "select max(id) from other").rows == ((7,),)
        assert os.listdir(tmp_path) == ["wal.sqlite"]


def test_a_missing_database_is_named(sandbox, tmp_path):
    path = tmp_path / "none.sqlite"
    with pytest.raises(UserError, match=re.escape(f"{path}: no such database")):
        sandbox.run(path, "select 1")
    assert not path.exists()


@pytest.mark.parametrize(
    "content", [b"This is no database.\n" * 100, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_damaged_database_is_an_error(sandbox, tmp_path, content):
    path = tmp_path / "damaged.sqlite"
    path.write_bytes(content)
    outcome = sandbox.run(path, "select 1")
    assert outcome.kind == "error"
    assert outcome.reason.startswith("the database cannot be read (")
    assert path.read_bytes() == content


# The worker


def test_a_worker_that_was_ended_between_queries_is_replaced(database):
    with SqlSandbox() as sandbox:
        sandbox.run(database, "select 1")
        sandbox._worker._process.kill()
        sandbox._worker._process.wait()
        assert sandbox.run(database, "select 2").rows == ((2,),)


def test_a_query_whose_worker_was_ended_is_asked_again(database):
    with SqlSandbox(Limits(seconds=30)) as sandbox:
        sandbox.run(database, "select 1")
        first = sandbox._worker._process
        timer = threading.Timer(0.05, first.kill)
        timer.start()
        # Too much work for the first worker to finish before it is ended.
        slow = MANY.replace("100000", "1500000") + " select count(*) from n"
        assert sandbox.run(database, slow).rows == ((1_500_000,),)
        timer.join()
        assert sandbox._worker._process.pid != first.pid


def write_worker(tmp_path, monkeypatch, code):
    path = tmp_path / "worker.py"
    path.write_text(code)
    monkeypatch.setattr(sql_sandbox, "_WORKER", path)


READY = """
import json, os, sys, time
length = int.from_bytes(sys.stdin.buffer.read(4), "big")
sys.stdin.buffer.read(length)
body = b'{"ready": true}'
sys.stdout.buffer.write(len(body).to_bytes(4, "big") + body)
sys.stdout.buffer.flush()
"""


def test_a_query_that_always_ends_its_worker_is_an_error(tmp_path, monkeypatch, database):
    write_worker(tmp_path, monkeypatch, READY + "sys.stdin.buffer.read(4); os._exit(3)")
    with SqlSandbox() as sandbox:
        outcome = sandbox.run(database, "select 1")
    assert outcome == Outcome("error", reason="ended its process, twice")


@pytest.mark.parametrize("half", ["", "sys.stdout.buffer.write(b'12'); sys.stdout.buffer.flush();"])
def test_a_worker_that_hangs_is_killed(tmp_path, monkeypatch, database, half):
    write_worker(tmp_path, monkeypatch, READY + half + "time.sleep(600)")
    with SqlSandbox(Limits(seconds=0.05)) as sandbox:
        outcome = sandbox.run(database, "select 1")
    assert outcome.kind == "timeout"


def test_a_worker_that_does_not_start_is_a_fault_and_no_wrong_answer(
    tmp_path, monkeypatch, database
):
    write_worker(tmp_path, monkeypatch, "raise SystemExit(7)")
    with (
        SqlSandbox() as sandbox,
        pytest.raises(RuntimeError, match=r"worker\.py did not start \(exit status (7|-9)\)"),
    ):
        sandbox.run(database, "select 1")


def test_closing_ends_the_process_and_a_later_query_starts_another(database):
    sandbox = SqlSandbox()
    sandbox.close()
    sandbox.run(database, "select 1")
    process = sandbox._worker._process
    sandbox.close()
    assert process.poll() is not None
    assert sandbox.run(database, "select 2").rows == ((2,),)
    sandbox.close()


def test_a_worker_ends_when_its_parent_is_gone(database):
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", sql_worker.__file__], stdin=subprocess.PIPE
    )
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_without_resource_limits_no_query_is_run(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the resource limits of Linux or macOS"):
        SqlSandbox()


def test_a_message_that_is_cut_off_is_the_end():
    read, write = os.pipe()
    os.write(write, b"\x00\x00")
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        assert sql_worker.read_message(stream) is None


def test_allowed_functions_are_written_as_sqlite_gives_them():
    assert all(name == name.lower() for name in sql_worker.FUNCTIONS)
    connection = sqlite3.connect(":memory:")
    known = {name for (name,) in connection.execute("select name from pragma_function_list")}
    connection.close()
    dangerous = {"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "randomblob"}
    assert not dangerous & sql_worker.FUNCTIONS
    newer = {"concat", "concat_ws", "median", "string_agg", "timediff"}
    assert known >= sql_worker.FUNCTIONS - newer
