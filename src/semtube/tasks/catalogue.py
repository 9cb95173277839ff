"""Every task and scorer under its name."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from semtube.errors import UserError
from semtube.tasks.gsm8k import Gsm8k
from semtube.tasks.hellaswag import HellaSwag
from semtube.tasks.nl_rx import NlRxSynth, NlRxTurk
from semtube.tasks.nq_open import NqOpen
from semtube.tasks.own_rows import Choice, ExactText, Pattern, load_function
from semtube.tasks.spider import Spider
from semtube.tasks.task import Scorer, Task

#: Tasks that have data of their own.
TASKS: dict[str, type[Task]] = {
    kind.card.name: kind for kind in (NlRxSynth, NlRxTurk, Gsm8k, Spider, NqOpen, HellaSwag)
}
#: Scorers for rows of one's own.
SCORERS: dict[str, type[Scorer]] = {"exact": ExactText, "pattern": Pattern, "choice": Choice}


def build_scorer(name: str, options: dict[str, Any]) -> Scorer:
    """The task or scorer of a name, with its options.

    Args:
        name: a task, `exact`, `pattern`, `choice`, or `module:function`.
        options: arguments of its constructor.

    Raises:
        UserError: an unknown name or option.
    """
    known: dict[str, type[Scorer]] = {**TASKS, **SCORERS}
    if name not in known:
        if ":" in name:
            if options:
                raise UserError(f"scorer {name!r} takes no task_options, got {options}")
            return load_function(name)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}"
        raise UserError(f"no task {name!r}: {hint}, or module:function for a scorer of your own")
    kind = known[name]
    allowed = [] if kind.__init__ is object.__init__ else list(inspect.signature(kind).parameters)
    unknown = [option for option in options if option not in allowed]
    if unknown:
        has = f"it has {', '.join(allowed)}" if allowed else "it has none"
        raise UserError(f"task {name!r} has no option {unknown[0]!r}: {has}")
    return kind(**options)
