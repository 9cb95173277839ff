"""GSM8K: grade-school mathematics, judged by the final number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from semtube.tasks.cards import GSM8K
from semtube.tasks.json_lines import chat_row, read_json_lines
from semtube.tasks.task import Answer, Scores, Task

SYSTEM = "Answer the math question. End with #### and the final number."
#: A sign on either side of a currency sign, thousands with or without commas, decimals.
_NUMBER = re.compile(
    r"(?P<sign>[-+\N{MINUS SIGN}])?(?:[$€£] ?(?P<inner>[-+\N{MINUS SIGN}])?)?"
    r"(?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)?(?P<decimals>\.[0-9]+)?"
)
_MARK = "####"
#: Where answers in plain language mark their number.
_LENIENT_MARKS = (
    r"\\boxed\s*\{([^{}]*)\}",
    r"\banswer\s*(?:is|:|=)((?:[^.\n]|\.(?=[0-9]))*)",  # to the end of the sentence
)
#: No answer of the data is longer; a model may write digits without end.
_MOST_DIGITS = 64


def numbers_in(text: str) -> list[Decimal]:
    """Every number of the text, in order: commas, currency and a trailing period do not count.

    "$1,234.50." gives 1234.50 and "-$5" gives -5; a hyphen between a word or digit and a digit
    ("3-4") is no sign.
    """
    found = []
    for match in _NUMBER.finditer(text):
        digits, decimals = match["digits"] or "", match["decimals"] or ""
        if not (digits or decimals) or len(digits) + len(decimals) > _MOST_DIGITS:
            continue
        sign = match["sign"]
        before = text[match.start() - 1 : match.start()]
        if sign and before and (before.isalnum() or before == ")"):
            sign = None
        minus = (sign or match["inner"] or "+") != "+"
        value = Decimal(digits.replace(",", "") + decimals)
        found.append(-value if minus else value)
    return found


def strict_number(text: str) -> Decimal | None:
    """The number of a last line that is `#### number` and nothing else."""
    last = text.rstrip().rsplit("\n", 1)[-1].strip()
    if not last.startswith(_MARK):
        return None
    written = last.removeprefix(_MARK).strip().removesuffix(".")
    found = numbers_in(written) if _NUMBER.fullmatch(written) else []
    return found[0] if found else None


def lenient_number(text: str) -> Decimal | None:
    r"""The first number behind the last `####`; else the last one in the last `\boxed{}`, in what
    follows the last "answer is", or in the text.
    """
    if _MARK in text:
        found = numbers_in(text.rsplit(_MARK, 1)[1])
        return found[0] if found else None
    for mark in _LENIENT_MARKS:
        marked = re.findall(mark, text, flags=re.IGNORECASE)
        if marked and (found := numbers_in(marked[-1])):
            return found[-1]
    found = numbers_in(text)
    return found[-1] if found else None


class Gsm8k(Task):
    """Questions with worked answers.

    `lenient_match`: the final number is right wherever the answer marks it, stopped or not.
    `strict_match`: the answer ends with the line `#### number`, and the
    model stopped. Numbers are compared as decimals, so 18, 18.0 and $18. are one. A row whose
    right answer ends in no number is not judged.

    Source: Cobbe et al. 2021, arXiv 2110.14168.
    """

    card = GSM8K
    scores = ("strict_match", "lenient_match")

    def paths(self, split: str) -> tuple[str, ...]:
        """One file a split."""
        return (f"gsm8k/{split}.jsonl",)

    def read(self, folder: Path, split: str) -> list[dict[str, Any]]:
        """Question and worked answer."""
        rows = read_json_lines(folder / self.paths(split)[0], ("question", "answer"))
        return [chat_row(SYSTEM, row["question"], row["answer"]) for _, row in rows]

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Strict and lenient comparison of the final numbers."""
        return [_judge(answer) for answer in answers]


def _judge(answer: Answer) -> Scores:
    gold = strict_number(answer.gold)
    if gold is None:
        return {"strict_match": None, "lenient_match": None}
    return {
        "strict_match": answer.stopped and strict_number(answer.prediction) == gold,
        "lenient_match": lenient_number(answer.prediction) == gold,
    }
