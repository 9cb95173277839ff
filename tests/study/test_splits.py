"""Where a run's rows come from, and what is kept apart."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from semtube.config import RunConfig
from semtube.errors import UserError
from semtube.study.splits import read_splits, report_splits


def write(path: Path, pairs: list[tuple[str, str]]) -> str:
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in pairs]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    train = write(
        tmp_path / "train.jsonl", [(f"question number {i}", f"answer {i % 7}") for i in range(40)]
    )
    test = write(
        tmp_path / "test.jsonl",
        [("question number 3", "answer 3"), ("question number 4", "another"), ("new", "answer 6")],
    )
    return RunConfig(output=str(tmp_path / "run"), data=train, test=test)


def test_own_rows_are_read_and_their_overlap_counted(config: RunConfig) -> None:
    data = read_splits(config)
    assert (len(data.train), len(data.chosen), len(data.test)) == (40, 40, 3)
    (shared,) = data.overlaps
    assert (shared.same_row, shared.same_question, shared.same_answer) == (1, 2, 2)
    said: list[str] = []
    report_splits(data, said.append)
    assert any("1 stand in train too" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("how", "num_left"), [(None, 40), ("row", 39), ("question", 38), ("answer", 29)]
)
def test_rows_that_stand_in_test_are_dropped(config: RunConfig, how: str, num_left: int) -> None:
    data = read_splits(replace(config, drop_overlap=how))  # type: ignore[arg-type]
    assert len(data.train) == num_left
    assert data.num_dropped == 40 - num_left
    assert len(data.test) == 3


def test_carved_validation_rows_are_the_same_for_every_seed(config: RunConfig) -> None:
    parts = [
        read_splits(replace(config, validation_rows=8, seed=seed, fraction=0.5)) for seed in (1, 2)
    ]
    first, second = ({example.digest() for example in part.validation} for part in parts)
    assert first == second
    assert len(first) == 8
    for part in parts:
        assert len(part.train) == 32
        assert not first & {example.digest() for example in part.train}
    assert parts[0].chosen != parts[1].chosen


def test_a_task_brings_its_rows(config: RunConfig, shared: Path) -> None:
    config = RunConfig(
        output=config.output, task="gsm8k", data_folder=str(shared / "data"), test="test"
    )
    data = read_splits(config)
    assert (len(data.train), len(data.test)) == (7473, 1319)
    assert data.train[0].source == "gsm8k/train:1"


def test_mistakes_are_named(config: RunConfig, shared: Path) -> None:
    task = replace(config, task="gsm8k", data=None, test=None, data_folder=str(shared / "data"))
    for changed, sentence in (
        (replace(config, data=None), "task 'exact' needs a JSONL file of training rows"),
        (replace(config, data_folder="somewhere"), "data_folder is for tasks that have data"),
        (replace(task, data="dev"), "task 'gsm8k' has no split 'dev': use one of train, test"),
        (replace(config, task="gsm"), "no task 'gsm': did you mean 'gsm8k'?"),
    ):
        with pytest.raises(UserError) as error:
            read_splits(changed)
        assert sentence in str(error.value)
