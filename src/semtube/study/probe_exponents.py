"""The exponents with which written texts leave the right ones, and what they are held against.

Shape letters: N prompts, L steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semtube.geometry.cone import ConeFit, NoCone, Since, fit_cone
from semtube.geometry.measured import Measured

#: Steps without which an exponent is not told: through three, it may be anything. Ours.
LEAST_STEPS = 6


def exponent_of(distances: Measured, *, unrelated: float | None, seed: int) -> ConeFit | NoCone:
    """`fit_cone` over LEAST_STEPS steps or more."""
    fit = fit_cone(distances, unrelated=unrelated, seed=seed)
    if isinstance(fit, ConeFit) and fit.last_step - fit.first_step + 1 < LEAST_STEPS:
        return NoCone(
            f"only steps {fit.first_step} to {fit.last_step} can be fitted: {LEAST_STEPS} are "
            "needed"
        )
    return fit


def nulls_of_exponent(
    distances: Measured, diverged_N: Tensor, since: Since, fit: ConeFit
) -> dict[str, float]:
    """Exponents, at the fit's steps, of a Brownian motion and of distances that do not grow.

    1/2 and 0 from the first other token on. Behind the prompt the share of texts that have left
    grows as well, so there they are what such distances give that begin where these texts leave.
    """
    if since == "divergence":
        return {"Brownian": 0.5, "saturated": 0.0}
    place_L = torch.arange(distances.value.shape[1])
    steps_NL = (place_L - diverged_N[:, None] + 1).clamp_min(0).where(distances.defined, 0).double()
    nulls = {}
    for null, value_NL in (("Brownian", steps_NL.sqrt()), ("saturated", steps_NL.sign())):
        found = fit_cone(
            Measured(value_NL, distances.defined),
            first_step=fit.first_step, last_step=fit.last_step,
        )  # fmt: skip
        assert isinstance(found, ConeFit), "as many texts have left as in what was fitted"
        nulls[f"{null} once apart"] = found.exponent
    return nulls
