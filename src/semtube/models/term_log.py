"""Averages of the term between two reads of the device."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, distributed


class TermLog:
    """Sums over documents, kept on the device.

    Args:
        what: the objective, for the warning that it finds nothing.
        num_layers: an objective over several layers adds itself once for each.
    """

    def __init__(self, what: str, num_layers: int) -> None:
        self._what, self._num_layers = what, num_layers
        self._warned = self._ever_counted = False
        self._sums: Tensor | None = None

    def add(self, mean_N: Tensor, counted_N: Tensor, present_N: Tensor) -> None:
        """One layer's share of one forward pass: mean costs, which are defined, which exist."""
        # A mean that is not defined is 0.
        sums = torch.stack([mean_N, counted_N, present_N]).sum(-1, dtype=torch.float64)
        self._sums = sums if self._sums is None else self._sums + sums

    def pop(self, *, all_processes: bool = False) -> dict[str, float]:
        """See `Attachment.pop_logs`; empty where nothing was added."""
        sums, self._sums = self._sums, None
        if sums is None:
            return {}
        if all_processes and distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        total, counted, documents = sums.tolist()
        mean = {"term_loss": total / counted} if counted else {}
        self._ever_counted |= counted > 0
        if not counted:
            self._warn()
        counted, documents = counted / self._num_layers, documents / self._num_layers
        return {**mean, "term_documents": counted, "term_skipped": documents - counted}

    def warn_if_empty(self) -> None:
        """Tell who never read the log that no document had a cost. Reads the device once."""
        if not self._ever_counted and self._sums is not None and not self._sums[1]:
            self._warn()

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._what} found no document that it can use (too short, or without a prompt "
                "or answer): the term is zero",
                stacklevel=4,
            )
