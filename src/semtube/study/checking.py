"""Refuse a study that cannot be meant, before anything runs."""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from semtube.config import RunConfig, check_one_of, check_types
from semtube.errors import UserError
from semtube.study.design import REGIMES, Study, Tuning, nearest
from semtube.tasks.catalogue import build_scorer

#: What an arm, or its grid, may set: the method, and the two settings of AdamW that a method may
#: need otherwise. All arms share the other options of a run, or a difference between them would be
#: no difference of method.
OF_AN_ARM = (
    "objective", "options", "weight", "weight_schedule", "weight_dropout", "neftune",
    "attention_dropout", "learning_rate", "weight_decay",
)  # fmt: skip
#: The study sets these itself.
OF_THE_STUDY = ("output", "decode_test", "threads")
#: Runs that differ in these are judged on other test rows.
OF_THE_TEST = ("task", "task_options", "data_folder", "test")

_EXAMPLES = {
    "base": "{model: tiny-2m, steps: 1000}",
    "arms": "{ntp: {objective: ntp}, tube: {objective: tube}}",
    "axes": "{fraction: [1.0, 0.25], seed: [1, 2, 3]}",
    "deciding": "{arm: tube, at: {fraction: 0.25}}",
    "deciding at": "{fraction: 0.25}",
    "tuning grids": "{ntp: {learning_rate: [0.001, 0.002]}, tube: {weight: [0.02, 0.08]}}",
    "tuning at": "{fraction: [1.0, 0.25]}",
}


def check_study(study: Study) -> None:
    """See Study.check."""
    _check_kinds(study)
    _check_comparison(study)
    _check_options(study)
    _check_axes(study)
    if study.tuning is not None:
        _check_tuning(study, study.tuning)
    for arm in study.arms:
        _check_shared(study, arm)
        _check_clashes(study, arm)
    _check_updates(study)
    _check_test(study)
    tasks = {}
    for arm in study.arms:  # every setting that a run may have must be one
        for point in study.points():
            for tried in study.combinations(arm):
                config = study.config(arm, point, tried)
                tasks[json.dumps([config.task, config.task_options], default=str)] = config
        _check_budget(study, arm)
    for config in tasks.values():
        _check_scores(study, config)


def _check_kinds(study: Study) -> None:
    """Mappings where mappings are wanted, numbers where numbers, at every depth."""
    for name in ("base", "arms", "axes", "deciding"):
        _check_mapping(name, getattr(study, name))
    check_types(Study, vars(study))
    for arm, settings in study.arms.items():
        if not isinstance(arm, str):
            raise UserError(f"arms names one {arm!r}: a name is a text, such as '{arm}'")
        _check_mapping(f"arm {arm!r}", settings, "{objective: tube}")
    _check_mapping("deciding at", study.deciding.get("at", {}))
    if study.tuning is not None:
        if not isinstance(study.tuning, Tuning):
            raise UserError(f"tuning is {study.tuning!r}: it must be a Tuning")
        _check_mapping("tuning grids", study.tuning.grids)
        _check_mapping("tuning at", study.tuning.at)
        check_types(Tuning, vars(study.tuning), "tuning ")
        for axis, values in study.tuning.at.items():
            _check_list(f"tuning at {axis}", values)


def _check_mapping(name: str, value: object, example: str | None = None) -> None:
    if not isinstance(value, Mapping):
        wanted = f"a mapping, such as {example or _EXAMPLES[name]}"
        raise UserError(
            f"{name} is {'empty' if value is None else repr(value)}: it must be {wanted}"
        )


def _check_list(name: str, values: object) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise UserError(f"{name} is {values!r}: it must be a list with a value")


def _check_comparison(study: Study) -> None:
    if not study.arms:
        raise UserError(f"arms is empty: name two at least, such as {_EXAMPLES['arms']}")
    check_one_of("baseline", study.baseline, study.arms)
    if "arm" not in study.deciding or set(study.deciding) - {"arm", "at"}:
        raise UserError(
            f"deciding is {dict(study.deciding)}: it must be {{'arm': NAME, 'at': {{...}}}}"
        )
    arm = study.deciding["arm"]
    check_one_of("deciding arm", arm, study.arms)
    if arm == study.baseline:
        raise UserError(
            f"deciding arm is {arm!r}, the baseline itself: name one to compare with it"
        )
    if not study.margin > 0:
        raise UserError(f"margin is {study.margin}: it must be above 0")


def _check_options(study: Study) -> None:
    """Every option exists, and every value is of its kind."""
    known = RunConfig.__dataclass_fields__
    for place, option, value in _settings(study):
        if option not in known:
            near = difflib.get_close_matches(str(option), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see semtube train --help"
            raise UserError(f"{place}: a run has no option {option!r}: {hint}")
        try:
            check_types(RunConfig, {option: value})
        except UserError as error:
            raise UserError(f"{place}: {error}") from None


def _settings(study: Study) -> Iterator[tuple[str, str, Any]]:
    """Where, which option, which value: everything that a study file sets."""
    places = {"base": study.base, **{f"arm {arm!r}": s for arm, s in study.arms.items()}}
    for place, settings in places.items():
        yield from ((place, option, value) for option, value in settings.items())
    lists = {"axes": study.axes}
    for arm, grid in (study.tuning.grids if study.tuning else {}).items():
        if isinstance(grid, Mapping):
            lists[f"grid of {arm!r}"] = grid
            continue
        if (
            isinstance(grid, str)
            or not isinstance(grid, Sequence)
            or not all(isinstance(settings, Mapping) for settings in grid)
        ):
            raise UserError(
                f"grid of {arm!r} is {grid!r}: it must be option -> values, or a list of settings"
            )
        for settings in grid:
            yield from ((f"grid of {arm!r}", *setting) for setting in settings.items())
    for place, settings in lists.items():
        for option, values in settings.items():
            _check_list(f"axis {option}" if place == "axes" else f"{place}: {option}", values)
            yield from ((place, option, value) for value in values)


def _check_axes(study: Study) -> None:
    for option, values in study.axes.items():
        if len({repr(value) for value in values}) < len(values):
            raise UserError(f"axis {option} has a value twice: {list(values)}")
    if "seed" not in study.axes:
        raise UserError("axes has no seed: give it, such as 'seed': [1, 2, 3]")
    tuned_at = study.tuning.at if study.tuning else {}
    for where, at in (("deciding", study.deciding.get("at", {})), ("tuning", tuned_at)):
        for axis in at:
            if axis not in study.axes or axis == "seed":
                raise UserError(f"{where} is at {axis!r}, which is no axis beside the seed")
    for axis, value in study.deciding.get("at", {}).items():
        check_one_of(f"deciding {axis}", value, study.axes[axis])


def _check_tuning(study: Study, tuning: Tuning) -> None:
    for axis, values in tuning.at.items():
        for value in values:
            check_one_of(f"tuning at {axis}", value, study.axes[axis])
        for value in study.axes[axis]:
            try:
                nearest(value, values)
            except UserError as error:
                raise UserError(f"tuning at {axis}: {error}") from None
    check_one_of("tuning seed", tuning.seed, study.axes["seed"])
    for arm, grid in tuning.grids.items():
        check_one_of("arm of a tuning grid", arm, study.arms)
        if not isinstance(grid, Mapping) and len({frozenset(settings) for settings in grid}) != 1:
            raise UserError(
                f"grid of {arm!r} is {list(grid)}: list settings that all set the same options"
            )
    missing = [arm for arm in study.arms if arm not in tuning.grids]
    if missing:
        raise UserError(f"arm {missing[0]!r} has no tuning grid, but others have: give it one")
    budgets = {arm: len(study.combinations(arm)) for arm in study.arms}
    if len(set(budgets.values())) > 1:
        told = ", ".join(f"{arm} {number}" for arm, number in budgets.items())
        raise UserError(
            f"tuning grids are of unequal size ({told}): give every arm as many combinations"
        )
    if not (study.base.get("validation_rows") or study.base.get("validation")):
        raise UserError("tuning needs validation rows: set validation_rows (or validation)")


def _tuned_options(study: Study, arm: str) -> Iterable[str]:
    grid = study.tuning.grids[arm] if study.tuning else {}
    return grid if isinstance(grid, Mapping) else itertools.chain(*grid)


def _check_shared(study: Study, arm: str) -> None:
    places = {f"arm {arm!r}": study.arms[arm], f"grid of {arm!r}": _tuned_options(study, arm)}
    for place, options in places.items():
        for option in options:
            if option not in (*OF_AN_ARM, *OF_THE_STUDY):
                raise UserError(
                    f"{place} sets {option}, which all arms share: set it in base or axes"
                )


def _check_clashes(study: Study, arm: str) -> None:
    """No option is set in two places."""
    places = {
        "base": study.base,
        f"arm {arm!r}": study.arms[arm],
        "axes": study.axes,
        f"regime {study.regime!r}": REGIMES[study.regime],
        f"the grid of {arm!r}": dict.fromkeys(_tuned_options(study, arm)),
    }
    for (name, one), (other, two) in itertools.combinations(places.items(), 2):
        for option in one:
            if option in two:
                raise UserError(f"{option} is set in {name} and in {other}: set it once")
    for name, place in places.items():
        for option in place:
            if option in OF_THE_STUDY:
                raise UserError(f"{name} sets {option}, which the study sets itself")
    if study.generated is not None and {"data", "test", "task"} & set(study.base):
        raise UserError("base sets data, test or task, but generated rows are asked for")


def _check_updates(study: Study) -> None:
    everywhere = {*study.base, *study.axes}
    wanted, other = ("steps", "epochs") if study.updates == "fixed updates" else (
        "epochs", "steps",
    )  # fmt: skip
    if wanted not in everywhere or other in everywhere:
        raise UserError(f"{study.updates} needs {wanted} in base or axes, and no {other}")


def _check_test(study: Study) -> None:
    """Final runs have test rows, and those that decide have the same."""
    tests = study.axes.get("test", [study.base.get("test")])
    if study.generated is None and not all(tests):
        raise UserError("base has no test: final runs are judged on test rows, name them")
    for axis in OF_THE_TEST:
        if len(study.axes.get(axis, ())) > 1 and axis not in study.deciding.get("at", {}):
            raise UserError(
                f"axis {axis} brings other test rows at each value, and one comparison decides: "
                f"name its value in deciding at, such as {{{axis}: {study.axes[axis][0]}}}"
            )


def _check_budget(study: Study, arm: str) -> None:
    """An arm's trials are different runs: a grid of a weight that `ntp` does not read is one."""
    point, known = next(study.points()), {}
    for tried in study.combinations(arm):
        run = study.config(arm, point, tried).identity({})
        if run in known:
            raise UserError(
                f"grid of {arm!r}: {known[run]} and {tried} are one run: every arm tries as many "
                "different ones"
            )
        known[run] = tried


def _check_scores(study: Study, config: RunConfig) -> None:
    """The scores that are read are among those that a run's rows will have."""
    scores = (*build_scorer(config.task, config.task_options).scores, "stopped")
    check_one_of(f"primary (of task {config.task!r})", study.primary, scores)
    if study.tuning is not None and study.tuning.score is not None:
        check_one_of(f"tuning score (of task {config.task!r})", study.tuning.score, scores)
