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
from semtube.tasks.json_lines import chat_row, read_json_lines
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


class NqOpen(Task):
    """Questions with one or several right answers.

    `answer_match`: the whole prediction is a right answer, by normal form. `part_match`: one of
    its parts between "; " is, since training answers with several parts are written so.

    Source: Lee et al. 2019, arXiv 1906.00300; its normal form is SQuAD's.
    """

    card = NQ_OPEN
    scores = ("answer_match", "part_match")

    def read(self, folder: Path, split: str) -> list[dict[str, Any]]:
        """Question, and the right answers joined by "; "; they stand apart under `answers`."""
        if split == "dev":
            path = folder / "nq_open" / "NQ-open.dev.jsonl"
            rows = list(read_json_lines(path, ("question", "answer")))
            for place, row in rows:
                _check_answers(row["answer"], place)
            return [
                chat_row(SYSTEM, r["question"], _BETWEEN.join(r["answer"]), answers=r["answer"])
                for _, r in rows
            ]
        path = folder / "nq_open" / f"nq_open_{split}.jsonl"
        return [
            row | {"answers": row["messages"][-1]["content"].split(_BETWEEN)}
            for _, row in read_json_lines(path, ("messages",))
        ]

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Whole prediction, and its best part, against every right answer."""
        return [
            {
                "answer_match": a.stopped and is_answer(a.prediction, a.fields["answers"]),
                "part_match": a.stopped
                and any(
                    is_answer(part, a.fields["answers"]) for part in a.prediction.split(_BETWEEN)
                ),
            }
            for a in answers
        ]


def _check_answers(answers: Any, place: str) -> None:
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) for a in answers):
        raise UserError(f"{place}: 'answer' must be a list of texts that is not empty")
