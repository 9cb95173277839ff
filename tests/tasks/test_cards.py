"""The cards against the real files: sizes, checksums, rows and leaks are measured again."""

import bz2
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from semtube.data.data_files import verify
from semtube.data.examples import Example, examples_from_rows
from semtube.data.fractions import num_duplicates, overlap
from semtube.data.near_duplicates import count_near
from semtube.tasks.cards import GSM8K, HELLASWAG, NL_RX_SYNTH, NL_RX_TURK, NQ_OPEN
from semtube.tasks.catalogue import TASKS

CARDS = (NL_RX_SYNTH, NL_RX_TURK, GSM8K, NQ_OPEN, HELLASWAG)
by_name = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


@by_name
def test_the_files_are_those_of_the_card(card, shared: Path):
    assert verify(card.files, shared / "data") == []


@by_name
def test_every_file_has_a_source_at_a_fixed_commit(card):
    for file in card.files:
        assert re.fullmatch(
            r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/([0-9a-f]{40}|6d7d0d1)/[\w./-]+",
            file.url or "",
        )
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert len({file.url for file in card.files}) == len(card.files)
    assert TASKS[card.name].card is card


@pytest.fixture(scope="module")
def splits(shared: Path):
    """Task name -> split -> rows, read once."""
    read: dict[str, dict[str, list[Example]]] = defaultdict(dict)
    for card in CARDS:
        for split in card.splits:
            rows = TASKS[card.name]().read(shared / "data", split)
            read[card.name][split] = examples_from_rows(rows, split)
    return read


@by_name
def test_the_splits_have_their_rows(card, splits):
    assert {name: len(rows) for name, rows in splits[card.name].items()} == card.splits


@by_name
def test_repeated_and_shared_rows_are_those_of_the_card(card, splits):
    parts = splits[card.name]
    said = []
    for name, rows in parts.items():
        if count := num_duplicates(rows):
            said.append(f"{count:,} of {len(rows):,} {name} rows repeat an earlier one")
        if name != "train":
            said.append(overlap(name, rows, "train", parts["train"]).sentence())
    assert [sentence for sentence in said if sentence not in card.leaks] == []


@by_name
@pytest.mark.slow
def test_near_duplicates_are_those_of_the_card(card, splits):
    parts = splits[card.name]
    for name in set(parts) - {"train"}:
        assert count_near(name, parts[name], "train", parts["train"]).sentence() in card.leaks


def test_the_other_leaks_of_nl_rx(splits):
    synth, turk = splits["nl-rx-synth"], splits["nl-rx-turk"]
    for part in ("train", "test"):
        regexes = [[example.answer for example in rows[part]] for rows in (synth, turk)]
        assert regexes[0] == regexes[1]
    asked = defaultdict(set)
    for example in turk["train"]:
        asked[example.question].add(example.answer)
    other = sum(
        example.question in asked and example.answer not in asked[example.question]
        for example in turk["test"]
    )
    assert says(NL_RX_TURK, f"{other} test questions stand in train with another regex")
    twice, once = {}, {}
    for part, rows in synth.items():
        twice[part] = sum(example.answer.endswith(".*.*") for example in rows)
        once[part] = sum(example.answer.endswith(".*") for example in rows) - twice[part]
    assert says(
        NL_RX_SYNTH,
        f"{twice['test']} test answers end in .*.* ({twice['train']} in train), "
        f"{once['test']} others in .* ({once['train']:,})",
    )


def test_the_other_faults_of_nq_open(splits):
    train, test = (
        sum("; " in example.answer for example in splits["nq-open"][name])
        for name in ("train", "test")
    )
    assert says(NQ_OPEN, f"{train} train and {test} test answers are several right ones")


def test_the_rows_of_hellaswag_that_are_in_no_split(splits, shared: Path):
    path = shared / "data" / "hellaswag" / "hellaswag_val_full.txt.bz2"
    everything = bz2.decompress(path.read_bytes()).decode().rstrip("\n").split("\n")
    num_rows, rest = divmod(len(everything), 6)
    assert rest == 0
    left_out = num_rows - sum(len(rows) for rows in splits["hellaswag"].values())
    assert says(HELLASWAG, f"both splits are of the validation set's {num_rows:,} rows")
    assert says(HELLASWAG, f"{left_out} rows that share a context with a test row")
    contexts = Counter(line.split(": ", 1)[1] for line in everything[::6])
    test = [example.fields["context"] for example in splits["hellaswag"]["test"]]
    in_both = sum(context in contexts for context in test)
    assert in_both >= 1990  # the others differ in punctuation
    assert sum(contexts[context] for context in set(test)) - in_both == left_out


def says(card, beginning: str) -> bool:
    return any(leak.startswith(beginning) for leak in card.leaks)
