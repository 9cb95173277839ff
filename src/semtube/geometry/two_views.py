"""Is one view of an example a linear map of the other? Enc(prompt) against Enc(answer).

Shape letters: N examples, D hidden size, K singular values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semtube.geometry.moments import Moments, singular_values
from semtube.geometry.rounding import is_one_point, shortest_displacement

#: How many singular values the papers show.
TOP = 100
#: Examples for each dimension, below which a share is not to be relied upon. Ours.
EXAMPLES_PER_DIMENSION = 4


@dataclass(frozen=True)
class ViewsFit:
    """How the two views of a set of examples stand to each other.

    Args:
        num_examples: N; num_alike of them have two equal views and no normalised difference.
        raw: (K,) singular values of the N differences, largest first.
        normalised: (K,) of the differences, each brought to length 1.
        residual: min over W of |X W - Y| (Frobenius), in units of the states, as the papers print.
        null_raw, null_residual: raw and residual of the same views with the answers dealt out anew:
            roots of what their squares (of residuals) and X^T X (of differences) are in the mean.
        residual_share: min over W and b of |X W + b - Y|^2 over |Y - mean Y|^2, 0 to 1: unlike the
            residual, no smaller for smaller states, and not brought about by the mean that states
            have in common. None where the map fits whatever it is given (rank(X) = N - 1), or the
            states of one view are equal but for rounding.
        null_share: residual_share of the same views with the answers dealt out anew,
            1 - rank(X) / (N - 1) in the mean, X centred; None as above.
        num_free: N - 1 - rank(X): how many examples the share rests on.
    """

    num_examples: int
    num_alike: int
    raw: Tensor
    normalised: Tensor
    null_raw: Tensor
    residual: float
    null_residual: float
    residual_share: float | None
    null_share: float | None
    num_free: int
    width: int

    @property
    def is_sparse(self) -> bool:
        """Whether N is so small beside D that the share says little."""
        return self.num_examples < EXAMPLES_PER_DIMENSION * self.width


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
        size_N = torch.linalg.vector_norm(prompt_ND, dim=-1)
        some_N = length_N1[:, 0] > shortest_displacement(size_N)
        self._both.add(torch.cat([prompt_ND, answer_ND], -1))
        self._raw.add(apart_ND)
        self._normalised.add(apart_ND[some_N] / length_N1[some_N])
        self._num_alike += int((~some_N).sum())

    def result(self) -> ViewsFit:
        """Of all examples so far.

        Raises:
            ValueError: no examples.
        """
        number, mean = self._both.num_rows, self._both.mean_D
        width = len(mean) // 2
        gram, scatter = self._both.gram_DD, self._both.scatter_DD
        residual_squared, size, _ = _unexplained(gram)
        centred_squared, spread, rank = _unexplained(scatter)
        one_prompt = is_one_point(
            float(scatter[:width, :width].trace()), float(gram[:width, :width].trace())
        )
        says_something = rank < number - 1 and not one_prompt and not is_one_point(spread, size)
        nothing = mean.new_zeros(min(self.top, width))
        return ViewsFit(
            number,
            self._num_alike,
            singular_values(self._raw.gram_DD)[: self.top],
            singular_values(self._normalised.gram_DD)[: self.top]
            if self._normalised.num_rows
            else nothing,
            singular_values(_dealt_out_differences(gram, mean, number))[: self.top],
            residual_squared**0.5,
            _dealt_out_residual(gram, mean, number),
            centred_squared / spread if says_something else None,
            1 - rank / (number - 1) if says_something else None,
            number - 1 - rank,
            width,
        )


def _dealt_out_differences(gram: Tensor, mean: Tensor, number: int) -> Tensor:
    """(D, D) mean of (X - Y)^T (X - Y) over all orders of the answers.

    That of X^T Y is N mean(X) mean(Y)^T.
    """
    width = len(gram) // 2
    cross_DD = number * torch.outer(mean[:width], mean[width:])
    return gram[:width, :width] + gram[width:, width:] - cross_DD - cross_DD.T


def _dealt_out_residual(gram: Tensor, mean: Tensor, number: int) -> float:
    """Root of the mean of min over W of |X W - Y|^2 over all orders of the answers.

    With P the projection on the columns of X, its trace rank(X) and q the sum of its entries, the
    mean of |P Y|^2 is rank |Y|^2 / N + (q - rank) (|sum Y|^2 - |Y|^2) / (N (N - 1)).
    """
    width = len(gram) // 2
    variance_K, axes_DK = _directions(gram[:width, :width])
    rank = len(variance_K)
    q = number**2 * float(((axes_DK.T @ mean[:width]).square() / variance_K).sum())
    size = float(gram[width:, width:].trace())
    together = number**2 * float(mean[width:] @ mean[width:])
    explained = rank * size / number
    if number > 1:
        explained += (q - rank) * (together - size) / (number * (number - 1))
    return max(size - explained, 0.0) ** 0.5


def _unexplained(both: Tensor) -> tuple[float, float, int]:
    """min over W of |X W - Y|^2, |Y|^2, and the rank of X.

    Args:
        both: (2 D, 2 D) [X, Y]^T [X, Y].
    """
    width = len(both) // 2
    variance_K, axes_DK = _directions(both[:width, :width])
    along_KD = axes_DK.T @ both[:width, width:]
    explained = float((along_KD.square().sum(1) / variance_K).sum())
    size = float(both[width:, width:].trace())
    return max(size - explained, 0.0), size, len(variance_K)


def _directions(xx_DD: Tensor) -> tuple[Tensor, Tensor]:
    """(K,) variances of X and (D, K) their axes; below 1e-12 of the largest is rounding."""
    variance_D, axes_DD = torch.linalg.eigh(xx_DD)
    kept_D = variance_D > 1e-12 * variance_D[-1].clamp_min(0)
    return variance_D[kept_D], axes_DD[:, kept_D]
