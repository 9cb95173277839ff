"""Does a phrase move the state in one direction, whatever stands before it?

Shape letters: N occurrences, D hidden size.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semtube.objectives.directions import MIN_LENGTH


@dataclass(frozen=True)
class ConceptDirections:
    """Mean cosines of displacements h_t - h_s over phrases, see `ConceptDirectionsOfPhrases`.

    Args:
        within: of each phrase with two occurrences or more, the mean cosine of two different
            ones, -1 to 1. The paper's picture of one line gives 1, its picture of context (Figure
            9) less; independent directions give 0.
        across: the mean over pairs of phrases of the mean cosine of an occurrence of the one and
            one of the other: what `within` is to be held against, as states that share one
            direction raise both. None where there is one phrase.
        num_left_out: phrases that occur once, and `num_still` occurrences that do not move.
    """

    within: dict[Hashable, float]
    across: float | None
    num_left_out: int
    num_still: int


class ConceptDirectionsOfPhrases:
    """Takes in displacements in batches; memory D for every phrase, not for every occurrence.

    Source: Semantic Tube Prediction, arXiv 2602.22617, Figures 3 and 9 and appendix C, where the
        directions are drawn and not measured; the two mean cosines are ours.
    """

    def __init__(self) -> None:
        self._sum: dict[Hashable, Tensor] = {}
        self._count: dict[Hashable, int] = {}
        self._num_still = 0

    def add(self, phrases: Sequence[Hashable], displacement_ND: Tensor) -> None:
        """Take in h_t - h_s of occurrences of phrases; s is the token before the phrase.

        Raises:
            ValueError: not one row for every phrase.
        """
        if displacement_ND.dim() != 2 or len(phrases) != len(displacement_ND):
            raise ValueError(
                f"wanted displacements ({len(phrases)}, D), got {tuple(displacement_ND.shape)}"
            )
        displacement_ND = displacement_ND.detach().double()
        length_N = torch.linalg.vector_norm(displacement_ND, dim=-1)
        for phrase, row_D, length in zip(phrases, displacement_ND, length_N.tolist(), strict=True):
            if length <= MIN_LENGTH:
                self._num_still += 1
                continue
            self._sum[phrase] = self._sum.get(phrase, 0.0) + row_D / length
            self._count[phrase] = self._count.get(phrase, 0) + 1

    def result(self) -> ConceptDirections:
        """Of all occurrences so far."""
        squared = {phrase: float(total @ total) for phrase, total in self._sum.items()}
        within = {
            phrase: (squared[phrase] - n) / (n * (n - 1))
            for phrase, n in self._count.items()
            if n > 1
        }
        across = None
        if len(self._sum) > 1:
            # Mean directions: a frequent phrase weighs no more than a rare one, as in `within`.
            mean_KD = torch.stack([total / self._count[p] for p, total in self._sum.items()])
            whole_D, number = mean_KD.sum(0), len(mean_KD)
            own = float(mean_KD.square().sum())
            across = (float(whole_D @ whole_D) - own) / (number * (number - 1))
        return ConceptDirections(within, across, len(self._count) - len(within), self._num_still)
