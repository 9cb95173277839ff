"""Count, mean and scatter of rows that come in batches: the same as of all rows at once.

Shape letters: N rows, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Running moments of rows, float64; memory D^2, whatever the number of rows.

    Batches are joined by the pairwise rule of Chan, Golub and LeVeque (1983), which does not lose
    digits where the mean is far from 0.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self._mean_D: Tensor | None = None
        self._scatter_DD: Tensor | None = None

    def add(self, rows_ND: Tensor) -> None:
        """Take in rows (N, D); none is allowed.

        Raises:
            ValueError: not (N, D), another D than before, or a row that is not finite.
        """
        if rows_ND.dim() != 2:
            raise ValueError(f"wanted rows (N, D), got shape {tuple(rows_ND.shape)}")
        if not len(rows_ND):
            return
        rows_ND = rows_ND.detach().double()
        bad_N = ~rows_ND.isfinite().all(-1)
        if bad_N.any():
            raise ValueError(f"row {int(bad_N.nonzero()[0])} is not finite: wanted numbers")
        mean_D = rows_ND.mean(0)
        centred_ND = rows_ND - mean_D
        scatter_DD = centred_ND.T @ centred_ND
        if self._mean_D is None or self._scatter_DD is None:
            self.num_rows, self._mean_D, self._scatter_DD = len(rows_ND), mean_D, scatter_DD
            return
        if len(mean_D) != len(self._mean_D):
            raise ValueError(f"rows have width {len(mean_D)}: wanted {len(self._mean_D)} as before")
        total = self.num_rows + len(rows_ND)
        apart_D = mean_D - self._mean_D
        self._scatter_DD += scatter_DD + torch.outer(apart_D, apart_D) * (
            self.num_rows * len(rows_ND) / total
        )
        self._mean_D = self._mean_D + apart_D * (len(rows_ND) / total)
        self.num_rows = total

    @property
    def mean_D(self) -> Tensor:
        """(D,) mean of the rows.

        Raises:
            ValueError: no rows.
        """
        if self._mean_D is None:
            raise ValueError("no rows were added: there is no mean")
        return self._mean_D

    @property
    def scatter_DD(self) -> Tensor:
        """(D, D) sum over rows of (x - mean) (x - mean)^T."""
        if self._scatter_DD is None:
            raise ValueError("no rows were added: there is no scatter")
        return self._scatter_DD

    @property
    def gram_DD(self) -> Tensor:
        """(D, D) sum over rows of x x^T."""
        return self.scatter_DD + self.num_rows * torch.outer(self.mean_D, self.mean_D)


def singular_values(gram_DD: Tensor) -> Tensor:
    """(D,) singular values, largest first, of the matrix whose rows gave X^T X.

    Those below about 1e-8 of the largest are rounding.
    """
    return torch.linalg.eigvalsh(gram_DD).flip(0).clamp_min(0).sqrt()
