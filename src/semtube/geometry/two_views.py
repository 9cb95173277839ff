"""Is one view of an example a linear map of the other? Enc(prompt) against Enc(answer).

Shape letters: N examples, D hidden size, K singular values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semtube.geometry.moments import Moments, singular_values
from semtube.objectives.directions import MIN_LENGTH

#: How many singular values the papers show.
TOP = 100


@dataclass(frozen=True)
class ViewsFit:
    """How the two views of a set of examples stand to each other.

    Args:
        num_examples: N; num_alike of them have two equal views and no normalised difference.
        raw: (K,) singular values of the N differences, largest first.
        normalised: (K,) of the differences, each brought to length 1.
        residual: min over W of |X W - Y| (Frobenius), in units of the states, as the papers print.
        residual_share: min over W and b of |X W + b - Y|^2 over |Y - mean Y|^2, 0 to 1: unlike the
            residual, no smaller for smaller states, and not brought about by the mean that states
            have in common. None where the map fits whatever it is given (rank(X) = N - 1), or all
            answers are equal.
        null_share: residual_share of the same views with the answers dealt out anew,
            1 - rank(X) / (N - 1) in the mean, X centred; None as above.
    """

    num_examples: int
    num_alike: int
    raw: Tensor
    normalised: Tensor
    residual: float
    residual_share: float | None
    null_share: float | None


class TwoViews:
    """Takes in both views in batches and gives their `ViewsFit`; memory (2 D)^2.

    Args:
        top: K, at most.

    Source: LLM-JEPA, arXiv 2509.14252 (residual, mean of the top 100 singular values); Semantic
        Tube Prediction, arXiv 2602.22617, Figure 6 (raw and row-normalised). Differences are not
        centred, as theirs are not said to be. The centred share is ours.
    """

    def __init__(self, top: int = TOP) -> None:
        self.top = top
        self._both, self._raw, self._normalised = Moments(), Moments(), Moments()
        self._num_alike = 0

    def add(self, prompt_ND: Tensor, answer_ND: Tensor) -> None:
        """Take in the encodings of both views.

        Raises:
            ValueError: not both (N, D).
        """
        if prompt_ND.shape != answer_ND.shape or prompt_ND.dim() != 2:
            raise ValueError(
                "wanted two views of one shape (N, D), "
                f"got {tuple(prompt_ND.shape)} and {tuple(answer_ND.shape)}"
            )
        prompt_ND, answer_ND = prompt_ND.detach().double(), answer_ND.detach().double()
        apart_ND = prompt_ND - answer_ND
        length_N1 = torch.linalg.vector_norm(apart_ND, dim=-1, keepdim=True)
        some_N = length_N1[:, 0] > MIN_LENGTH
        self._both.add(torch.cat([prompt_ND, answer_ND], -1))
        self._raw.add(apart_ND)
        self._normalised.add(apart_ND[some_N] / length_N1[some_N])
        self._num_alike += int((~some_N).sum())

    def result(self) -> ViewsFit:
        """Of all examples so far.

        Raises:
            ValueError: no examples.
        """
        number = self._both.num_rows
        residual_squared, _, _ = _unexplained(self._both.gram_DD)
        centred_squared, spread, rank = _unexplained(self._both.scatter_DD)
        size = float(self._both.gram_DD.trace())
        says_something = rank < number - 1 and spread > 1e-20 * size
        width = len(self._both.mean_D) // 2
        nothing = self._both.mean_D.new_zeros(min(self.top, width))
        return ViewsFit(
            number,
            self._num_alike,
            singular_values(self._raw.gram_DD)[: self.top],
            singular_values(self._normalised.gram_DD)[: self.top]
            if self._normalised.num_rows
            else nothing,
            residual_squared**0.5,
            centred_squared / spread if says_something else None,
            1 - rank / (number - 1) if says_something else None,
        )


def _unexplained(both: Tensor) -> tuple[float, float, int]:
    """min over W of |X W - Y|^2, |Y|^2, and the rank of X.

    Directions in which X has less than 1e-12 of its largest variance are rounding.

    Args:
        both: (2 D, 2 D) [X, Y]^T [X, Y].
    """
    width = len(both) // 2
    xx_DD, xy_DD, yy_DD = both[:width, :width], both[:width, width:], both[width:, width:]
    variance_D, axes_DD = torch.linalg.eigh(xx_DD)
    kept_D = variance_D > 1e-12 * variance_D[-1].clamp_min(0)
    along_KD = axes_DD[:, kept_D].T @ xy_DD
    explained = float((along_KD.square().sum(1) / variance_D[kept_D]).sum())
    size = float(yy_DD.trace())
    return max(size - explained, 0.0), size, int(kept_D.sum())
