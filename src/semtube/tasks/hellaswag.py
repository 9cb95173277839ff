"""HellaSwag: which of four endings fits a context."""

from __future__ import annotations

import bz2
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semtube.errors import UserError
from semtube.tasks.cards import HELLASWAG
from semtube.tasks.json_lines import chat_row, read_json_lines
from semtube.tasks.matching import exact_match
from semtube.tasks.task import Answer, Contrast, Scores, Task

SYSTEM = "Which one of A), B), C), or D) is the best ending for the context? Answer A, B, C, or D."
LETTERS = ("A", "B", "C", "D")
_QUESTION = re.compile(r"(.*)\nA\) (.*)\nB\) (.*)\nC\) (.*)\nD\) (.*)", re.DOTALL)
_LINES_PER_ROW = 6


def without_tags(text: str) -> str:
    """WikiHow's bracket tags taken out, as the field's harnesses do."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ").strip()


class HellaSwag(Task):
    """Multiple choice.

    `ending_match`: the right ending has the highest log-probability per character behind the
    context alone (the field's "acc_norm"). `letter_match`: its letter has the highest probability
    as the answer. `exact_match`: the model writes the letter and stops. Both splits come from the
    public validation set and are put in one form, without bracket tags.

    Source: Zellers et al. 2019, arXiv 1905.07830.
    """

    card = HELLASWAG
    scores = ("ending_match", "letter_match", "exact_match")

    def read(self, folder: Path, split: str) -> list[dict[str, Any]]:
        """The authors' 2,000 rows as `test`, all others of the validation set as `train`."""
        test = _read_test(folder / "hellaswag" / "hellaswag_test.jsonl")
        if split == "test":
            return test
        used = {key for row in test for key in _keys(row["context"], row["endings"])}
        everything = _read_all(folder / "hellaswag" / "hellaswag_val_full.txt.bz2")
        return [r for r in everything if not used & set(_keys(r["context"], r["endings"]))]

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Whether the letter was written, and nothing else."""
        return [{"exact_match": a.stopped and exact_match(a.prediction, a.gold)} for a in answers]

    def contrasts(self, gold: str, fields: Mapping[str, Any]) -> dict[str, Contrast]:
        """Endings behind the context, letters behind the question."""
        right = LETTERS.index(gold)
        endings = tuple(f" {ending}" for ending in fields["endings"])
        return {
            "ending_match": Contrast(endings, right, prompt=fields["context"], per_character=True),
            "letter_match": Contrast(LETTERS, right),
        }


def _row(context: str, endings: Sequence[str], letter: str) -> dict[str, Any]:
    listed = "".join(f"\n{a}) {text}" for a, text in zip(LETTERS, endings, strict=True))
    return chat_row(SYSTEM, context + listed, letter, context=context, endings=list(endings))


def _read_test(path: Path) -> list[dict[str, Any]]:
    rows = []
    for place, row in read_json_lines(path, ("messages",)):
        match = _QUESTION.fullmatch(row["messages"][1]["content"])
        letter = row["messages"][-1]["content"]
        if match is None or letter not in LETTERS:
            raise UserError(f"{place}: a context with endings A) to D) and a letter are needed")
        context, *endings = map(without_tags, match.groups())
        rows.append(_row(context, endings, letter))
    return rows


def _read_all(path: Path) -> list[dict[str, Any]]:
    """Six lines a row: "activity: context", number of the right ending, four endings."""
    try:
        lines = bz2.decompress(path.read_bytes()).decode().rstrip("\n").split("\n")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as bz2 text ({error})") from None
    rows = []
    for start in range(0, len(lines), _LINES_PER_ROW):
        head, number, *endings = lines[start : start + _LINES_PER_ROW]
        if ": " not in head or number not in ("0", "1", "2", "3") or len(endings) != 4:
            raise UserError(
                f"{path}:{start + 1}: 'activity: context', 0 to 3 and four endings are needed"
            )
        rows.append(_row(head.split(": ", 1)[1], endings, LETTERS[int(number)]))
    return rows


def _keys(context: str, endings: Sequence[str]) -> tuple[str, str]:
    """Letters and digits of context and of endings: the same row, however it is punctuated."""
    texts = {"context": context, "endings": " ".join(endings)}
    context_key, endings_key = (
        f"{name} {''.join(filter(str.isalnum, text.lower()))}" for name, text in texts.items()
    )
    return context_key, endings_key
