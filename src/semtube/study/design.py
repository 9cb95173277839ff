"""What a study asks and which runs answer it: arms, axes, tuning, the comparison that decides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from semtube.config import RunConfig
from semtube.errors import UserError

Settings = Mapping[str, Any]
"""Options of a run by name, as in RunConfig."""

#: What a regime fixes for every run. The paper's: its code never trains the stop token (its id is
#: masked as padding), takes the loss over the whole text, decays nothing and warms nothing up. The
#: gradients of both arms are scaled alike in either; its code scales one arm's by the accumulation.
REGIMES: dict[str, dict[str, Any]] = {
    "correct": {"train_stop": True, "labels": "answer"},
    "paper": {
        "train_stop": False,
        "labels": "full",
        "weight_decay": 0.0,
        "schedule": "linear",
        "warmup_fraction": 0.0,
    },
}


@dataclass(frozen=True)
class Tuning:
    """Settings tried on validation rows before the final runs; the best of each arm is kept.

    Args:
        grids: arm -> option -> values, all combinations of which are tried; or arm -> list of
            settings, to try these alone. Every arm tries as many.
        at: axis -> its values at which is tuned; other values take the choice of the nearest (by
            ratio). Empty: tuned once, for all.
        seed: the seed of the tuning runs.
        score: what is highest in the best run on the validation rows; unset for the study's
            primary score. Ties go to the lower validation loss.
    """

    grids: Mapping[str, Mapping[str, Sequence[Any]] | Sequence[Settings]]
    at: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seed: int = 1
    score: str | None = None


@dataclass(frozen=True)
class Study:
    """A question, the runs that answer it, and how the answer is read, all fixed beforehand.

    Args:
        question: in one sentence.
        hypothesis: what is expected, written before the first run.
        base: options of every run.
        arms: name -> its options; the methods that are compared.
        axes: option -> values; every arm runs at all combinations. `seed` is one of them.
        baseline: the arm the others are compared with.
        deciding: {"arm": name, "at": {axis: value}}: the comparison that answers the question.
        primary: the score it is made on.
        margin: two arms whose difference lies within it are called equivalent, in the unit of the
            score (0.01 is a point of a rate).
        regime: `correct` or `paper`, see REGIMES.
        updates: whether smaller fractions take as many optimizer steps (`fixed updates`, option
            steps) or as many passes (`fixed epochs`, option epochs).
        tuning: unset where no arm is tuned.
        generated: the rows of the embedded generator to train and test on, in place of data.
        seconds_per_step: of the baseline arm on one worker, for the estimated cost.
        name, doc: of the study file.
        command: that does the study, for its report.
    """

    question: str
    hypothesis: str
    base: Settings
    arms: Mapping[str, Settings]
    axes: Mapping[str, Sequence[Any]]
    baseline: str
    deciding: Mapping[str, Any]
    primary: str = "exact_match"
    margin: float = 0.01
    regime: Literal["correct", "paper"] = "correct"
    updates: Literal["fixed updates", "fixed epochs"] = "fixed updates"
    tuning: Tuning | None = None
    generated: int | None = None
    seconds_per_step: float | None = None
    name: str = "study"
    doc: str = ""
    command: str = ""

    def check(self) -> None:
        """Refuse a study that cannot be meant, before anything runs.

        Raises:
            UserError: naming the axis, arm or option, and what would be right.
        """
        from semtube.study.checking import check_study  # it reads the tasks' scores

        check_study(self)

    def points(self) -> Iterator[dict[str, Any]]:
        """Every combination of the axes' values, the last axis fastest."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))

    def combinations(self, arm: str) -> list[dict[str, Any]]:
        """The settings tried for an arm; one empty one where nothing is tuned."""
        grid = self.tuning.grids[arm] if self.tuning else {}
        if not isinstance(grid, Mapping):
            return [dict(settings) for settings in grid]
        return [
            dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
        ]

    def config(self, arm: str, point: Settings, tried: Settings) -> RunConfig:
        """The run of an arm at a point of the axes with tuned settings.

        Raises:
            UserError: a value that an option may not have.
        """
        settings = {"precision": "fp32", "output": "", "decode_test": False}
        settings |= {**REGIMES[self.regime], **self.base, **self.arms[arm], **tried, **point}
        if settings["precision"] == "auto":
            raise UserError("precision is auto: a study states it, fp32 or bf16")
        config = RunConfig.from_dict(settings)
        config.check()
        return config.resolved()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as study.json holds them."""
        return asdict(self)


def nearest(value: Any, known: Sequence[Any]) -> Any:
    """Of the known values the same one, or, of positive numbers, the one with the nearest ratio.

    Raises:
        UserError: no such value, and no number.
    """
    if value in known:
        return value
    numbers = [k for k in (value, *known) if isinstance(k, int | float) and k > 0]
    if len(numbers) < 1 + len(known):
        raise UserError(f"nothing is tuned near {value!r} (only at {list(known)}): tune there too")
    return min(known, key=lambda other: abs(math.log(value / other)))
