"""A run on disk: files appear whole or not at all, and a used folder is never begun again."""

import json
import os
import re
from pathlib import Path

import pytest

from semtube.errors import UserError
from semtube.run_folder import RunFolder, WriteError, read_json, write_json, write_jsonl, write_text


def broken(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_values_come_back_as_they_were_written(tmp_path):
    value = {"b": [1, 2.5, None, True], "a": "é\u2028\n", "nested": {"x": {}}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert text.index('"a"') < text.index('"b"') < text.index('"nested"')
    assert "é" in text


def test_rows_are_one_json_value_a_line(tmp_path):
    rows = [{"a": "two\nlines"}, [1], "é"]
    write_jsonl(tmp_path / "a.jsonl", iter(rows))
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == rows
    assert lines[-1] == ""


@pytest.mark.parametrize("old", [None, '{"old": 1}\n'])
@pytest.mark.parametrize("step", ["fsync", "replace", "write"])
def test_a_write_that_fails_midway_keeps_the_old_file_and_leaves_nothing(
    tmp_path, monkeypatch, old, step
):
    path = tmp_path / "result.json"
    if old is not None:
        path.write_text(old)
    text = '{"new": 2}\n'
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", broken)
    elif step == "replace":
        monkeypatch.setattr(Path, "replace", broken)
    else:
        text += "\ud800"  # cannot be encoded: the write itself fails
    with pytest.raises(UnicodeEncodeError if step == "write" else WriteError):
        write_text(path, text)
    assert os.listdir(tmp_path) == ([] if old is None else ["result.json"])
    assert old is None or path.read_text() == old


def test_the_file_reaches_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
    write_text(tmp_path / "a.json", "text")
    assert order == ["fsync", "replace"]


def test_while_a_file_is_written_readers_see_the_old_one(tmp_path, monkeypatch):
    path, seen, fsync = tmp_path / "a.txt", [], os.fsync
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(path.read_text()), fsync(fd)))
    write_text(path, "new")
    assert seen == ["old"]
    assert path.read_text() == "new"


def test_a_value_that_is_no_json_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": {1, 2}})
    with pytest.raises(TypeError):
        write_jsonl(tmp_path / "a.jsonl", [1, {2}])
    assert os.listdir(tmp_path) == []


def test_a_run_begins_in_a_new_or_an_empty_folder_and_stores_its_settings(tmp_path):
    for path in (tmp_path / "deep" / "new", tmp_path / "empty"):
        if path.name == "empty":
            path.mkdir()
        folder = RunFolder(path)
        folder.begin({"seed": 3}, {"id": "a"})
        assert sorted(os.listdir(path)) == ["config.json", "identity.json"]
        assert folder.read_config() == {"seed": 3}
        assert not folder.is_done


def used(path: Path, *names: str) -> RunFolder:
    path.mkdir()
    for name in names:
        (path / name).write_text("{}")
    return RunFolder(path)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("config.json", "result.json"), "holds a finished run: choose another output"),
        (
            ("config.json", "metrics.jsonl"),
            "holds an unfinished run: go on with `semtube train --resume {path}`, or choose "
            "another output",
        ),
        (("config.json", "failure.json"), "holds an unfinished run"),
        (("thesis.tex",), "holds other files: choose another output"),
        ((".hidden",), "holds other files: choose another output"),
    ],
)
def test_a_used_folder_is_refused_with_what_it_holds_and_left_alone(tmp_path, names, sentence):
    folder = used(tmp_path / "run", *names)
    wanted = re.escape(sentence.format(path=folder.path))
    for refuse in (folder.check_free, lambda: folder.begin({"seed": 1}, {})):
        with pytest.raises(UserError, match=wanted):
            refuse()
    assert sorted(os.listdir(folder.path)) == sorted(names)
    assert all((folder.path / name).read_text() == "{}" for name in names)


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("a letter")
    with pytest.raises(UserError, match="holds other files"):
        RunFolder(tmp_path / "run").begin({}, {})
    with pytest.raises(UserError, match="cannot be written"):
        RunFolder(tmp_path / "run" / "below").begin({}, {})
    assert (tmp_path / "run").read_text() == "a letter"


def test_a_folder_that_cannot_be_written_is_an_error_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        RunFolder(tmp_path / "run").begin({}, {})
    # Nothing stands in the way of the next try.
    monkeypatch.undo()
    RunFolder(tmp_path / "run").begin({}, {})


def test_the_result_alone_means_done(tmp_path):
    folder = used(tmp_path / "run", "config.json", "metrics.jsonl", "examples.jsonl")
    folder.model.mkdir()
    assert not folder.is_done
    write_json(folder.result, {})
    assert folder.is_done


def test_a_folder_without_settings_holds_no_run(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match=r"holds no run \(no config.json\)"):
            RunFolder(path).read_config()


@pytest.mark.parametrize("damage", [b"", b'{"seed": ', b"\xff\xfe\x00", b"seed: 3"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "config.json"
    path.write_bytes(damage)
    with pytest.raises(UserError, match=re.escape(f"{path}: not JSON")):
        read_json(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(f"{tmp_path / 'a.json'}: no such file")):
        read_json(tmp_path / "a.json")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        read_json(tmp_path)


def test_stored_json_is_json_that_every_reader_takes(tmp_path):
    # `low` and `high` are not a number for a single test row; NaN is no JSON (RFC 8259).
    try:
        write_json(tmp_path / "a.json", {"low": float("nan")})
    except ValueError:
        return

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
