"""Which models a probe measures, under which names, and what each is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from semtube.config import ProbeOptions, RunConfig
from semtube.errors import UserError
from semtube.models.loading import LoadedModel, load_model
from semtube.study.evaluate import find_model
from semtube.study.run import RunListener, prepare


@dataclass(frozen=True)
class Checkpoint:
    """One model to probe.

    Args:
        name: in the table.
        load: gives the model; only one is in memory at a time.
        config: of its run, if it is one.
        compared_with: name of the checkpoint before, if any: the run's own start, or the first.
    """

    name: str
    load: Callable[[], LoadedModel]
    config: RunConfig | None
    compared_with: str | None


def list_checkpoints(models: Sequence[str], options: ProbeOptions) -> list[Checkpoint]:
    """Every model under a name of its own; before a run, if asked for, what it began with.

    Raises:
        UserError: a model that is not there or is given twice, or a start of what is no run.
    """
    if len(set(models)) < len(models):
        twice = next(model for model in models if models.count(model) > 1)
        raise UserError(f"{twice!r} is given twice: name each checkpoint once")
    found: list[Checkpoint] = []
    for model, name in zip(models, _short_names(models), strict=True):
        where, config = find_model(model)
        other = found[0].name if found else None
        if options.start:
            if config is None:
                raise UserError(
                    f"{model!r} is no run, so what it began with is unknown: no --start"
                )
            other = f"{name} at start"
            found.append(Checkpoint(other, _starting(config), config, None))
        found.append(Checkpoint(name, _loading(where, options), config, other))
    return found


def _loading(where: str, options: ProbeOptions) -> Callable[[], LoadedModel]:
    return lambda: load_model(where, trust_remote_code=options.trust_remote_code)


def _starting(config: RunConfig) -> Callable[[], LoadedModel]:
    return lambda: prepare(config, RunListener()).loaded


def _short_names(models: Sequence[str]) -> list[str]:
    """The last part of each path, or as many as tell them apart."""
    # As they were given: a link's own name says more than that of the folder behind it.
    parts = [Path(model).absolute().parts if Path(model).exists() else (model,) for model in models]
    for number in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-number:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"{models[0]!r} and another are the same folder: name each checkpoint once")
