"""What the exponents with which written texts leave the right ones are held against.

Shape letters: N prompts, L steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from semtube.geometry.cone import ConeFit, Since, fit_cone
from semtube.geometry.measured import Measured


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
