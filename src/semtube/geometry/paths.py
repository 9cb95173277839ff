"""The states of each document's content, one after another, cut free of the batch they came in.

Shape letters: B rows, T tokens, D hidden size, N documents, L longest path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from semtube.errors import UserError
from semtube.geometry.rounding import shortest_displacement
from semtube.objectives.objective import widened
from semtube.objectives.trajectories import Trajectories


@dataclass(frozen=True)
class Paths:
    """Trajectories to be measured; gradients end here.

    A document's path is the same however it was padded or packed, but for L. A document with a
    state that is not finite has an empty path, so every measure leaves it out and counts it.

    Args:
        states_NLD: float32 or float64; 0 behind a path's end, whatever padding held.
        size_N: int64, how many states each path has.
        key_N: int64, see `Trajectories`.
        shortest_N: float64, `shortest_displacement` of the mean length of the document's states.
        not_finite_N: int64, the first content token whose state is not finite; -1 for none.
    """

    states_NLD: Tensor
    size_N: Tensor
    key_N: Tensor
    shortest_N: Tensor
    not_finite_N: Tensor

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
        not_finite_N, inside_NL = _whole(states_NLD, inside_NL)
        states_NLD = states_NLD.masked_fill(~inside_NL[..., None], 0)
        size_N = torch.where(not_finite_N < 0, size_N, 0)
        shortest_N = _shortest(states_NLD, size_N)
        return cls(states_NLD, size_N, trajectories.key_N, shortest_N, not_finite_N)

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
        ends_NLD = states[place_NL].double()
        steps_NLD = ends_NLD - states[place_NL - 1].double()
        not_finite_N, inside_NL = _whole(steps_NLD, inside_NL)
        ends_NLD, steps_NLD = (
            x.masked_fill(~inside_NL[..., None], 0) for x in (ends_NLD, steps_NLD)
        )
        path_NLD = steps_NLD.cumsum(1).masked_fill(~inside_NL[..., None], 0)
        is_whole_N = not_finite_N < 0
        shortest_N = _shortest(ends_NLD, torch.where(is_whole_N, size_N, 0))
        size_N = torch.where(trajectories.present_N & is_whole_N, size_N + 1, 0)
        path_NLD = F.pad(path_NLD, (0, 0, 1, 0))
        return cls(path_NLD, size_N, trajectories.key_N, shortest_N, not_finite_N)

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

    @cached_property
    def steps_NLD(self) -> Tensor:
        """(N, L - 1, D) from each state to the next, see `moving`; meaningless behind the end."""
        return self.moving(self.states_NLD.diff(dim=1))

    def moving(self, displacement_NLD: Tensor) -> Tensor:
        """Displacements between states; 0, so without direction, where they are rounding."""
        length_NL = torch.linalg.vector_norm(displacement_NLD, dim=-1)
        is_rounding_NL = length_NL <= self.shortest_N[:, None]
        return displacement_NLD.masked_fill(is_rounding_NL[..., None], 0)

    def check_finite(self, layer: object, examples: Sequence[object]) -> None:
        """Refuse states that are not finite.

        Args:
            layer: what to call the layer.
            examples: what to call each document.

        Raises:
            UserError: naming the layer, the first such example and its first such token.
        """
        _refuse(self.not_finite_N, layer, examples, lambda k: f"content token {k}")


def check_ends(
    states_ND: Tensor, layer: object, examples: Sequence[object], ends: Sequence[str]
) -> None:
    """Refuse states, one of each example in turn for every end, that are not finite.

    Args:
        ends: what to call the places: with two, states go by example, first end, second end.

    Raises:
        UserError: naming the layer, the first such example and its first such end.
    """
    bad_NE = ~states_ND.isfinite().all(-1).unflatten(0, (len(examples), len(ends)))
    _refuse(_first(bad_NE), layer, examples, lambda k: ends[k])


def _refuse(
    first_N: Tensor, layer: object, examples: Sequence[object], told: Callable[[int], str]
) -> None:
    if (first_N >= 0).any():
        document = int((first_N >= 0).nonzero()[0])
        raise UserError(
            f"layer {layer}, example {examples[document]}: the hidden state of "
            f"{told(int(first_N[document]))} is not finite; probe a checkpoint whose states are"
        )


def _first(bad_NL: Tensor) -> Tensor:
    """(N,) the first place that is marked; -1 for none."""
    return torch.where(bad_NL.any(1), bad_NL.int().argmax(1), -1)


def _whole(vectors_NLD: Tensor, inside_NL: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) the first vector inside that is not finite; what is inside, less such documents."""
    first_N = _first(inside_NL & ~vectors_NLD.isfinite().all(-1))
    return first_N, inside_NL & (first_N < 0)[:, None]


def _shortest(states_NLD: Tensor, size_N: Tensor) -> Tensor:
    """(N,) of states that are 0 where there is none."""
    length_N = torch.linalg.vector_norm(states_NLD, dim=-1).double().sum(1)
    return shortest_displacement(length_N / size_N.clamp_min(1))


def _places(trajectories: Trajectories, mask_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, L) flat index of the j-th token of a mask, whether there is one, and (N,) how many."""
    ranks = trajectories.ranks(mask_BT)
    # One place at least, so that a first state can be looked at in any batch.
    longest = max(1, int(ranks.size_N.max()))
    rank_L = torch.arange(longest, device=mask_BT.device)
    place_NL = ranks.flat_index(rank_L.expand(len(ranks.size_N), -1).contiguous())
    return place_NL, rank_L < ranks.size_N[:, None], ranks.size_N
