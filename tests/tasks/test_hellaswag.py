"""Multiple choice: both splits in one form, and the two choices by likelihood."""

import bz2
from pathlib import Path

import pytest

from semtube.errors import UserError
from semtube.tasks.hellaswag import LETTERS, HellaSwag, without_tags
from semtube.tasks.task import Answer


def test_tags_are_taken_out() -> None:
    text = "[header] How to fly [title] Get wings. [step] Flap them."
    assert without_tags(text) == "How to fly. Get wings. Flap them."


def test_contrasts() -> None:
    fields = {
        "activity": "Running",
        "context": "He runs",
        "endings": ["fast.", "slow.", "up.", "down."],
    }
    found = HellaSwag().contrasts("C", fields)
    assert found["letter_match"].options == LETTERS
    assert found["ending_match"].options == (" fast.", " slow.", " up.", " down.")
    assert found["ending_match"].prompt == "Running: He runs"
    assert found["ending_match"].per_character
    assert {contrast.right for contrast in found.values()} == {2}


def test_a_letter_must_be_written_and_ended() -> None:
    def judge(text: str, stopped: bool) -> bool | None:
        return HellaSwag().judge([Answer(text, stopped, "B", {})])[0]["exact_match"]

    assert judge(" B\n", True) is True
    assert [judge("B", False), judge("", True), judge("B)", True), judge("A", True)] == [False] * 4


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ('{"messages": [{}, {"content": "context\\nA) one"}, {"content": "A"}]}',
         "hellaswag_test.jsonl:1: a context with endings"),
        ('{"messages": []}', "hellaswag_test.jsonl:1: message 1 of 'messages' has no text"),
        ('{"messages": [{}, {"content": "new\\nA) a\\nB) b\\nC) c\\nD) d"}, {"content": "A"}]}',
         "hellaswag_test.jsonl:1: this row is not in the validation set"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: str, sentence: str) -> None:
    (tmp_path / "hellaswag").mkdir()
    (tmp_path / "hellaswag" / "hellaswag_test.jsonl").write_text(row + "\n")
    whole = "Act: he runs\n0\none\ntwo\nthree\nfour\n"
    (tmp_path / "hellaswag" / "hellaswag_val_full.txt.bz2").write_bytes(
        bz2.compress(whole.encode())
    )
    with pytest.raises(UserError, match=sentence):
        HellaSwag().read(tmp_path, "test")


def test_a_short_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "hellaswag").mkdir()
    path = tmp_path / "hellaswag" / "hellaswag_val_full.txt.bz2"
    for text in ("Act: he runs\n0\none\ntwo", "no colon\n0\na\nb\nc\nd", ""):
        path.write_bytes(bz2.compress(text.encode()))
        with pytest.raises(UserError, match=r"bz2:1: 'activity: context', 0 to 3"):
            HellaSwag().read(tmp_path, "train")


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
    assert all(row["activity"] for row in splits["test"])
    for row in splits["test"] + splits["train"]:
        assert "[" not in row["context"] or "]" not in row["context"].split("[", 1)[1]
        gold = row["messages"][-1]["content"]
        assert len(row["endings"]) == 4
        assert f"{gold}) {row['endings'][LETTERS.index(gold)]}" in row["messages"][1]["content"]
    golds = [row["messages"][-1]["content"] for row in splits["test"]]
    right = task.judge([Answer(gold, True, gold, {}) for gold in golds])
    assert all(scores["exact_match"] for scores in right)
    moved = golds[3:] + golds[:3]
    shuffled = task.judge([Answer(m, True, g, {}) for m, g in zip(moved, golds, strict=True)])
    assert 0.2 < sum(scores["exact_match"] or False for scores in shuffled) / len(golds) < 0.3
