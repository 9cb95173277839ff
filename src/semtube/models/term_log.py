"""Averages of the term between two reads of the device."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


class TermLog:
    """Sums over documents, kept on the device.

    Args:
        num_layers: an objective over several layers adds itself once for each.
    """

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._sums: Tensor | None = None

    def add(self, mean_N: Tensor, counted_N: Tensor, present_N: Tensor) -> None:
        """One layer's share of one forward pass: mean costs, which are defined, which exist."""
        values = [mean_N * counted_N, counted_N, present_N]
        sums = torch.stack([value.double() for value in values]).sum(-1)
        self._sums = sums if self._sums is None else self._sums + sums

    def pop(self, *, all_processes: bool = False) -> dict[str, float]:
        """See `Attachment.pop_logs`; empty where nothing was added."""
        sums, self._sums = self._sums, None
        if sums is None:
            return {}
        if all_processes and distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        total, counted, documents = sums.tolist()
        counted, documents = counted / self._num_layers, documents / self._num_layers
        mean = {"term_loss": total / counted} if counted else {}
        return {**mean, "term_documents": counted, "term_skipped": documents - counted}
