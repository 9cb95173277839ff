"""The rows of a run: a task's or one's own, without what the splits share, in nested fractions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from semtube.config import RunConfig
from semtube.data.examples import Example, examples_from_rows, read_examples
from semtube.data.fetching import locate
from semtube.data.fractions import Overlap, fingerprint, nested_fraction, num_duplicates, overlap
from semtube.data.near_duplicates import NearOverlap, count_near
from semtube.data.splitting import carve, drop_overlapping
from semtube.errors import UserError
from semtube.tasks.catalogue import build_scorer
from semtube.tasks.task import Scorer, Task


@dataclass(frozen=True)
class RunData:
    """A run's three splits, what was taken out of the training rows, and what judges.

    Args:
        train: all training rows that may be used.
        chosen: those of the run's fraction.
        num_dropped: training rows left out because they stand in validation or test.
        overlaps, near: what every split shares with those before it, as it stands and nearly.
        fingerprints: of the chosen rows, validation and test.
    """

    train: list[Example]
    chosen: list[Example]
    validation: list[Example]
    test: list[Example]
    scorer: Scorer
    num_dropped: int
    overlaps: list[Overlap]
    near: list[NearOverlap]
    fingerprints: dict[str, str]


def read_rows(scorer: Scorer, where: str, folder: str | None) -> list[Example]:
    """Rows of one split.

    Args:
        where: a split of the scorer's task, or a JSONL file for rows of one's own.
        folder: the data folder of a task, or the hub's data set that holds its files.

    Raises:
        UserError: no such split or file, or bad rows.
    """
    if isinstance(scorer, Task):
        card = scorer.card
        if where not in card.splits:
            known = ", ".join(card.splits)
            raise UserError(f"task {card.name!r} has no split {where!r}: use one of {known}")
        if folder is not None and folder.startswith("hf://"):
            place = locate(scorer.files(where), mirror=folder)
        else:
            place = locate(scorer.files(where), Path(folder) if folder else None)
        rows = scorer.read(place, where)
        return examples_from_rows(rows, f"{card.name}/{where}")
    if folder is not None:
        raise UserError("data_folder is for tasks that have data of their own: leave it unset")
    return read_examples(where)


def check_rows(scorer: Scorer, examples: Sequence[Example]) -> None:
    """Make sure that every row can be judged, before anything is trained or decoded.

    Raises:
        UserError: one cannot; it is named.
    """
    for example in examples:
        try:
            scorer.check(example.answer, example.fields)
        except UserError as error:
            raise UserError(f"{example.source}: {error}") from None


@dataclass(frozen=True)
class Pool:
    """The rows of all runs that differ in fraction and seed only."""

    train: list[Example]
    validation: list[Example]
    test: list[Example]
    scorer: Scorer
    num_dropped: int

    def chosen(self, fraction: float, seed: int) -> list[Example]:
        """Training rows of a fraction, nested in those of larger ones."""
        return nested_fraction(self.train, fraction, seed)

    def fingerprints(self, chosen: list[Example]) -> dict[str, str]:
        """Of the chosen rows, validation, test, and what else the task judges by."""
        parts = {"train": chosen, "validation": self.validation, "test": self.test}
        prints = {name: fingerprint(part) for name, part in parts.items() if part}
        of_task = self.scorer.fingerprint()
        return prints | ({"task": of_task} if of_task else {})


def read_pool(config: RunConfig) -> Pool:
    """The rows that a run's fraction is taken from, and those it is judged on.

    Raises:
        UserError: bad data or settings.
    """
    scorer = build_scorer(config.task, config.task_options)
    if config.data is None and not isinstance(scorer, Task):
        raise UserError(f"data is unset: task {config.task!r} needs a JSONL file of training rows")

    def rows_of(where: str | None) -> list[Example]:
        return read_rows(scorer, where, config.data_folder) if where else []

    train = rows_of(config.data or "train")
    validation, test = rows_of(config.validation), rows_of(config.test)
    check_rows(scorer, test)
    if config.validation_rows:
        train, validation = carve(train, config.validation_rows)
    num_dropped = 0
    if config.drop_overlap is not None:
        train, num_dropped = drop_overlapping(train, validation + test, config.drop_overlap)
    return Pool(train, validation, test, scorer, num_dropped)


def read_splits(config: RunConfig) -> RunData:
    """The splits of a run, with what they share.

    Raises:
        UserError: bad data or settings.
    """
    pool = read_pool(config)
    chosen = pool.chosen(config.fraction, config.seed)
    parts = {"train": chosen, "validation": pool.validation, "test": pool.test}
    present = [(name, part) for name, part in parts.items() if part]
    pairs = [
        (name, part, other, others)
        for place, (name, part) in enumerate(present)
        for other, others in present[:place]
    ]
    return RunData(
        pool.train,
        chosen,
        pool.validation,
        pool.test,
        pool.scorer,
        pool.num_dropped,
        overlaps=[overlap(*pair) for pair in pairs],
        near=[count_near(*pair) for pair in pairs],
        fingerprints=pool.fingerprints(chosen),
    )


def report_splits(data: RunData, say: Callable[[str], None]) -> None:
    """Sizes, duplicates, what was dropped, and what the splits share."""
    if data.num_dropped:
        say(f"{data.num_dropped:,} training rows stand in validation or test and are left out")
    say(
        f"{len(data.chosen):,} of {len(data.train):,} training rows, "
        f"fingerprint {data.fingerprints['train'][:12]}; "
        f"{num_duplicates(data.chosen):,} repeat an earlier row"
    )
    for shared in (*data.overlaps, *data.near):
        say(shared.sentence())
