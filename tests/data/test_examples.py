"""Rows of a JSONL file: every kind is read, every bad one is named with file and line."""

import json
import re
from pathlib import Path

import pytest

from semtube.data.examples import Example, Message, examples_from_rows, read_examples
from semtube.errors import UserError

GOOD = '{"prompt": "a", "completion": "b"}'


def turn(role, content):
    return {"role": role, "content": content}


def chat(*turns):
    return json.dumps({"messages": list(turns)})


def write(folder: Path, *lines: str) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_chat_row_keeps_every_turn_in_its_order(tmp_path):
    turns = [turn("system", "s"), turn("user", "u"), turn("assistant", "a"), turn("user", "v")]
    (row,) = read_examples(write(tmp_path, chat(*turns, turn("assistant", "b"))))
    assert row.kind == "chat"
    assert [(m.role, m.content) for m in row.messages] == [
        ("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v"), ("assistant", "b"),
    ]  # fmt: skip
    assert row.answer == "b"
    assert [message.content for message in row.question] == ["s", "u", "a", "v"]


def test_prompt_and_completion_become_a_question_and_an_answer(tmp_path):
    (row,) = read_examples(write(tmp_path, '{"prompt": " a ", "completion": " b\\n"}'))
    # The text is not stripped: spaces at the boundary are the user's.
    assert row == Example(
        "pair", (Message("user", " a "), Message("assistant", " b\n")), row.source
    )


def test_a_plain_text_is_all_answer_and_has_no_question(tmp_path):
    (row,) = read_examples(write(tmp_path, '{"text": "hello", "other": 3}'))
    assert (row.kind, row.answer, row.question) == ("text", "hello", ())


def test_messages_go_before_prompt_and_text_and_a_lone_prompt_does_not_hide_the_text(tmp_path):
    whole = json.loads(chat(turn("assistant", "m"))) | json.loads(GOOD) | {"text": "t"}
    lines = [json.dumps(whole), '{"prompt": "p", "text": "t"}']
    assert [(row.kind, row.answer) for row in read_examples(write(tmp_path, *lines))] == [
        ("chat", "m"),
        ("text", "t"),
    ]


def test_blank_lines_are_passed_over_and_still_counted(tmp_path):
    rows = read_examples(write(tmp_path, "", GOOD, "   ", "\t", GOOD, ""))
    assert [row.source for row in rows] == ["rows.jsonl:2", "rows.jsonl:5"]


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_both_line_ends_are_read(tmp_path, end):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(end.join([GOOD, GOOD, ""]).encode())
    assert [row.source for row in read_examples(str(path))] == ["rows.jsonl:1", "rows.jsonl:2"]


def test_line_separators_inside_a_text_end_no_row(tmp_path):
    text = "a\u2028b\u2029c\x0bd\x85e"
    (row,) = read_examples(write(tmp_path, json.dumps({"text": text}, ensure_ascii=False)))
    assert row.answer == text


def test_a_digest_knows_kind_roles_and_text_and_not_the_place():
    pair = (Message("user", "a"), Message("assistant", "b"))
    row = Example("chat", pair, "x:1")
    assert row.digest() == Example("chat", pair, "y:9").digest()
    others = [
        Example("pair", pair, "x:1"),
        Example("chat", (Message("system", "a"), Message("assistant", "b")), "x:1"),
        Example("chat", (Message("user", "a"), Message("assistant", "b ")), "x:1"),
        Example("chat", (Message("user", "ab"),), "x:1"),
    ]
    assert len({row.digest(), *(other.digest() for other in others)}) == 5


BAD = {
    "no JSON": ("{'text': 'a'}", "not JSON"),
    "half a line": ('{"text": "a', "not JSON"),
    "two values": (f"{GOOD} {GOOD}", "not JSON (Extra data"),
    "byte order mark": ("\ufeff" + GOOD, "not JSON (Unexpected UTF-8 BOM"),
    "number with too many digits": ('{"text": ' + "1" * 5000 + "}", "not JSON"),
    "deep nesting": ("[" * 200_000, "not JSON"),
    "a list": ("[1, 2]", "a JSON object is needed, not list"),
    "a string": ('"text"', "a JSON object is needed, not str"),
    "null": ("null", "a JSON object is needed, not NoneType"),
    "other keys": ('{"question": "a", "answer": "b"}', "or 'text', has answer, question"),
    "no keys": ("{}", "has no keys"),
    "prompt alone": ('{"prompt": "a"}', "has prompt"),
    "no turns": ('{"messages": []}', "'messages' must be a list of turns that is not empty"),
    "turns of text": ('{"messages": "hello"}', "'messages' must be a list"),
    "turns of null": ('{"messages": null}', "'messages' must be a list"),
    "a turn that is text": (chat("hello"), "message 1 is no object"),
    "unknown role": (
        chat(turn("user", "a"), turn("tool", "b")),
        "message 2 has role 'tool', not one of system, user, assistant",
    ),
    "role that is a list": (chat(turn(["user"], "a")), "message 1 has role ['user']"),
    "no role": (chat({"content": "a"}), "message 1 has role None"),
    "empty answer": (chat(turn("user", "a"), turn("assistant", "")), "message 2: answer is empty"),
    "white answer": (chat(turn("assistant", " \n\t")), "message 1: answer is empty"),
    "empty question": (chat(turn("user", " "), turn("assistant", "a")), "1: content is empty"),
    "content that is null": (
        chat(turn("user", None), turn("assistant", "a")),
        "message 1: content must be text, not NoneType",
    ),
    "content in parts": (
        chat(turn("user", [{"type": "text", "text": "a"}]), turn("assistant", "a")),
        "message 1: content must be text, not list",
    ),
    "no content": (chat({"role": "assistant"}), "message 1: answer must be text, not NoneType"),
    "last turn not the assistant's": (
        chat(turn("user", "a"), turn("assistant", "b"), turn("user", "c")),
        "the last message must be the assistant's",
    ),
    "empty completion": ('{"prompt": "a", "completion": ""}', "completion is empty"),
    "number as completion": (
        '{"prompt": "a", "completion": 4}',
        "completion must be text, not int",
    ),
    "empty prompt": ('{"prompt": "", "completion": "a"}', "prompt is empty"),
    "empty text": ('{"text": "  "}', "text is empty"),
    "text that is a list": ('{"text": ["a"]}', "text must be text, not list"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_with_file_line_and_reason(tmp_path, name):
    line, reason = BAD[name]
    path = write(tmp_path, GOOD, line, GOOD)
    with pytest.raises(UserError, match=re.escape(reason)) as caught:
        read_examples(path)
    assert str(caught.value).startswith(f"{path}: 1 bad row: line 2: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250


def test_text_with_half_a_surrogate_pair_is_a_bad_row(tmp_path):
    # JSON may spell it; no tokenizer can encode it and no UTF-8 file can hold it.
    with pytest.raises(UserError, match="line 2: "):
        read_examples(write(tmp_path, GOOD, '{"prompt": "a\\ud800", "completion": "b"}'))


def test_of_many_bad_rows_ten_are_named_and_the_rest_counted(tmp_path):
    path = write(tmp_path, GOOD, *["no JSON"] * 23)
    with pytest.raises(UserError) as caught:
        read_examples(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: 23 bad rows: line 2: ")
    assert message.endswith("; and 13 more")
    assert re.findall(r"line (\d+): ", message) == [str(number) for number in range(2, 12)]


def test_ten_bad_rows_are_all_named_and_none_is_said_to_be_left_out(tmp_path):
    with pytest.raises(UserError) as caught:
        read_examples(write(tmp_path, *["no JSON"] * 10))
    assert "10 bad rows" in str(caught.value)
    assert "more" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "nowhere.jsonl"
    with pytest.raises(UserError) as caught:
        read_examples(path)
    assert str(caught.value) == f"{path}: no such file"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"{tmp_path} is a folder: give a JSONL file")):
        read_examples(tmp_path)


def test_a_path_through_a_file_is_an_error_of_the_user(tmp_path):
    path = write(tmp_path, GOOD) / "below"
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_examples(path)


@pytest.mark.parametrize("text", ["", "\n\n", "   \n\t\n"])
def test_a_file_without_rows_is_refused(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(f"{path}: no rows")):
        read_examples(path)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_that_is_not_utf8_is_refused(tmp_path, encoding):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"text": "é"}'.encode(encoding))
    with pytest.raises(UserError, match="cannot be read as UTF-8 text"):
        read_examples(path)


def test_a_chat_row_without_template_is_prompt_and_answer(tmp_path):
    turns = [("system", "Be short."), ("user", "Two?"), ("assistant", "2")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns], "level": 3}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    (example,) = read_examples(path)
    assert example.fields == {"level": 3}
    plain = example.without_template()
    assert (plain.kind, plain.fields, plain.source) == ("pair", {"level": 3}, example.source)
    assert [message.content for message in plain.messages] == ["Be short.\n\nTwo?\n\n", "2"]
    assert plain.without_template() is plain
    alone = Example("chat", (Message("assistant", "2"),), "x").without_template()
    assert (alone.kind, alone.messages) == ("text", (Message("assistant", "2"),))


def test_rows_that_were_read_already_are_checked_alike():
    good = {"prompt": "a", "completion": "b", "choices": ["b", "c"]}
    (example,) = examples_from_rows([good], "task/test")
    assert (example.source, example.fields) == ("task/test:1", {"choices": ["b", "c"]})
    with pytest.raises(UserError, match=r"task/test: 1 bad row: row 2: completion is empty"):
        examples_from_rows([good, {"prompt": "a", "completion": " "}], "task/test")
    with pytest.raises(UserError, match="task/test: no rows"):
        examples_from_rows([], "task/test")
