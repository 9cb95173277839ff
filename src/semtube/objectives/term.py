"""The contract between an auxiliary objective and whatever host trains with it.

Shape letters: B rows, T tokens, D hidden size, N documents in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from semtube.objectives.trajectories import Trajectories


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


class Objective(Protocol):
    """An auxiliary objective. Its constructor arguments are its whole configuration.

    Attributes:
        weight: factor of the term beside the next-token loss (lambda in the papers).
        layer: which states it reads, counted as in `output_hidden_states`: k is the output of
            the k-th decoder layer, -1 the decoder's last state (after the final norm).
        content: which tokens belong to the trajectory, see `Content`.
    """

    @property
    def weight(self) -> float: ...

    @property
    def layer(self) -> int: ...

    @property
    def content(self) -> str: ...

    def to_dict(self) -> dict[str, Any]:
        """A plain dict that `objective_from_dict` turns back into an equal objective."""
        ...

    def __call__(self, hidden_BTD: Tensor, trajectories: Trajectories, key: int) -> LossTerm:
        """The term for one batch; `key` seeds its draws (run seed and step mixed)."""
        ...
