"""What a study asks and which runs answer it: arms, axes, tuning, the comparison that decides."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
#: All arms share these, or a difference between them would be no difference of method.
SHARED = (
    "task", "task_options", "data", "data_folder", "chat_form", "model", "validation",
    "validation_rows", "test", "max_new_tokens", "drop_overlap", "fraction", "labels",
    "train_stop", "max_tokens", "steps", "epochs", "batch_size", "seed", "precision",
)  # fmt: skip
#: The study sets these itself.
OF_THE_STUDY = ("output", "decode_test", "threads")


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
        _one_of("regime", self.regime, REGIMES)
        _one_of("updates", self.updates, ("fixed updates", "fixed epochs"))
        if not self.arms:
            raise UserError("arms is empty: name at least one, such as {'ntp': {...}}")
        _one_of("baseline", self.baseline, self.arms)
        if "arm" not in self.deciding or set(self.deciding) - {"arm", "at"}:
            raise UserError(
                f"deciding is {dict(self.deciding)}: it must be {{'arm': NAME, 'at': {{...}}}}"
            )
        _one_of("deciding arm", self.deciding["arm"], self.arms)
        if not self.margin > 0:
            raise UserError(f"margin is {self.margin}: it must be above 0")
        self._check_options()
        self._check_axes()
        self._check_tuning()
        for arm, settings in self.arms.items():
            for option in settings:
                if option in SHARED:
                    raise UserError(
                        f"arm {arm!r} sets {option}, which all arms share: set it in base or axes"
                    )
            self._check_clashes(arm)
        self._check_updates()
        for arm in self.arms:  # every setting a run may have must be one
            for point in self.points():
                for tried in self.combinations(arm):
                    self.config(arm, point, tried)

    def _check_options(self) -> None:
        known = RunConfig.__dataclass_fields__
        tuned = [self._tuned_options(arm) for arm in self.tuning.grids] if self.tuning else []
        for option in itertools.chain(self.base, self.axes, *self.arms.values(), *tuned):
            if option not in known:
                near = difflib.get_close_matches(option, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "see semtube train --help"
                raise UserError(f"a run has no option {option!r}: {hint}")

    def _check_axes(self) -> None:
        for option, values in self.axes.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise UserError(f"axis {option} is {values!r}: it must be a list with a value")
            if len({repr(value) for value in values}) < len(values):
                raise UserError(f"axis {option} has a value twice: {list(values)}")
        if "seed" not in self.axes:
            raise UserError("axes has no seed: give it, such as 'seed': [1, 2, 3]")
        for where, at in (("deciding", self.deciding.get("at", {})), ("tuning", self._tuned_at())):
            for axis in at:
                if axis not in self.axes or axis == "seed":
                    raise UserError(f"{where} is at {axis!r}, which is no axis beside the seed")
        for axis, value in self.deciding.get("at", {}).items():
            _one_of(f"deciding {axis}", value, self.axes[axis])

    def _tuned_at(self) -> Mapping[str, Sequence[Any]]:
        return self.tuning.at if self.tuning else {}

    def _check_tuning(self) -> None:
        if self.tuning is None:
            return
        for axis, values in self.tuning.at.items():
            for value in values:
                _one_of(f"tuning at {axis}", value, self.axes[axis])
        _one_of("tuning seed", self.tuning.seed, self.axes["seed"])
        for arm, grid in self.tuning.grids.items():
            _one_of("arm of a tuning grid", arm, self.arms)
            if not isinstance(grid, Mapping):
                self._check_listed(arm, grid)
                continue
            for option, values in grid.items():
                if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                    raise UserError(f"grid of {arm!r}: {option} is {values!r}: list its values")
        missing = [arm for arm in self.arms if arm not in self.tuning.grids]
        if missing:
            raise UserError(f"arm {missing[0]!r} has no tuning grid, but others have: give it one")
        budgets = {arm: len(self.combinations(arm)) for arm in self.arms}
        if len(set(budgets.values())) > 1:
            told = ", ".join(f"{arm} {number}" for arm, number in budgets.items())
            raise UserError(
                f"tuning grids are of unequal size ({told}): give every arm as many combinations"
            )
        if not (self.base.get("validation_rows") or self.base.get("validation")):
            raise UserError("tuning needs validation rows: set validation_rows (or validation)")

    @staticmethod
    def _check_listed(arm: str, grid: Sequence[Settings]) -> None:
        """Settings listed one by one all set the same options."""
        if not grid or len({frozenset(settings) for settings in grid}) > 1:
            raise UserError(
                f"grid of {arm!r} is {list(grid)}: list settings that all set the same options"
            )

    def _tuned_options(self, arm: str) -> Iterable[str]:
        if self.tuning is None:
            return ()
        grid = self.tuning.grids.get(arm, {})
        if isinstance(grid, Mapping):
            return grid
        if (
            isinstance(grid, str)
            or not isinstance(grid, Sequence)
            or not all(isinstance(settings, Mapping) for settings in grid)
        ):
            raise UserError(
                f"grid of {arm!r} is {grid!r}: it must be option -> values, or a list of settings"
            )
        return itertools.chain(*grid)

    def _check_clashes(self, arm: str) -> None:
        """No option is set in two places."""
        places = {"base": self.base, f"arm {arm!r}": self.arms[arm], "axes": self.axes}
        places[f"regime {self.regime!r}"] = REGIMES[self.regime]
        if self.tuning is not None:
            places[f"the grid of {arm!r}"] = dict.fromkeys(self._tuned_options(arm))
        for (name, one), (other, two) in itertools.combinations(places.items(), 2):
            for option in one:
                if option in two:
                    raise UserError(f"{option} is set in {name} and in {other}: set it once")
        for name, place in places.items():
            for option in place:
                if option in OF_THE_STUDY:
                    raise UserError(f"{name} sets {option}, which the study sets itself")
        if self.generated is not None and {"data", "test", "task"} & set(self.base):
            raise UserError("base sets data, test or task, but generated rows are asked for")

    def _check_updates(self) -> None:
        everywhere = {*self.base, *self.axes}
        wanted, other = ("steps", "epochs") if self.updates == "fixed updates" else (
            "epochs", "steps",
        )  # fmt: skip
        if wanted not in everywhere or other in everywhere:
            raise UserError(f"{self.updates} needs {wanted} in base or axes, and no {other}")

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
        raise UserError(f"nothing is tuned near {value!r}: tuned at {list(known)}")
    return min(known, key=lambda other: abs(math.log(value / other)))


def _one_of(name: str, value: Any, known: Any) -> None:
    if value not in known:
        raise UserError(f"{name} is {value!r}: it must be one of {', '.join(map(str, known))}")
