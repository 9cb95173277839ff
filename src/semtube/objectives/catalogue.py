"""Every objective under its name, and the way back from a plain dict."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import Any

from semtube.objectives import weights
from semtube.objectives.curvature import Curvature
from semtube.objectives.llm_jepa import LLMJepa
from semtube.objectives.masked_span import MaskedSpan
from semtube.objectives.next_latent import NextLatent
from semtube.objectives.objective import Objective
from semtube.objectives.r_drop import RDrop
from semtube.objectives.tube import SemanticTube
from semtube.objectives.two_view import TwoView

OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind
    for kind in (SemanticTube, TwoView, MaskedSpan, Curvature, LLMJepa, RDrop, NextLatent)
}


def objective_from_dict(plain: dict[str, Any]) -> Objective:
    """The objective that `to_dict` described.

    Raises:
        ValueError: an unknown objective or field, or a value that it may not have.
    """
    plain = dict(plain)
    name = plain.pop("objective", None)
    if name not in tuple(OBJECTIVES):
        raise ValueError(f"objective is {name!r}: use one of {tuple(OBJECTIVES)}")
    kind = OBJECTIVES[name]
    known = [field.name for field in fields(kind)]
    for key in plain:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise ValueError(f"objective {name!r} has no option {key!r}: {hint}")
    try:
        if "weight" in plain:
            plain["weight"] = weights.from_plain(plain["weight"])
        return kind(**plain)
    except (TypeError, ValueError) as error:
        raise ValueError(f"objective {name!r}: {error}") from error
