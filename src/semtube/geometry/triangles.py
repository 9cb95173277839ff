"""Triangles of the states at s < r < t: everything the tube is about is in their three sides.

Shape letters: N documents, L longest path, D hidden size, K distances in tokens, R places of r in a
window, S places of a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from semtube.geometry.paths import Paths
from semtube.objectives.directions import MIN_LENGTH


@dataclass(frozen=True)
class Triangles:
    """All triangles of one width t - s; float64.

    Args:
        before_NRS: |h_r - h_s| for r = s + 1 .. t - 1 (R) and every s (S).
        after_NRS: |h_t - h_r|.
        chord_NRS: |h_t - h_s|, the same for all r of a window.
        inside_NRS: bool, the window lies within the path.
    """

    before_NRS: Tensor
    after_NRS: Tensor
    chord_NRS: Tensor
    inside_NRS: Tensor

    def turning_cost(self) -> tuple[Tensor, Tensor]:
        """1 - cos(h_t - h_r, h_r - h_s), and whether it is defined, as in `directions`.

        ((a + b)^2 - c^2) / 2ab in the sides a, b and c: what is small is not the difference of
        two cosines.
        """
        a, b, c = self.before_NRS, self.after_NRS, self.chord_NRS
        defined = self.inside_NRS & (torch.minimum(a, b) > MIN_LENGTH)
        cost = (a + b - c) * (a + b + c) / (2 * a * b).clamp_min(MIN_LENGTH**2)
        return torch.where(defined, cost.clamp(0, 2), 0), defined

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """h_r - h_s along the chord (signed) and across it, and whether the chord has a direction.

        along = (a^2 + c^2 - b^2) / 2c; across from Heron's formula, which keeps the height of a
        flat triangle to about 1e-8 of its chord.
        """
        a, b, c = self.before_NRS, self.after_NRS, self.chord_NRS
        defined = self.inside_NRS & (c > MIN_LENGTH)
        base = c.clamp_min(MIN_LENGTH)
        along = ((a - b) * (a + b) / base + c) / 2
        sixteen_areas_squared = (a + b + c) * (a + b - c) * (a - b + c) * (b - a + c)
        across = sixteen_areas_squared.clamp_min(0).sqrt() / (2 * base)
        # The height of no triangle is more than either side: rounding may say so.
        across = torch.minimum(across, torch.minimum(a, b))
        return torch.where(defined, along, 0), torch.where(defined, across, 0), defined


def distances(paths: Paths, longest: int) -> Tensor:
    """(N, K, L) float64 |h_{i+k} - h_i| for k = 1 .. K, `longest` or L - 1 if that is less.

    0 where the two states are equal but for rounding, so that such a side has no direction.
    Meaningless where i + k is outside the path. Differences are taken and squared in float64: no
    product of large states that cancels.
    """
    states_NLD = paths.states_NLD.double()
    num_documents, length, _ = states_NLD.shape
    num_distances = max(min(longest, length - 1), 0)
    found_NKL = states_NLD.new_zeros(num_documents, num_distances, length)
    for k in range(1, num_distances + 1):
        apart_NSD = states_NLD[:, k:] - states_NLD[:, :-k]
        found_NKL[:, k - 1, :-k] = torch.linalg.vector_norm(apart_NSD, dim=-1)
    return found_NKL.masked_fill(found_NKL <= paths.shortest_N[:, None, None], 0)


def triangles(paths: Paths, widths: range | tuple[int, ...]) -> Iterator[Triangles]:
    """The triangles of each width t - s, in tokens of the path; at least 2.

    Raises:
        ValueError: a width below 2, in which there is no r.
    """
    if any(width < 2 for width in widths):
        raise ValueError(f"widths are {tuple(widths)}: a window s < r < t is 2 tokens wide or more")
    from_start_NKL = distances(paths, max(widths, default=0))
    # The same by the later end: to_end[k - 1, t] = |h_t - h_{t-k}|.
    to_end_NKL = torch.zeros_like(from_start_NKL)
    for k in range(1, from_start_NKL.shape[1] + 1):
        to_end_NKL[:, k - 1, k:] = from_start_NKL[:, k - 1, :-k]
    num_documents, length = paths.inside_NL.shape
    for width in widths:
        if width >= length:
            nothing = from_start_NKL.new_zeros(num_documents, 0, 0)
            yield Triangles(nothing, nothing, nothing, nothing.bool())
            continue
        places = length - width
        shape = (num_documents, width - 1, places)
        yield Triangles(
            from_start_NKL[:, : width - 1, :places],
            to_end_NKL[:, : width - 1, width:].flip(1),
            from_start_NKL[:, width - 1 : width, :places].expand(shape),
            paths.inside_NL[:, None, width:].expand(shape),
        )
