"""Sums of states and increments against plain loops.

Shape letters: B rows, T tokens, D hidden size, S slots, N documents.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from semtube.objectives.displacements import sum_of_increments, sum_of_states

SLOTS = 4


def slots(batch, *, moving: bool, seed: int = 0) -> Tensor:
    """(B, T) random slots in stretches, SLOTS for none; padding is in none."""
    generator = torch.Generator().manual_seed(seed)
    document_BT = batch.trajectories.document_BT
    slot_BT = torch.randint(SLOTS + 1, document_BT.shape, generator=generator)
    again_BT = torch.rand(document_BT.shape, generator=generator) < 0.6
    for column in range(1, document_BT.shape[1]):
        before = again_BT[:, column]
        slot_BT[before, column] = slot_BT[before, column - 1]
    inside_BT = document_BT >= 0
    if moving:
        inside_BT = batch.trajectories.moving(inside_BT)
    return torch.where(inside_BT, slot_BT, SLOTS)


def plain_sum(states_BTD: Tensor, slot_BT: Tensor) -> Tensor:
    total = [torch.zeros_like(states_BTD[0, 0]) for _ in range(SLOTS)]
    for states_TD, row in zip(states_BTD, slot_BT.tolist(), strict=True):
        for state_D, slot in zip(states_TD, row, strict=True):
            if slot < SLOTS:
                total[slot] = total[slot] + state_D
    return torch.stack(total)


def increments(states_BTD: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(states_BTD[:, :1]), states_BTD.diff(dim=1)], dim=1)


@pytest.mark.parametrize("moving", [False, True], ids=["states", "increments"])
@pytest.mark.parametrize("seed", [0, 1])
def test_sums_and_their_gradients_equal_a_plain_loop(moving, seed, layout, documents_of, batch_of):
    batch = batch_of(documents_of([7, 1, 12, 5], seed=seed), layout)
    slot_BT = slots(batch, moving=moving, seed=seed)
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    total = sum_of_increments if moving else sum_of_states
    ours_SD = total(hidden_BTD, slot_BT, SLOTS)
    theirs_SD = plain_sum(increments(hidden_BTD) if moving else hidden_BTD, slot_BT)
    torch.testing.assert_close(ours_SD, theirs_SD, rtol=1e-12, atol=1e-12)
    factor_SD = torch.linspace(0.5, 2, ours_SD.numel(), dtype=torch.float64).view_as(ours_SD)
    gradients = [
        torch.autograd.grad((factor_SD * sum_SD).sum(), hidden_BTD)[0]
        for sum_SD in (ours_SD, theirs_SD)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("total", [sum_of_states, sum_of_increments])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float32])
def test_sums_are_wide_and_padding_may_be_anything(total, stored, documents_of, batch_of):
    batch = batch_of(documents_of([7, 12, 5]), "left")
    slot_BT = slots(batch, moving=True)
    hidden_BTD = batch.hidden_BTD.to(stored)
    hidden_BTD[batch.padding_BT] = math.nan
    hidden_BTD.requires_grad_()
    found_SD = total(hidden_BTD, slot_BT, SLOTS)
    clean_BTD = hidden_BTD.detach().float().nan_to_num(0)
    torch.testing.assert_close(found_SD, total(clean_BTD, slot_BT, SLOTS))
    found_SD.sum().backward()
    assert hidden_BTD.grad.dtype == stored
    assert not hidden_BTD.grad[batch.padding_BT].any()


@pytest.mark.parametrize("total", [sum_of_states, sum_of_increments])
def test_the_graph_keeps_no_states(total, documents_of, batch_of):
    batch = batch_of(documents_of([50] * 4, width=64), "right")
    hidden_BTD = batch.hidden_BTD.bfloat16().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.untyped_storage().nbytes()) or tensor, lambda t: t
    ):
        total(hidden_BTD, slots(batch, moving=True), SLOTS)
    assert kept
    assert max(kept) < hidden_BTD.untyped_storage().nbytes() / 8
