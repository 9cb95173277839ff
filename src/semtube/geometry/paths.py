"""The states of each document's content, one after another, cut free of the batch they came in.

Shape letters: B rows, T tokens, D hidden size, N documents, L longest path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from semtube.errors import UserError
from semtube.objectives.objective import widened
from semtube.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class Paths:
    """Trajectories to be measured; gradients end here.

    A document's path is the same however it was padded or packed, but for L.

    Args:
        states_NLD: float32 or float64; 0 behind a path's end, whatever padding held.
        size_N: int64, how many states each path has.
        key_N: int64, see `Trajectories`.
    """

    states_NLD: Tensor
    size_N: Tensor
    key_N: Tensor

    @classmethod
    def of(cls, hidden: Tensor, content_BT: Tensor | None = None) -> Paths:
        """Of one document (T, D), or of rows (B, T, D), a document each.

        Args:
            hidden: states of any float type.
            content_BT: bool, which tokens belong to the trajectory; None for all.

        Raises:
            ValueError: other shapes.
        """
        if hidden.dim() == 2:
            hidden = hidden[None]
        if content_BT is None:
            content_BT = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        if hidden.dim() != 3 or content_BT.shape != hidden.shape[:2]:
            raise ValueError(
                f"wanted states (T, D), or (B, T, D) and content (B, T), "
                f"got {tuple(hidden.shape)} and {tuple(content_BT.shape)}"
            )
        trajectories = Trajectories.build(attended_BT=content_BT, content_BT=content_BT)
        return cls.of_documents(hidden, trajectories)

    @classmethod
    def of_documents(cls, hidden_BTD: Tensor, trajectories: Trajectories) -> Paths:
        """Of the documents of any batch: the states of their content, template stepped over.

        Finding the longest waits for the device once.
        """
        place_NL, inside_NL, size_N = _places(trajectories, trajectories.content_BT)
        states_NLD = widened(hidden_BTD.detach().flatten(0, 1)[place_NL])
        states_NLD = states_NLD.masked_fill(~inside_NL[..., None], 0)
        return cls(states_NLD, size_N, trajectories.key_N)

    @classmethod
    def of_increments(cls, hidden_BTD: Tensor, trajectories: Trajectories) -> Paths:
        """Paths on which the tube loss of the authors' code ("span") is a loss of two ends.

        z_0 = 0, z_j = z_{j-1} + (h_i - h_{i-1}) for the j-th content token i that has a token
        before it: a jump over template text is left out. Where all tokens are content, this is
        the path itself, moved to 0. In float64, so that sums lose nothing.
        """
        moving_BT = trajectories.moving(trajectories.content_BT)
        place_NL, inside_NL, size_N = _places(trajectories, moving_BT)
        states = hidden_BTD.detach().flatten(0, 1)
        steps_NLD = states[place_NL].double() - states[place_NL - 1].double()
        path_NLD = steps_NLD.masked_fill(~inside_NL[..., None], 0).cumsum(1)
        path_NLD = path_NLD.masked_fill(~inside_NL[..., None], 0)
        size_N = torch.where(trajectories.present_N, size_N + 1, 0)
        return cls(F.pad(path_NLD, (0, 0, 1, 0)), size_N, trajectories.key_N)

    @cached_property
    def inside_NL(self) -> Tensor:
        """(N, L) bool: where a path has a state."""
        place_L = torch.arange(self.states_NLD.shape[1], device=self.size_N.device)
        return place_L < self.size_N[:, None]

    @property
    def trajectories(self) -> Trajectories:
        """The paths as a batch whose every token is content, for objectives."""
        inside = self.inside_NL
        built = Trajectories.build(attended_BT=inside, content_BT=inside)
        return Trajectories(
            built.document_BT, inside, built.num_documents, self.key_N,
            built.prompt_BT, built.answer_BT, built.predicting_BT,
        )  # fmt: skip

    def rows(self) -> Tensor:
        """(tokens, D) all states, document after document: for measures over a set."""
        return self.states_NLD[self.inside_NL]

    def check_finite(self, layer: object, examples: Sequence[object]) -> None:
        """Refuse states that are not finite.

        Args:
            layer: what to call the layer.
            examples: what to call each document.

        Raises:
            UserError: naming the layer, the first such example and its first such token.
        """
        bad_NL = ~self.states_NLD.isfinite().all(-1)
        if bad_NL.any():
            document, token = bad_NL.nonzero()[0].tolist()
            raise UserError(
                f"layer {layer}, example {examples[document]}: the hidden state of content token "
                f"{token} is not finite; probe a checkpoint whose states are"
            )


def _places(trajectories: Trajectories, mask_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, L) flat index of the j-th token of a mask, whether there is one, and (N,) how many."""
    ranks = trajectories.ranks(mask_BT)
    # One place at least, so that a first state can be looked at in any batch.
    longest = max(1, int(ranks.size_N.max()))
    rank_L = torch.arange(longest, device=mask_BT.device)
    place_NL = ranks.flat_index(rank_L.expand(len(ranks.size_N), -1).contiguous())
    return place_NL, rank_L < ranks.size_N[:, None], ranks.size_N
