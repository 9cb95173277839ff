"""Spider: rows, splits and verdicts by execution, on a small copy and on the real files."""

import hashlib
import json
import random
import re
import sqlite3
from collections import Counter
from fractions import Fraction

import pytest

from semtube.errors import UserError
from semtube.tasks.spider import SYSTEM, Spider, unseen_databases
from semtube.tasks.spider_schema import read_schemas
from semtube.tasks.sql_sandbox import SqlSandbox
from semtube.tasks.task import Answer


def chat(database, question, sql):
    turns = (
        ("system", SYSTEM),
        ("user", f"For db_id:[{database}]\n\n{question}"),
        ("assistant", sql),
    )
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


SHOP = {
    "db_id": "shop",
    "table_names_original": ["item", "Sale"],
    "column_names_original": [
        [-1, "*"], [0, "id"], [0, "name"], [1, "Item"], [1, "day"], [1, 'Price ("net")'],
    ],
    "primary_keys": [1, [3, 4]],
    "foreign_keys": [[3, 1]],
}  # fmt: skip
ROWS = {
    "train": [("shop", "How many?", "SELECT count(*) FROM item"), ("park", "All?", "SELECT 1")],
    "test": [("shop", "Which names?\n\nAll.", "SELECT name FROM item ORDER BY id")],
}


@pytest.fixture
def folder(tmp_path):
    """A data folder with two databases, one in each layout."""
    place = tmp_path / "spider"
    (place / "database" / "park").mkdir(parents=True)
    for split, rows in ROWS.items():
        lines = [json.dumps(chat(*row)) for row in rows]
        (place / f"spider_{split}.jsonl").write_text("\n".join(lines))
    (place / "tables.json").write_text(json.dumps([SHOP]))
    for path in ("shop.sqlite", "park/park.sqlite"):
        connection = sqlite3.connect(place / "database" / path)
        connection.executescript(
            "create table item (id integer, name text);"
            "insert into item values (1, 'a'), (2, 'b'), (3, 'b')"
        )
        connection.close()
    return tmp_path


def task_on(folder, **options):
    task = Spider(**options)
    task.read(folder, "test")
    return task


def verdicts(task, gold, *predictions, stopped=True, database="shop"):
    answers = [Answer(text, stopped, gold, {"database": database}) for text in predictions]
    return [scores["execution_match"] for scores in task.judge(answers)]


# Rows


def test_rows_are_the_authors_with_their_database_beside(folder):
    rows = Spider().read(folder, "train")
    assert rows == [chat(*row) | {"database": row[0]} for row in ROWS["train"]]


def test_a_schema_goes_between_the_database_and_the_question(folder):
    (row,) = Spider(schema=True).read(folder, "test")
    assert row["messages"][1]["content"] == (
        "For db_id:[shop]\n\n"
        "item(id*, name)\n"
        'Sale(Item*, day*, "Price (""net"")")\n'
        "Sale.Item = item.id\n\n"
        "Which names?\n\nAll."
    )
    assert row["messages"][::2] == chat(*ROWS["test"][0])["messages"][::2]


def test_a_database_without_a_schema_is_named(folder):
    with pytest.raises(UserError, match=r"spider_train\.jsonl:2: .* no schema of 'park'"):
        Spider(schema=True).read(folder, "train")


@pytest.mark.parametrize("text", ["", "[", "{}", '[{"db_id": "a"}]', "[3]", '[{"db_id": "a"'])
def test_a_damaged_file_of_schemas_is_named(folder, text):
    path = folder / "spider" / "tables.json"
    path.write_text(text)
    if text == "{}":
        assert read_schemas(path) == {}
        return
    with pytest.raises(UserError, match=re.escape(f"{path}: no list of schemas")):
        Spider(schema=True).read(folder, "test")
    assert len(Spider().read(folder, "test")) == 1


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "hello",
        None,
        [{"role": "user"}] * 3,
        chat("shop", "How many?", "SELECT 1")["messages"][:2],
        chat("", "How many?", "SELECT 1")["messages"],
        chat("../shop", "How many?", "SELECT 1")["messages"],
        chat("shop", "", "SELECT 1")["messages"],
        chat("shop", "How many?", None)["messages"],
    ],
)
def test_a_damaged_row_is_named_with_file_and_line(folder, messages):
    path = folder / "spider" / "spider_test.jsonl"
    path.write_text(path.read_text() + "\n" + json.dumps({"messages": messages}))
    with pytest.raises(UserError, match=r"^spider_test\.jsonl:2: 'For db_id:\[NAME\]', a question"):
        Spider().read(folder, "test")


def test_a_test_needs_its_databases_and_training_does_not(folder):
    path = folder / "spider" / "database" / "shop.sqlite"
    path.unlink()
    assert len(Spider().read(folder, "train")) == 2
    where = folder / "spider" / "database" / "NAME.sqlite"
    with pytest.raises(UserError) as caught:
        Spider().read(folder, "test")
    assert str(caught.value) == f"1 database is missing: shop: put each at {where}"


def test_of_many_missing_databases_ten_are_named(folder):
    rows = [chat(f"d{number:02}", "How many?", "SELECT 1") for number in range(23)]
    path = folder / "spider" / "spider_test.jsonl"
    path.write_text("\n".join(map(json.dumps, rows + rows)))
    with pytest.raises(UserError, match=r"^23 databases are missing: d00, .*, d09 and 13 more: "):
        Spider().read(folder, "test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schema": "yes"}, "task_options.schema is 'yes': true or false is needed"),
        ({"seconds": 0}, "task_options.seconds is 0: a number above 0 is needed"),
        ({"seconds": True}, "task_options.seconds is True: a number above 0 is needed"),
        ({"seconds": float("nan")}, "task_options.seconds is nan: a number above 0 is needed"),
        ({"seconds": float("inf")}, "task_options.seconds is inf: a number above 0 is needed"),
        ({"seconds": "5"}, "task_options.seconds is '5': a number above 0 is needed"),
    ],
)
def test_a_bad_option_is_named(options, message):
    with pytest.raises(UserError) as caught:
        Spider(**options)
    assert str(caught.value) == message


# Splits


def test_unseen_databases_are_the_first_by_digest_up_to_a_fifth_of_the_rows():
    names = [name for number in range(40) for name in [f"d{number}"] * (1 + number % 7)]
    chosen = unseen_databases(names)
    order = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert set(order[: len(chosen)]) == chosen
    share = Fraction(sum(name in chosen for name in names), len(names))
    share_without_last = share - Fraction(names.count(order[len(chosen) - 1]), len(names))
    assert share_without_last < Fraction(1, 5) <= share
    assert unseen_databases(random.Random(0).sample(names, len(names))) == chosen


def test_the_unseen_splits_part_the_rows_by_database(folder):
    train, test = (Spider().read(folder, split) for split in ("train-unseen", "test-unseen"))
    assert len(train) + len(test) == 3
    assert {row["database"] for row in train} | {row["database"] for row in test} == {
        "shop",
        "park",
    }
    assert not {row["database"] for row in train} & {row["database"] for row in test}


# Verdicts


def test_what_a_query_returns_is_judged_and_not_its_text(folder):
    gold = "SELECT name, id FROM item"
    assert verdicts(
        task_on(folder), gold,
        gold,
        "  select ID, Name from ITEM order by 1 desc;\n",
        "SELECT name, id FROM item WHERE id < 3",
        "SELECT DISTINCT name, 1 FROM item",
        "SELECT name FROM item",
        "SELECT nothing FROM item",
        "DROP TABLE item",
        "",
        " ",
    ) == [True, True, *[False] * 7]  # fmt: skip


def test_rows_are_ordered_only_where_the_right_query_orders_them(folder):
    up, down = "SELECT id FROM item ORDER BY id", "SELECT id FROM item ORDER BY id DESC"
    task = task_on(folder)
    assert verdicts(task, up, up, down) == [True, False]
    assert verdicts(task, "SELECT id FROM item", up, down) == [True, True]
    assert verdicts(task, f"SELECT id FROM ({up})", up, down) == [True, True]


def test_a_row_counts_as_often_as_it_is_returned(folder):
    task = task_on(folder)
    one, two = "SELECT DISTINCT name FROM item", "SELECT name FROM item"
    assert verdicts(task, one, one, two) == [True, False]
    assert verdicts(task, two, one, two) == [False, True]


@pytest.mark.parametrize(
    "prediction", ["", "SELECT", "SELECT x FROM item", ".quit", "VACUUM", "--"]
)
def test_an_invalid_query_is_wrong_also_where_nothing_is_right(folder, prediction):
    gold = "SELECT id FROM item WHERE id > 9"
    assert verdicts(task_on(folder), gold, prediction, gold) == [False, True]


def test_a_query_that_does_not_end_is_wrong_and_the_next_is_judged(folder):
    bomb = "with recursive n(x) as (select 1 union all select x from n) select count(*) from n"
    gold = "SELECT count(*) FROM item"
    task = task_on(folder, seconds=0.2)
    assert verdicts(task, gold, bomb, gold, bomb, "SELECT 3") == [False, True, False, True]
    assert task.reasons() == []


def test_a_right_query_that_fails_is_excluded_named_and_counted_once(folder):
    task = task_on(folder)
    gold = "SELECT colour FROM item"
    assert verdicts(task, gold, gold, "SELECT 1", "") == [None, None, None]
    assert verdicts(task, gold, gold, stopped=False) == [None]
    assert task.reasons() == [
        "database 'shop': the right query 'SELECT colour FROM item' is not judged: "
        "no such column: colour"
    ]


def test_an_answer_that_did_not_stop_is_wrong(folder):
    gold = "SELECT id FROM item"
    assert verdicts(task_on(folder), gold, gold, stopped=False) == [False]


def test_exact_match_is_judged_beside_and_also_where_the_right_query_fails(folder):
    task = task_on(folder)
    gold = "SELECT colour FROM item"
    answers = [
        Answer(text, stopped, gold, {"database": "shop"})
        for text, stopped in ((gold, True), (f" {gold}\n", True), (gold, False), ("", True))
    ]
    assert [scores["exact_match"] for scores in task.judge(answers)] == [True, True, False, False]
    assert all(tuple(scores) == Spider.scores for scores in task.judge(answers))


def test_a_right_query_is_run_once(folder):
    task = task_on(folder)
    gold = "SELECT name FROM item"
    assert verdicts(task, gold, gold) == [True]
    connection = sqlite3.connect(folder / "spider" / "database" / "shop.sqlite")
    with connection:
        connection.execute("delete from item")
    connection.close()
    # The prediction is run anew, on the changed rows; the right result is the first one.
    assert verdicts(task, gold, gold) == [False]
    assert verdicts(task, gold, "SELECT name FROM item", database="park") == [True]


def test_both_layouts_of_databases_are_read(folder):
    assert verdicts(task_on(folder), "SELECT 3", "SELECT count(*) FROM item", database="park") == [
        True
    ]


def test_hostile_predictions_leave_the_databases_as_they_are(folder):
    def state():
        files = (p for p in sorted(folder.rglob("*")) if p.is_file())
        return {p: hashlib.sha256(p.read_bytes()).digest() for p in files}

    before = state()
    hostile = [
        "DELETE FROM item",
        "ATTACH 'evil.sqlite' AS evil",
        "SELECT load_extension('./evil')",
        "PRAGMA journal_mode = wal",
        "SELECT 1; DROP TABLE item",
        ".shell touch evil",
        "SELECT '\ud800'",
        "\x00",
        "x" * 100_000,
        "从 item 选择 *",
    ]
    assert verdicts(task_on(folder), "SELECT 9 WHERE 0", *hostile) == [False] * len(hostile)
    assert state() == before


@pytest.mark.parametrize("database", [None, 3, "", "../shop", "a/b"])
def test_a_row_without_its_database_is_named(folder, database):
    with pytest.raises(
        UserError, match=r"^'database' of a row is .*: task 'spider' needs its name"
    ):
        verdicts(task_on(folder), "SELECT 1", "SELECT 1", database=database)


def test_a_database_that_went_missing_is_named(folder):
    with pytest.raises(UserError, match=r"^1 database is missing: zoo: put each at "):
        verdicts(task_on(folder), "SELECT 1", "SELECT 1", database="zoo")


def test_judging_before_reading_is_a_fault():
    with pytest.raises(ValueError, match="rows must be read before they are judged"):
        verdicts(Spider(), "SELECT 1", "SELECT 1")


# The real files


@pytest.fixture(scope="module")
def data(shared):
    return shared / "data"


@pytest.fixture(scope="module")
def real(data):
    """The task with the authors' test rows; right results are kept between tests."""
    task = Spider()
    return task, task.read(data, "test")


def sql_of(row):
    return row["messages"][2]["content"]


def question_of(row):
    return row["messages"][1]["content"].split("\n\n", 1)[1]


def count_verdicts(task, rows, predictions):
    answers = [
        Answer(text, True, sql_of(row), {"database": row["database"]})
        for row, text in zip(rows, predictions, strict=True)
    ]
    return Counter(scores["execution_match"] for scores in task.judge(answers))


def test_of_1447_right_queries_1446_run_and_equal_themselves(real):
    task, rows = real
    assert count_verdicts(task, rows, map(sql_of, rows)) == {True: 1446, None: 1}
    (failed,) = task.reasons()
    assert failed.startswith(
        "database 'document_management': the right query 'SELECT document_name"
    )
    assert failed.endswith("ORDER BY clause should come after INTERSECT not before")


def test_empty_predictions_score_nothing(real):
    task, rows = real
    assert count_verdicts(task, rows, [""] * len(rows)) == {False: 1446, None: 1}


def test_shuffled_right_queries_score_near_nothing(real):
    task, rows = real
    shuffled = [sql_of(row) for row in rows]
    random.Random(0).shuffle(shuffled)
    assert count_verdicts(task, rows, shuffled)[True] < 0.02 * len(rows)


def test_the_card_states_splits_and_files_as_they_are(data):
    card = Spider.card
    rows = {split: Spider().read(data, split) for split in card.splits}
    assert {split: len(found) for split, found in rows.items()} == card.splits
    for file in card.files:
        content = (data / file.path).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (file.sha256, file.num_bytes)
    found = {str(path.relative_to(data)) for path in (data / "spider").rglob("*.sqlite")}
    assert {file.path for file in card.files if file.path.endswith(".sqlite")} == found


def overlap(train, test, key):
    known = {key(row) for row in train}
    return sum(key(row) in known for row in test)


def test_the_card_states_the_leaks_as_measured(data):
    rows = {split: Spider().read(data, split) for split in Spider.card.splits}

    def shared_rows(suffix, *keys):
        key = lambda row: tuple(part(row) for part in keys)  # noqa: E731
        return f"{overlap(rows[f'train{suffix}'], rows[f'test{suffix}'], key):,}"

    def database_of(row):
        return row["database"]

    seen, unseen, *_ = Spider.card.leaks
    assert re.findall(r"[\d,]*\d", seen) == [
        f"{len({database_of(row) for row in rows['test']})}",
        shared_rows("", database_of),
        shared_rows("", sql_of),
        shared_rows("", sql_of, database_of),
        shared_rows("", question_of),
        shared_rows("", question_of, sql_of, database_of),
    ]
    assert shared_rows("-unseen", database_of) == "0"
    assert re.findall(r"[\d,]*\d", unseen) == [
        f"{len(rows['test-unseen']):,}",
        shared_rows("-unseen", sql_of),
        shared_rows("-unseen", question_of),
    ]


@pytest.mark.slow
def test_the_card_states_the_faults_as_measured(data, real):
    task, rows = real
    with SqlSandbox() as sandbox:
        folder = data / "spider" / "database"
        found = [sandbox.run(folder / f"{r['database']}.sqlite", sql_of(r)) for r in rows]
    empty = sum(outcome.kind == "rows" and not outcome.rows for outcome in found)
    nothing = count_verdicts(task, rows, ["SELECT 1 WHERE 0"] * len(rows))
    assert re.findall(r"[\d,]{3,}", Spider.card.leaks[2]) == [
        f"{nothing[True] + nothing[False]:,}", f"{empty}", f"{nothing[True]}",
    ]  # fmt: skip
    train = Spider()
    trained = train.read(data, "train")
    assert count_verdicts(train, trained, map(sql_of, trained)) == {True: 6585, None: 2}
    assert len(train.reasons()) == 2


@pytest.mark.parametrize("split", ["train-unseen", "test-unseen"])
def test_every_row_can_have_its_schema(data, split):
    plain, rows = (Spider(schema=schema).read(data, split) for schema in (False, True))
    for before, after in zip(plain, rows, strict=True):
        text = after["messages"][1]["content"]
        assert text.endswith(f"\n\n{question_of(before)}")
        assert text.startswith(f"For db_id:[{before['database']}]\n\n")
        assert re.search(r"^\w+\(.+\)$", text, re.MULTILINE)


def test_schemas_name_the_tables_and_columns_of_the_databases(data):
    schemas = read_schemas(data / "spider" / "tables.json")
    folder = data / "spider" / "database"
    checked = 0
    for name in ("concert_singer", "car_1", "flight_4"):
        connection = sqlite3.connect(f"{(folder / name).as_uri()}.sqlite?mode=ro", uri=True)
        for line in schemas[name].splitlines():
            if (match := re.fullmatch(r"(\w+)\((.+)\)", line)) is None:
                continue
            info = connection.execute(f"pragma table_info({match[1]})").fetchall()
            listed = [column.strip("*").lower() for column in match[2].split(", ")]
            assert listed == [column.lower() for _, column, *_ in info]
            checked += 1
        connection.close()
    assert checked == 13


def test_other_databases_may_be_used_in_place_of_the_cards(folder, tmp_path):
    """The card's need not be there then, and are not asked for."""
    others = tmp_path / "originals"
    (folder / "spider" / "database").rename(others)
    with pytest.raises(UserError, match="missing"):
        Spider().read(folder, "test")
    task = Spider(databases=str(others))
    assert not any(file.path.endswith(".sqlite") for file in task.files("test"))
    assert len(Spider().files("test")) == 1 + 166
    assert len(Spider().files("train")) == 1
    assert len(Spider(schema=True).files("train-unseen")) == 3
    row = task.read(folder, "test")[0]
    gold = row["messages"][-1]["content"]
    (scores,) = task.judge([Answer(gold, True, gold, {"database": row["database"]})])
    assert scores["execution_match"] is True
    with pytest.raises(UserError, match=r"task_options.databases is 'nowhere': no such folder"):
        Spider(databases="nowhere")
