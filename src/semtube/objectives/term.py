"""What an objective returns: a sum and a count for every document.

Shape letters: N documents in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LossTerm:
    """A sum and a count for every document, never a mean.

    Kept per document because hosts weigh documents (by their supervised tokens) and split a
    step into micro-batches, packed rows and ranks: whoever knows the whole step divides once.

    Args:
        total_N: summed cost, dimensionless, at least float32, with its graph.
        count_N: how many costs are in each sum; 0 where a document gives none.
    """

    total_N: Tensor
    count_N: Tensor

    @property
    def mean_N(self) -> Tensor:
        """Mean cost of each document; 0 (with a graph) where its count is 0."""
        return self.total_N / self.count_N.clamp_min(1)
