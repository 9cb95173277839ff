"""A task: how a row is put to a model, what counts as right, and the card of its data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

#: Verdicts of one answer: right, wrong, or (None) not to be judged, which is counted apart.
Scores = dict[str, bool | None]


@dataclass(frozen=True)
class DataFile:
    """One file of a task's data.

    Args:
        path: where it lies under the data folder, `gsm8k/test.jsonl`.
        sha256: of its bytes.
        num_bytes: its size.
        url: the original source at a fixed commit; None where the source offers no such file, so
            that only a folder or a mirror can give it.
    """

    path: str
    sha256: str
    num_bytes: int
    url: str | None


@dataclass(frozen=True)
class Card:
    """Where a task's data come from and what one must know to trust a number on them.

    Args:
        name: of the task, as on the command line.
        title: one line.
        source: who made it, and in whose form it is read.
        licence: of the data.
        metric: what the field reports.
        files: everything that is read.
        splits: name -> number of rows.
        leaks: what the splits share and other faults, measured, a sentence each.
    """

    name: str
    title: str
    source: str
    licence: str
    metric: str
    files: tuple[DataFile, ...]
    splits: Mapping[str, int]
    leaks: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """What a model wrote for one row, and what it should have written.

    Args:
        prediction: without the stop token.
        stopped: it ended by itself within the limit.
        gold: text of the right answer.
        fields: the row's keys beside its texts, such as a list of right answers.
    """

    prediction: str
    stopped: bool
    gold: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Contrast:
    """A choice between texts, made by their likelihood.

    Args:
        options: what may follow, in order.
        right: index of the right one.
        prompt: plain text before them; None for the row's own prompt, template included.
        is_whole: the model must also stop behind the option, as behind the row's answer; else an
            option that another begins with always wins against it. For the row's own prompt only.
        per_character: compare log-probability / number of characters, without the space before the
            option, instead of log-probability.
    """

    options: tuple[str, ...]
    right: int
    prompt: str | None = None
    is_whole: bool = False
    per_character: bool = False


class Scorer(ABC):
    """What counts as right.

    `scores` names what `judge` and `contrasts` give, the field's standard metric first.
    """

    scores: ClassVar[tuple[str, ...]]

    @abstractmethod
    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """A verdict on every answer, in their order.

        None says that the row cannot be judged, whatever was written: its right answer is at fault.
        """

    def check(self, gold: str, fields: Mapping[str, Any]) -> None:
        """Make sure that a row can be judged, before anything is trained or decoded.

        Raises:
            UserError: it lacks what is needed.
        """
        self.contrasts(gold, fields)

    def contrasts(self, gold: str, fields: Mapping[str, Any]) -> dict[str, Contrast]:
        """Choices of a row that are made by likelihood, by the name of their score."""
        return {}

    def group(self, gold: str, fields: Mapping[str, Any]) -> str | None:
        """The group of rows for which rates are also given apart; None for no groups."""
        return None

    def reasons(self) -> list[str]:
        """What a person should know of the verdicts so far, a sentence each."""
        return []

    def fingerprint(self) -> str | None:
        """Of data outside the rows that verdicts depend on; None where there are none."""
        return None


class Task(Scorer):
    """A scorer with data of its own, which `card` describes."""

    card: ClassVar[Card]

    def files(self, split: str) -> tuple[DataFile, ...]:
        """The files of the card that a split is read from: those that `paths` names."""
        return tuple(file for file in self.card.files if file.path in self.paths(split))

    @abstractmethod
    def paths(self, split: str) -> tuple[str, ...]:
        """Where the files of a split lie under the data folder."""

    @abstractmethod
    def read(self, folder: Path, split: str) -> list[dict[str, Any]]:
        """The rows of a split in their prompt form.

        Args:
            folder: the data folder, under which the card's files lie.
            split: one of the card's.

        Returns:
            Chat rows as `semtube.data.examples` reads them: `messages`, and beside them the keys
            that `judge` and `contrasts` need.

        Raises:
            UserError: a file is missing or a row damaged; file and line are named.
        """
