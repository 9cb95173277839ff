"""R-Drop against both Kullback-Leibler divergences, position by position.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from semtube.objectives.r_drop import RDrop
from semtube.objectives.trajectories import Trajectories

RTOL = 1e-10


def probabilities(logits_V: Tensor) -> list[Tensor]:
    weights = [value.exp() for value in logits_V]
    return [weight / sum(weights) for weight in weights]


def symmetric_divergence(first_V: Tensor, second_V: Tensor) -> Tensor:
    p, q = probabilities(first_V), probabilities(second_V)
    forward = sum(a * (a / b).log() for a, b in zip(p, q, strict=True))
    backward = sum(b * (b / a).log() for a, b in zip(p, q, strict=True))
    return (forward + backward) / 2


@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_equal_a_plain_loop(
    seed, layout, degenerate, dialogues_of, batch_of, toy_model, toy_encoder, check_oracle
):
    documents = dialogues_of(seed=seed) + dialogues_of(degenerate, seed=50)
    batch = batch_of(documents, layout)
    toy = toy_model()
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    again_BTD = (0.7 * hidden_BTD.detach() + 0.3 * hidden_BTD.detach().sin()).requires_grad_()
    encoder = toy_encoder(toy, batch.fields["input_ids_BT"], again_BTD)
    term = RDrop()(hidden_BTD, batch.trajectories, 5, encoder=encoder)
    document_BT = batch.trajectories.document_BT
    place_of = {int(document_BT[where[0]]): where for where in batch.place if where}

    def costs(document, states_TD: Tensor, n: int) -> list[Tensor]:
        return [
            symmetric_divergence(
                states_TD[j] @ toy.head_DV, again_BTD[place_of[n][j]] @ toy.head_DV
            )
            for j in document.predicting
        ]

    check_oracle(term, documents, batch, hidden_BTD, costs, again_BTD, rtol=RTOL)


def divergence_of(first_V: list[float], second_V: list[float]) -> float:
    class Head:
        def again(self) -> Tensor:
            return torch.tensor([[second_V, second_V]])

        def logits(self, states: Tensor) -> Tensor:
            return states

    ones_BT = torch.ones(1, 2, dtype=torch.bool)
    trajectories = Trajectories.build(attended_BT=ones_BT, content_BT=ones_BT)
    term = RDrop()(torch.tensor([[first_V, first_V]]), trajectories, 0, encoder=Head())
    assert term.count_N.tolist() == [1]  # the second token predicts nothing
    return term.total_N.item()


def test_closed_forms():
    assert divergence_of([0.3, -1.0, 2.0], [0.3, -1.0, 2.0]) == 0
    assert divergence_of([0.3, -1.0, 2.0], [5.3, 4.0, 7.0]) == pytest.approx(0, abs=1e-6)
    # p = (3/4, 1/4) against q = (1/4, 3/4): (1/2) log 3 either way.
    three = math.log(3)
    assert divergence_of([three, 0.0], [0.0, three]) == pytest.approx(three / 2, rel=1e-6)
    # p = (1/2, 1/2) against q = (3/4, 1/4): the two directions differ.
    forward = -0.5 * math.log(0.75)
    backward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    expected = (forward + backward) / 2
    assert divergence_of([0.0, 0.0], [three, 0.0]) == pytest.approx(expected, rel=1e-6)


def test_certain_predictions_give_a_finite_cost_and_gradient(
    dialogues_of, batch_of, toy_model, toy_encoder
):
    # Probabilities that are 0 in float32.
    batch = batch_of(dialogues_of(), "right")
    hidden_BTD = (1000 * batch.hidden_BTD).requires_grad_()
    again_BTD = (-500 * batch.hidden_BTD).requires_grad_()
    encoder = toy_encoder(toy_model(), batch.fields["input_ids_BT"], again_BTD)
    term = RDrop()(hidden_BTD, batch.trajectories, 0, encoder=encoder)
    term.mean_N.sum().backward()
    assert (term.total_N > 10).all()
    assert term.total_N.isfinite().all()
    assert hidden_BTD.grad.isfinite().all()
    assert again_BTD.grad.isfinite().all()


def test_both_passes_get_a_gradient(dialogues_of, batch_of, toy_model, toy_encoder):
    batch = batch_of(dialogues_of(), "left")
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    again_BTD = (hidden_BTD.detach() + 0.1).requires_grad_()
    encoder = toy_encoder(toy_model(), batch.fields["input_ids_BT"], again_BTD)
    RDrop()(hidden_BTD, batch.trajectories, 0, encoder=encoder).total_N.sum().backward()
    predicting_BT = batch.trajectories.predicting_BT
    for leaf in (hidden_BTD, again_BTD):
        touched_BT = leaf.grad.abs().sum(-1) > 0
        assert torch.equal(touched_BT, predicting_BT)
