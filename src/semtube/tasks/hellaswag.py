"""HellaSwag: which of four endings fits a context."""

from __future__ import annotations

import bz2
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semtube.errors import UserError
from semtube.tasks.cards import HELLASWAG
from semtube.tasks.json_lines import chat_row, last_text, message_text, read_json_lines
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

    `ending_match`: the right ending has the highest log-probability per character behind
    "activity: context" (the field's "acc_norm"; there the second half of a context begins with a
    capital, which these files do not tell apart). `letter_match`: its letter has the highest
    probability as the answer. `exact_match`: the model writes the letter and stops. Both splits
    come from the public validation set and are put in one form, without bracket tags.

    Source: Zellers et al. 2019, arXiv 1905.07830.
    """

    card = HELLASWAG
    scores = ("ending_match", "letter_match", "exact_match")

    def paths(self, split: str) -> tuple[str, ...]:
        """The authors' rows, and the whole set, which tells the others and the activities."""
        return ("hellaswag/hellaswag_test.jsonl", "hellaswag/hellaswag_val_full.txt.bz2")

    def read(self, folder: Path, split: str) -> list[dict[str, Any]]:
        """The authors' 2,000 rows as `test`; as `train` those that share nothing with them."""
        test_path, whole_path = self.paths(split)
        everything = _read_all(folder / whole_path)
        activities = {key: row["activity"] for row in everything for key in _keys(row)}
        test = _read_test(folder / test_path, activities)
        if split == "test":
            return test
        used = {key for row in test for key in _keys(row)}
        return [row for row in everything if not used & set(_keys(row))]

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Whether the letter was written, and nothing else."""
        return [{"exact_match": a.stopped and exact_match(a.prediction, a.gold)} for a in answers]

    def contrasts(self, gold: str, fields: Mapping[str, Any]) -> dict[str, Contrast]:
        """Endings behind the context, letters behind the question."""
        right = LETTERS.index(gold)
        endings = tuple(f" {ending}" for ending in fields["endings"])
        return {
            "ending_match": Contrast(
                endings,
                right,
                prompt=f"{fields['activity']}: {fields['context']}",
                per_character=True,
            ),
            "letter_match": Contrast(LETTERS, right),
        }


def _row(activity: str, context: str, endings: Sequence[str], letter: str) -> dict[str, Any]:
    listed = "".join(f"\n{a}) {text}" for a, text in zip(LETTERS, endings, strict=True))
    fields = {"activity": activity, "context": context, "endings": list(endings)}
    return chat_row(SYSTEM, context + listed, letter, **fields)


def _read_test(path: Path, activities: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = []
    for place, row in read_json_lines(path, ("messages",)):
        match = _QUESTION.fullmatch(message_text(row, 1, place))
        letter = last_text(row, place)
        if match is None or letter not in LETTERS:
            raise UserError(f"{place}: a context with endings A) to D) and a letter are needed")
        context, *endings = map(without_tags, match.groups())
        found = _row("", context, endings, letter)
        known = [activities[key] for key in _keys(found) if key in activities]
        if not known:
            raise UserError(f"{place}: this row is not in the validation set")
        rows.append(_row(known[-1], context, endings, letter))
    return rows


def _read_all(path: Path) -> list[dict[str, Any]]:
    """Six lines a row: "activity: context", number of the right ending, four endings."""
    try:
        lines = bz2.decompress(path.read_bytes()).decode().rstrip("\n").split("\n")
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as bz2 text ({error})") from None
    rows = []
    for start in range(0, len(lines), _LINES_PER_ROW):
        head, number, *endings = [*lines[start : start + _LINES_PER_ROW], ""][:_LINES_PER_ROW]
        if ": " not in head or number not in ("0", "1", "2", "3") or len(endings) != 4:
            raise UserError(
                f"{path}:{start + 1}: 'activity: context', 0 to 3 and four endings are needed"
            )
        activity, context = head.split(": ", 1)
        letter = LETTERS[int(number)]
        rows.append(_row(activity, without_tags(context), list(map(without_tags, endings)), letter))
    return rows


def _keys(row: Mapping[str, Any]) -> tuple[str, str]:
    """Letters and digits of context and of endings: the same row, however it is punctuated."""
    texts = {"context": row["context"], "endings": " ".join(row["endings"])}
    context_key, endings_key = (
        f"{name} {''.join(filter(str.isalnum, text.lower()))}" for name, text in texts.items()
    )
    return context_key, endings_key
