"""How far the states move over stretches of text: sums of increments, made of their ends.

Shape letters: B rows, T tokens, D hidden size, S slots: stretches, or sets of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from semtube.objectives.objective import widened


def sum_of_states(hidden_BTD: Tensor, slot_BT: Tensor, num_slots: int) -> Tensor:
    """(S, D) sum of the states in each slot, at least in float32.

    Args:
        hidden_BTD: states, any float type.
        slot_BT: int64 slot of each token, S for none.
        num_slots: S.
    """
    states = widened(hidden_BTD.flatten(0, 1))
    # What is in no slot has a row of its own: multiplied by 0, padding that is not finite would
    # spread.
    total = states.new_zeros(num_slots + 1, states.shape[-1])
    return total.scatter_add(0, slot_BT.view(-1, 1).expand_as(states), states)[:num_slots]


def sum_of_increments(hidden_BTD: Tensor, slot_BT: Tensor, num_slots: int) -> Tensor:
    """(S, D) sum of the increments h_i - h_{i-1} of the tokens in each slot, as above.

    Increments of neighbours cancel but for their ends: a state counts +1 where it ends a stretch
    of its slot and -1 where a stretch begins right behind it.

    Args:
        slot_BT: as above; only tokens with an increment (`Trajectories.moving`) are in a slot.
    """
    behind_BT = torch.full_like(slot_BT, num_slots)
    behind_BT[:, :-1] = slot_BT[:, 1:]
    inside_BT = slot_BT == behind_BT
    ends, begins = (x.masked_fill(inside_BT, num_slots).flatten() for x in (slot_BT, behind_BT))
    return _SumOfEnds.apply(hidden_BTD.flatten(0, 1), ends, begins, num_slots + 1)[:num_slots]


class _SumOfEnds(torch.autograd.Function):
    """Sums of states by one slot less sums by another; autograd's own would keep all states."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, ends: Tensor, begins: Tensor, num_slots: int) -> Tensor:
        ctx.save_for_backward(ends.int(), begins.int())
        states = widened(states)
        nothing = states.new_zeros(num_slots, states.shape[-1])
        return nothing.index_add(0, ends, states) - nothing.index_add(0, begins, states)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        ends, begins = ctx.saved_tensors
        # Autograd casts it to the states' own type.
        grad_states = grad.index_select(0, ends) - grad.index_select(0, begins)
        return grad_states, None, None, None
