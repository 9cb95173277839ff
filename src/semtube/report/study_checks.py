"""Whether the arms of a study were treated alike, told from what its runs have stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from semtube.report.study_cells import place_name
from semtube.report.study_changes import changes
from semtube.report.study_data import RunRecord, StudyData
from semtube.report.study_run_tables import state_of

State = Literal["held", "broken", "told"]
_WORDS = {"held": "Held.", "broken": "Not held.", "told": "Note."}


@dataclass(frozen=True)
class Check:
    """One condition of a fair comparison; `told` is a fact that no stored file proves."""

    state: State
    sentence: str

    @property
    def state_word(self) -> str:
        """The state in a word, for those who see no colour."""
        return _WORDS[self.state]


def fairness(data: StudyData) -> list[Check]:
    """What was fixed first, what both arms share, and how often which rows were looked at."""
    same: list[tuple[str, Callable[[RunRecord], Any]]] = [
        ("training rows (by fingerprint)", lambda r: r.result.get("fingerprints", {}).get("train")),
        ("test rows (by fingerprint)", lambda r: r.result.get("fingerprints", {}).get("test")),
        ("number of optimizer steps", lambda r: r.result.get("num_steps")),
        ("batch size", lambda r: r.config.get("batch_size")),
        ("training of stop tokens", lambda r: r.config.get("train_stop")),
        ("part of every row that is trained on", lambda r: r.config.get("labels")),
    ]
    checks = [_same_in_all_arms(data, name, read) for name, read in same]
    found = [check for check in checks if check is not None]
    if any(run.status == "done" for run in data.runs.values()):
        found.append(_data_order(data))
        found.append(
            Check(
                "told",
                "Gradients of the next-token loss and of the auxiliary term are divided by the "
                "same counts in every arm: none has a larger step by how its loss is averaged.",
            )
        )
        found.append(_test_reads(data))
    found.append(_tuning(data))
    return [*_fixed_first(data), *found]


def _fixed_first(data: StudyData) -> list[Check]:
    if found := changes(data.study):
        return [Check("broken", sentence) for sentence in found]
    return [
        Check(
            "held",
            "Question, hypothesis, primary score, margin, baseline and the comparison that decides "
            "are those from before the first run.",
        )
    ]


def _by_seed_and_point(data: StudyData) -> dict[tuple[Any, ...], list[RunRecord]]:
    groups: dict[tuple[Any, ...], list[RunRecord]] = {}
    for planned in data.finals():
        run = data.runs[planned.run]
        if run.status == "done":
            groups.setdefault((planned.place, planned.seed), []).append(run)
    return groups


def _same_in_all_arms(data: StudyData, name: str, read: Callable[[RunRecord], Any]) -> Check | None:
    groups = _by_seed_and_point(data)
    values = {key: [read(run) for run in runs] for key, runs in groups.items()}
    known = {
        key: found
        for key, found in values.items()
        if len(found) > 1 and all(value is not None for value in found)
    }
    if not known:
        return None
    for (place, seed), found in known.items():
        if len({repr(value) for value in found}) > 1:
            return Check(
                "broken", f"Arms differ in the {name} at {place_name(place)}, seed {seed}."
            )
    return Check(
        "held", f"The {name}: the same in all arms at every point and seed ({len(known)} compared)."
    )


def _data_order(data: StudyData) -> Check:
    return Check(
        "told",
        "The order of the training rows is drawn from the seed alone, so arms of one seed read "
        "the same rows in the same order.",
    )


def _test_reads(data: StudyData) -> Check:
    reads = [
        data.runs[run].readings["test"].num_reads
        for run in dict.fromkeys(planned.run for planned in data.finals())
        if "test" in data.runs[run].readings
    ]
    only_tuning = {p.run for p in data.plan} - {p.run for p in data.finals()}
    early = sum("test" in data.runs[run].readings for run in only_tuning)
    often = sum(count > 1 for count in reads)
    told = f"Test rows were decoded {sum(reads):,} times by {_count(len(reads), 'final run')}"
    if not (often or early):
        return Check("held", f"{told}, once each, and by no tuning run.")
    again = f"{often:,} of them more than once, as after a kill in the middle of decoding"
    also = f"{_count(early, 'tuning run')} too, as when it is a final run of another study"
    what = "; ".join(([again] if often else ["once each"]) + ([also] if early else []))
    return Check("broken", f"{told}: {what}. Nothing was chosen by these scores.")


def _tuning(data: StudyData) -> Check:
    tuning = data.study.tuning
    if tuning is None:
        return Check("told", "No arm was tuned: all settings are those of the study file.")
    trials = {arm: 0 for arm in data.study.arms}
    unscored = 0
    for planned in data.plan:
        if planned.phase == "tuning":
            is_scored = "validation" in data.runs[planned.run].readings
            trials[planned.arm] += is_scored
            unscored += not is_scored
    counts = ", ".join(f"{arm} {count}" for arm, count in trials.items())
    state: State = "held" if len(set(trials.values())) == 1 else "broken"
    where = "as many trials" if state == "held" else "unequal numbers of trials"
    left = f"; {unscored} without a score are not counted" if unscored else ""
    return Check(state, f"Tuning on validation rows only, {where} for the arms: {counts}{left}.")


def missing(data: StudyData, most: int = 30) -> list[str]:
    """A sentence for everything that the report has to do without."""
    found = [f"Damaged, left out: {problem}" for problem in data.problems]
    by_cause: dict[tuple[str, str], dict[str, None]] = {}
    for planned in data.plan:
        status, cause = state_of(data, planned)
        if status in ("failed", "unfinished"):
            by_cause.setdefault((status, cause), {})[planned.run] = None
    for (status, cause), runs in by_cause.items():
        named = ", ".join([*runs][:4]) + (", ..." if len(runs) > 4 else "")
        found.append(f"{_count(len(runs), 'run')} {status} ({named}): {cause}")
    if len(found) > most:
        left = len(found) - most
        found = [*found[:most], f"{left} more kinds of failure: see the table of every run."]
    return found


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("s" if number != 1 else "")


def states(runs: Sequence[RunRecord]) -> str:
    """How many runs are in which state."""
    order = ("done", "failed", "damaged", "unfinished")
    counts = {state: sum(run.status == state for run in runs) for state in order}
    return ", ".join(f"{count:,} {state}" for state, count in counts.items() if count) or "no run"
