"""A study on a disk that fills up and by a clock that jumps finds the numbers of a quiet one."""

import contextlib
import errno
import io
import json
import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from small_study import STUDY, InThisProcess, changed
from transformers import modeling_utils
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from semtube.cli.study_display import StudyProgress
from semtube.config import RunConfig
from semtube.data import regex_grammar
from semtube.run_folder import WriteError, read_json
from semtube.study.design import Tuning
from semtube.study.failures import FULL_BELOW
from semtube.study.job import Outcome
from semtube.study.run import Interrupted, RunListener, execute
from semtube.study.runner import StudyFolder, StudyListener, run_study
from semtube.study.store import Store

#: Two runs, which are tuning and final runs at once: every kind of file is written.
TINY = changed(
    base={**STUDY.base, "steps": 4, "max_new_tokens": 4},
    axes={"seed": [1]},
    deciding={"arm": "tube"},
    tuning=Tuning(grids={"ntp": {"learning_rate": [2e-3]}, "tube": {"weight": [0.08]}}),
    generated=60,
)


def do_study(path: Path) -> list[tuple[str, str | None]]:
    """How its runs ended."""
    ended: list[tuple[str, str | None]] = []
    listener = StudyListener(on_end=lambda run, found: ended.append((found.status, found.error)))
    run_study(TINY, StudyFolder(path), InThisProcess(), listener=listener)
    return ended


def numbers(folder: Path) -> dict[str, Any]:
    """All that a study found, without durations, dates and places."""
    found: dict[str, Any] = {"chosen": read_json(folder / "chosen.json")}
    for run in read_json(folder / "plan.json")["runs"]:
        place = folder / "runs" / run["run"]
        result = read_json(place / "result.json")
        assert result.pop("training_seconds") >= 0
        weights = load_file(place / "model" / "model.safetensors")
        lines = (place / "metrics.jsonl").read_text().splitlines()
        found[run["run"]] = (
            result,
            [json.loads(line) for line in lines],
            {name: weight.tolist() for name, weight in weights.items()},
        )
        for split in run["read"]:
            reading = place / "readings" / split
            found[f"{run['run']} {split}"] = (
                (reading / "examples.jsonl").read_text(),
                read_json(reading / "metrics.json"),
            )
    return found


@pytest.fixture(scope="module", autouse=True)
def few_draws() -> Iterator[None]:
    """The generator draws for many seconds even where few rows are asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regex_grammar, "PASSES", ((1, 4, 1_000), (2, 5, 1_000)))
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("undisturbed") / "s"
    assert {status for status, _ in do_study(path)} == {"done"}
    return numbers(path)


class Disk:
    """A disk below a folder that is full from some write on: the kernel then refuses every byte.

    A write is named by its path, without the process id. It fills up at the first write that has
    not been met before and is named so.
    """

    def __init__(self, folder: Path, named: str, patch: pytest.MonkeyPatch) -> None:
        self.met: set[str] = set()
        self._named = re.compile(named)
        self.is_full = False
        self._folder = str(folder)
        self._is_watching = False
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        sys.addaudithook(self._on_event)  # for the life of the process
        # Libraries in Rust and C++ open files unseen.
        for owner, name in (
            (modeling_utils, "safe_save_file"), (torch, "save"),
            (TokenizersBackend, "_save_pretrained"),
        ):  # fmt: skip
            patch.setattr(owner, name, self._seen(getattr(owner, name)))
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=self._free()))

    @contextlib.contextmanager
    def filling_up(self) -> Iterator[None]:
        """Until the block ends, which makes room again."""
        self._is_watching, self.is_full = True, False
        try:
            yield
        finally:
            self._is_watching = False
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def _free(self) -> int:
        return FULL_BELOW - 1 if self.is_full else 10**12

    def _seen(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*arguments: Any, **options: Any) -> Any:
            self._meet(write.__name__, str([*arguments, *options.values()][1]))
            return write(*arguments, **options)

        return seen

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_watching or event not in ("open", "os.mkdir", "os.rename"):
            return
        path = arguments[1 if event == "os.rename" else 0]
        if isinstance(path, int):  # an open file's number
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if self._meet(event, os.fsdecode(path)) and event != "open":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _meet(self, what: str, path: str) -> bool:
        """Whether this write fills the disk."""
        name = f"{what} {path.removeprefix(self._folder).replace(str(os.getpid()), 'PID')}"
        if not self._is_watching or self._folder not in path or self.is_full or name in self.met:
            return False
        if not self._named.search(name):
            return False
        self.met.add(name)
        self.is_full = True
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._limits[1]))
        return True


def assert_nothing_half_written(folder: Path) -> None:
    assert [*folder.rglob("*.part")] == []
    for path in folder.rglob("*.json"):
        if "checkpoints" not in path.parts:  # half-written ones are known and removed
            read_json(path)
    for path in folder.rglob("*examples.jsonl"):
        assert all(json.loads(line) for line in path.read_text().splitlines())


def stops_of(disk: Disk, folder: Path) -> int:
    """Start the study until it is done; how often the disk stopped it."""
    num_stops = 0
    while True:
        with disk.filling_up():
            try:
                ended = do_study(folder)
            except WriteError as error:
                told = str(error)
            else:
                break
        num_stops += 1
        assert str(folder) in told
        assert "cannot be written (" in told
        assert "\n" not in told
        assert_nothing_half_written(folder)
    assert {*ended} == {("done", None)}
    return num_stops


def test_a_full_disk_stops_the_study_and_loses_nothing(
    undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = r"open .*/\.(plan|result|metrics)\.json\.|^save .*checkpoint-2/optimizer"
    disk = Disk(tmp_path, named, monkeypatch)
    assert stops_of(disk, tmp_path / "s") == len(disk.met) == 1 + 2 + 4 + 2
    assert numbers(tmp_path / "s") == undisturbed


@pytest.mark.slow
def test_a_disk_that_fills_up_at_any_write_stops_the_study_and_loses_nothing(
    undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path, "", monkeypatch)
    num_stops = stops_of(disk, tmp_path / "s")
    # Where only an empty file was to be made, as a lock's, a full disk stops at the next write.
    assert num_stops >= len(disk.met) - 4
    assert {name.split()[0] for name in disk.met} == {
        "open", "os.mkdir", "os.rename", "save", "save_file", "_save_pretrained",
    }  # fmt: skip
    assert numbers(tmp_path / "s") == undisturbed


class WildClock:
    """A wall clock that is set back and ahead by years between any two looks at it."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return 1.8e9 + 1e8 * (-1) ** self.looks * (self.looks % 7)


def test_a_clock_that_jumps_changes_no_number(
    undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = WildClock()
    monkeypatch.setattr(time, "time", clock)
    assert {*do_study(tmp_path / "s")} == {("done", None)}
    assert clock.looks > 0
    assert numbers(tmp_path / "s") == undisturbed


def test_the_newest_checkpoint_is_kept_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each checkpoint is written an hour before the one before it."""
    config = replace(
        RunConfig.from_dict({**TINY.base, "data": "", "output": str(tmp_path / "run")}),
        data=str(rows_of(tmp_path)), steps=8, validation_rows=0, objective="ntp",
    )  # fmt: skip
    dated = os.path.getmtime

    def set_back(path: Any) -> float:
        when = dated(path)
        return when if when < 1e6 else 2e9 - 3600 * int(str(path).rpartition("-")[2])

    def interrupt(line: dict[str, Any]) -> None:
        kept = [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()]
        assert kept in ([], [f"checkpoint-{(line['step'] - 1) // 2 * 2}"])
        if line["step"] == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(os.path, "getmtime", set_back)
    with pytest.raises(Interrupted):
        execute(config, listener=RunListener(on_step=interrupt))
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["checkpoint-6"]


def rows_of(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    rows = [{"prompt": f"say {k}", "completion": f"{k}{k}"} for k in range(16)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_time_left_is_told_by_a_clock_that_nobody_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = StudyProgress(Console(file=io.StringIO()))
    runs = [SimpleNamespace(run=name, read=("test",)) for name in "abc"]
    for run in runs:
        run.phase, run.arm, run.point, run.tried = "final", "ntp", {}, {}
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "time", WildClock())
    listener = progress.listener()
    listener.on_phase("final", runs, set(), Store(tmp_path))
    now = 160.0
    listener.on_end(runs[0], Outcome("done"))
    assert "1 of 3 runs, 0 failed, about 0:02:00 left" in progress.summary()


@pytest.mark.parametrize("when", [0, 4e9], ids=["1970", "2096"])
def test_a_lock_is_held_whatever_its_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: float
) -> None:
    store = Store(tmp_path)
    store.open()
    with store.hold("a") as is_held:
        assert is_held
        os.utime(tmp_path / ".locks" / "a.lock", (when, when))
        monkeypatch.setattr(time, "time", WildClock())
        with store.hold("a") as is_held_again:
            assert not is_held_again
    with store.hold("a") as is_held:
        assert is_held
