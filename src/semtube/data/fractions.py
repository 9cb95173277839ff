"""Nested training fractions, their fingerprint, and what the splits share.

Every smaller fraction is contained in every larger one of the same seed, so a learning curve
compares more data with less data and not one sample with another.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from semtube.data.examples import Example
from semtube.errors import UserError
from semtube.seeding import stream_seed


def nested_fraction(examples: Sequence[Example], fraction: float, seed: int) -> list[Example]:
    """The first round(fraction * n) rows (at least one) of a seeded order of all rows.

    Raises:
        UserError: the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise UserError(f"fraction is {fraction}: it must be above 0 and at most 1")
    order = list(range(len(examples)))
    random.Random(stream_seed(seed, "fraction")).shuffle(order)
    return [examples[i] for i in order[: max(1, round(fraction * len(examples)))]]


def fingerprint(examples: Sequence[Example]) -> str:
    """sha256 over the rows in their order: two runs with one fingerprint saw one set.

    Of every row its digest, and the keys beside its texts, by which it may be judged.
    """
    whole = hashlib.sha256()
    for example in examples:
        whole.update(bytes.fromhex(example.digest()))
        if example.fields:
            whole.update(json.dumps(example.fields, sort_keys=True).encode())
    return whole.hexdigest()


@dataclass(frozen=True)
class Overlap:
    """How many rows of one split stand in another, by whole row, by question and by answer."""

    name: str
    other: str
    num_rows: int
    same_row: int
    same_question: int
    same_answer: int

    def sentence(self) -> str:
        """One line for the log."""
        return (
            f"{self.num_rows:,} {self.name} rows: {self.same_row:,} stand in {self.other} too; "
            f"{self.same_question:,} share a question and {self.same_answer:,} an answer with it"
        )


def overlap(
    name: str, examples: Sequence[Example], other: str, others: Sequence[Example]
) -> Overlap:
    """Count the rows of `examples` found in `others`; rows without a question share none."""
    rows = {example.digest() for example in others}
    questions = {example.question for example in others if example.question}
    answers = {example.answer for example in others}
    return Overlap(
        name,
        other,
        num_rows=len(examples),
        same_row=sum(example.digest() in rows for example in examples),
        same_question=sum(example.question in questions for example in examples),
        same_answer=sum(example.answer in answers for example in examples),
    )


def num_duplicates(examples: Sequence[Example]) -> int:
    """Rows that repeat an earlier row of the same split."""
    return len(examples) - len({example.digest() for example in examples})
