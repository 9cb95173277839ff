"""Dropout whose mask comes from a generator one names, and not from torch's global one."""

from __future__ import annotations

import torch
from torch import Tensor


def dropout(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Each number is 0 with chance `rate`, else divided by 1 - rate: the mean stays.

    Args:
        rate: in [0, 1).
        generator: on the device of x; None leaves x as it is, as in evaluation.
    """
    if generator is None or rate == 0:
        return x
    kept = torch.empty_like(x, requires_grad=False).bernoulli_(1 - rate, generator=generator)
    return x * (kept / (1 - rate))
