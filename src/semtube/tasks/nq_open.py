"""NQ-Open: short answers to questions people asked a search engine."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semtube.errors import UserError
from semtube.tasks.cards import NQ_OPEN
from semtube.tasks.json_lines import chat_row, last_text, read_json_lines
from semtube.tasks.task import Answer, Scores, Task

SYSTEM = "Answer the question below."
_BETWEEN = "; "
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and extra white space (SQuAD's normal form)."""
    text = unicodedata.normalize("NFD", text).lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def is_answer(prediction: str, golds: Sequence[str]) -> bool:
    """Whether the prediction's normal form is that of a right answer; an empty one never is.

    A right answer that is nothing but articles and punctuation ("The The") is compared as it
    stands, without its surrounding space.
    """
    found = normalized(prediction)
    return any(
        found == form if (form := normalized(gold)) else prediction.strip() == gold.strip() != ""
        for gold in golds
    )


def are_answers(prediction: str, golds: Sequence[str]) -> bool:
    """Whether the prediction, or else every part of it between "; ", is a right answer."""
    return is_answer(prediction, golds) or all(
        is_answer(part, golds) for part in prediction.split(_BETWEEN)
    )


class NqOpen(Task):
    """Questions with one or several right answers.

    `answer_match`: the prediction is a right answer, by normal form, and stopped. Rows with several
    right answers are trained with all of them, joined by "; ": so a prediction with "; " in it is
    right if every part is, and a list of guesses is not.

    Source: Lee et al. 2019, arXiv 1906.00300; its normal form is SQuAD's.
    """

    card = NQ_OPEN
    scores = ("answer_match",)

    def paths(self, split: str) -> tuple[str, ...]:
        """One file a split."""
        return (
            "nq_open/NQ-open.dev.jsonl" if split == "dev" else f"nq_open/nq_open_{split}.jsonl",
        )

    def read(self, folder: Path, split: str) -> list[dict[str, Any]]:
        """Question, and the right answers joined by "; "; they stand apart under `answers`."""
        path = folder / self.paths(split)[0]
        if split == "dev":
            rows = list(read_json_lines(path, ("question", "answer")))
            for place, row in rows:
                _check_answers(row["answer"], place)
            return [
                chat_row(SYSTEM, r["question"], _BETWEEN.join(r["answer"]), answers=r["answer"])
                for _, r in rows
            ]
        return [
            row | {"answers": last_text(row, place).split(_BETWEEN)}
            for place, row in read_json_lines(path, ("messages",))
        ]

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """The prediction, or all of its parts, against every right answer."""
        return [
            {"answer_match": a.stopped and are_answers(a.prediction, a.fields["answers"])}
            for a in answers
        ]


def _check_answers(answers: Any, place: str) -> None:
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) for a in answers):
        raise UserError(f"{place}: 'answer' must be a list of texts that is not empty")
