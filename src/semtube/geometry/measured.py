"""A number for every document, and whether the document was long enough to have one.

Shape letters: N documents, W lengths (or nothing).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Measured:
    """Values of documents, finite everywhere; those that are not defined are 0.

    Args:
        value: (N,) or (N, W) float64.
        defined: bool, same shape: False where a document is too short, or has no direction
            where one is needed.
    """

    value: Tensor
    defined: Tensor

    @classmethod
    def ratio(cls, above: Tensor, below: Tensor) -> Measured:
        """above / below, not defined where below is 0 (a mean: a sum and a count)."""
        defined = below > 0
        value = torch.where(defined, above.double() / torch.where(defined, below, 1), 0)
        return cls(value, defined)

    @property
    def num_left_out(self) -> Tensor:
        """How many documents have no value; for each length, if there are lengths."""
        return (~self.defined).sum(0)

    def mean(self) -> Measured:
        """The mean over the documents that have a value."""
        return Measured.ratio(self.value.sum(0), self.defined.sum(0))
