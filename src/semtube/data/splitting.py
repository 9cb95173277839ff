"""Honest splits: train rows that stand in another split dropped, a validation part carved off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from semtube.data.examples import Example
from semtube.data.near_duplicates import near_overlap
from semtube.errors import UserError

#: What makes a train row overlap: the whole row, its question, its answer, or near-duplication.
OverlapKind = Literal["row", "question", "answer", "near"]


def drop_overlapping(
    train: Sequence[Example], others: Sequence[Example], how: OverlapKind
) -> tuple[list[Example], int]:
    """The train rows that do not stand in `others`, in their order, and how many were dropped.

    `row`, `question` and `answer` are those that `semtube.data.fractions.overlap` counts; `near`
    is that of `semtube.data.near_duplicates`, which includes equal rows.

    Raises:
        UserError: no train row is left.
    """
    if how == "near":
        dropped = {pair.row for pair in near_overlap(train, others)}
    else:
        known = {_identity(example, how) for example in others} - {()}
        dropped = {i for i, example in enumerate(train) if _identity(example, how) in known}
    kept = [example for i, example in enumerate(train) if i not in dropped]
    if train and not kept:
        raise UserError(
            f"all {len(train):,} train rows overlap with the others by {how!r}: none is left"
        )
    return kept, len(dropped)


def _identity(example: Example, how: OverlapKind) -> object:
    if how == "question":
        return example.question
    return example.answer if how == "answer" else example.digest()


def carve(train: Sequence[Example], num_rows: int) -> tuple[list[Example], list[Example]]:
    """Train without a validation part, and that part, each in the order of `train`.

    Rows enter the part in the order of their digests, so neither seed nor order of the file decides
    which. Equal rows go together; those that would make the part too large stay in train, so it
    may fall short of `num_rows` where there is nothing but repeated rows.

    Raises:
        UserError: `num_rows` is not from 1 to one less than there are rows, or no row fits.
    """
    if not 1 <= num_rows < len(train):
        raise UserError(
            f"the validation part cannot have {num_rows:,} rows: train has {len(train):,}, and "
            "each must have one at least"
        )
    places: dict[str, list[int]] = defaultdict(list)
    for i, example in enumerate(train):
        places[example.digest()].append(i)
    chosen: set[int] = set()
    for digest in sorted(places):
        if len(chosen) + len(places[digest]) <= num_rows:
            chosen.update(places[digest])
        if len(chosen) == num_rows:
            break
    if not chosen:
        raise UserError(
            f"a validation part of {num_rows:,} rows cannot be carved: every row is repeated more "
            "often than that"
        )
    kept = [example for i, example in enumerate(train) if i not in chosen]
    return kept, [example for i, example in enumerate(train) if i in chosen]
