"""Multiple choice: both splits in one form, and the two choices by likelihood."""

from pathlib import Path

import pytest

from semtube.errors import UserError
from semtube.tasks.hellaswag import LETTERS, HellaSwag, without_tags
from semtube.tasks.task import Answer


def test_tags_are_taken_out() -> None:
    text = "[header] How to fly [title] Get wings. [step] Flap them."
    assert without_tags(text) == "How to fly. Get wings. Flap them."


def test_contrasts() -> None:
    fields = {"context": "He runs", "endings": ["fast.", "slow.", "up.", "down."]}
    found = HellaSwag().contrasts("C", fields)
    assert found["letter_match"].options == LETTERS
    assert found["ending_match"].options == (" fast.", " slow.", " up.", " down.")
    assert found["ending_match"].prompt == "He runs"
    assert found["ending_match"].per_character
    assert {contrast.right for contrast in found.values()} == {2}


def test_a_letter_must_be_written_and_ended() -> None:
    def judge(text: str, stopped: bool) -> bool | None:
        return HellaSwag().judge([Answer(text, stopped, "B", {})])[0]["exact_match"]

    assert judge(" B\n", True) is True
    assert [judge("B", False), judge("", True), judge("B)", True), judge("A", True)] == [False] * 4


def test_a_row_without_four_endings_is_named(tmp_path: Path) -> None:
    (tmp_path / "hellaswag").mkdir()
    path = tmp_path / "hellaswag" / "hellaswag_test.jsonl"
    path.write_text('{"messages": [{}, {"content": "context\\nA) one"}, {"content": "A"}]}\n')
    with pytest.raises(UserError, match=r"hellaswag_test.jsonl:1: a context with endings"):
        HellaSwag().read(tmp_path, "test")


def test_a_damaged_archive_is_named(tmp_path: Path, shared: Path) -> None:
    (tmp_path / "hellaswag").mkdir()
    for name, cut in (("hellaswag_test.jsonl", None), ("hellaswag_val_full.txt.bz2", 5000)):
        whole = (shared / "data" / "hellaswag" / name).read_bytes()
        (tmp_path / "hellaswag" / name).write_bytes(whole[:cut])
    with pytest.raises(UserError, match=r"hellaswag_val_full.txt.bz2: cannot be read as bz2"):
        HellaSwag().read(tmp_path, "train")


def test_real_rows(shared: Path) -> None:
    """All 2,000 test rows are found among the 10,042, so train and test share none."""
    task = HellaSwag()
    splits = {split: task.read(shared / "data", split) for split in task.card.splits}
    assert {split: len(rows) for split, rows in splits.items()} == task.card.splits
    contexts = {
        split: {(row["context"], *row["endings"]) for row in rows} for split, rows in splits.items()
    }
    assert not contexts["train"] & contexts["test"]
    for row in splits["test"] + splits["train"]:
        gold = row["messages"][-1]["content"]
        assert len(row["endings"]) == 4
        assert f"{gold}) {row['endings'][LETTERS.index(gold)]}" in row["messages"][1]["content"]
    golds = [row["messages"][-1]["content"] for row in splits["test"]]
    right = task.judge([Answer(gold, True, gold, {}) for gold in golds])
    assert all(scores["exact_match"] for scores in right)
    moved = golds[3:] + golds[:3]
    shuffled = task.judge([Answer(m, True, g, {}) for m, g in zip(moved, golds, strict=True)])
    assert 0.2 < sum(scores["exact_match"] or False for scores in shuffled) / len(golds) < 0.3
