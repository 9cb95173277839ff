"""What a study had fixed before its first run and was changed later, told in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from semtube.report.study_cells import shown, shown_settings
from semtube.report.study_data import StudyRecord

_NAMES = {
    "question": "question",
    "hypothesis": "hypothesis",
    "primary": "primary score",
    "baseline": "baseline",
    "deciding": "comparison that decides",
    "margin": "margin of equivalence",
}


def changes(study: StudyRecord) -> list[str]:
    """A sentence for each value that was changed when runs were done already; none if none was."""
    versions = [*study.changed, asdict(study)]
    return [
        f"The {said} was changed {_when(before)}; before, it was: {_shown(before[name])}"
        for before, after in pairwise(versions)
        for name, said in _NAMES.items()
        if name in before and before[name] != after[name]
    ]


def first_hypothesis(study: StudyRecord) -> str:
    """What was expected before the first run."""
    return str(study.changed[0]["hypothesis"]) if study.changed else study.hypothesis


def _when(before: Mapping[str, Any]) -> str:
    if "num_done" not in before:
        return "after the first start"  # of stores older than the count
    return f"after {before['num_done']:,} of {before['num_planned']:,} runs were done"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{value['arm']}, at: {shown_settings(value.get('at', {}))}"
    return shown(value)
