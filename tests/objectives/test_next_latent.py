"""Next-latent prediction against a loop over tokens, with its predictor written out.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from semtube.objectives.directions import at_rate as faster
from semtube.objectives.next_latent import NextLatent
from semtube.objectives.trajectories import ANSWER, PROMPT, TEMPLATE


def gelu(value: Tensor) -> Tensor:
    return value * (1 + torch.erf(value / math.sqrt(2))) / 2


def predicted(parts, rate: float, state_D: Tensor, token_D: Tensor) -> Tensor:
    """h + f(layer_norm([x; h]))."""
    both = torch.cat([token_D, state_D])
    centred = both - both.sum() / len(both)
    both = centred / (centred.pow(2).sum() / len(both) + 1e-5).sqrt()
    first, second, third = (
        faster(getattr(parts, name).weight, rate) for name in ("first", "second", "third")
    )
    return state_D + third @ gelu(second @ gelu(first @ both))


def smooth_l1(first_D: Tensor, second_D: Tensor) -> Tensor:
    costs = []
    for difference in first_D - second_D:
        size = difference.abs()
        costs.append(size**2 / 2 if size < 1 else size - 0.5)
    return sum(costs) / len(costs)


def costs_of(objective, document, states_TD, toy, parts) -> list[Tensor]:
    costs, inputs = [], toy.inputs(document.ids)
    for goal in document.path:
        for ahead in range(1, objective.horizon + 1):
            if goal - ahead < 0:
                continue
            guess_D = states_TD[goal - ahead]
            for j in range(goal - ahead + 1, goal + 1):
                guess_D = predicted(parts, objective.predictor_rate, guess_D, inputs[j])
            costs.append(smooth_l1(guess_D, states_TD[goal].detach()))
    return costs


@pytest.mark.parametrize(
    "objective",
    [
        NextLatent(),
        NextLatent(horizon=2),
        NextLatent(horizon=3, expansion=0.5, content="text"),
        NextLatent(horizon=2, content="answer", predictor_rate=5.0),
        NextLatent(expansion=2.0, content="instruction"),
    ],
    ids=repr,
)
def test_value_and_gradient_equal_a_plain_loop(
    objective, layout, degenerate, dialogues_of, batch_of, parts_of, toy_model, toy_encoder,
    check_oracle,
):  # fmt: skip
    shapes = {"content": objective.content, "width": 3}
    documents = dialogues_of(**shapes) + dialogues_of(degenerate, seed=50, **shapes)
    batch = batch_of(documents, layout)
    toy, parts = toy_model(width=3), parts_of(objective, width=3)
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    encoder = toy_encoder(toy, batch.fields["input_ids_BT"])
    term = objective(hidden_BTD, batch.trajectories, 5, parts=parts, encoder=encoder)
    check_oracle(
        term,
        documents,
        batch,
        hidden_BTD,
        lambda document, states_TD, n: costs_of(objective, document, states_TD, toy, parts),
        toy.table_VD,
        *parts.parameters(),
        rtol=1e-10,
    )


def test_the_inner_width_is_the_expansion_times_both_inputs():
    for expansion, inner in [(1.0, 12), (0.5, 6), (2.0, 24)]:
        parts = NextLatent(expansion=expansion).build_parts(6)
        shapes = [tuple(value.shape) for value in parts.parameters()]
        assert shapes == [(inner, 12), (inner, inner), (6, inner)]


def test_weights_start_at_the_same_spread_at_any_rate():
    for rate in (1.0, 40.0):
        parts = NextLatent(predictor_rate=rate).build_parts(64)
        for value in parts.parameters():
            assert value.std().item() * rate == pytest.approx(0.02, rel=0.05)


def test_states_that_the_predictor_foretells_cost_nothing(
    dialogue_of, batch_of, parts_of, toy_model, toy_encoder
):
    objective = NextLatent(horizon=2)
    document = dialogue_of([TEMPLATE, PROMPT, PROMPT, ANSWER, ANSWER], content="all")
    toy, parts = toy_model(), parts_of(objective)
    states = [document.states_TD[0]]
    for input_D in toy.inputs(document.ids)[1:]:
        states.append(predicted(parts, 1.0, states[-1], input_D).detach())
    document.states_TD = torch.stack(states)
    batch = batch_of([document], "left")
    encoder = toy_encoder(toy, batch.fields["input_ids_BT"])
    term = objective(batch.hidden_BTD, batch.trajectories, 0, parts=parts, encoder=encoder)
    assert term.count_N.tolist() == [4 + 3]
    assert term.total_N.item() == pytest.approx(0, abs=1e-12)


def test_the_predicted_state_is_a_fixed_target(
    dialogue_of, batch_of, parts_of, toy_model, toy_encoder
):
    # With one predicted token, only the state before it may move.
    document = dialogue_of([TEMPLATE, PROMPT, TEMPLATE, ANSWER], content="answer")
    objective = NextLatent(content="answer")
    batch = batch_of([document], "right")
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    encoder = toy_encoder(toy_model(), batch.fields["input_ids_BT"])
    term = objective(hidden_BTD, batch.trajectories, 0, parts=parts_of(objective), encoder=encoder)
    term.total_N.sum().backward()
    touched_T = hidden_BTD.grad[0].abs().sum(-1) > 0
    assert touched_T.nonzero().flatten().tolist() == [2]


def test_a_horizon_beyond_the_text_has_no_further_costs(
    dialogues_of, batch_of, parts_of, toy_model, toy_encoder
):
    batch = batch_of(dialogues_of([[PROMPT, PROMPT, ANSWER]], content="all"), "packed_cu")
    encoder = toy_encoder(toy_model(), batch.fields["input_ids_BT"])
    parts = parts_of(NextLatent())
    terms = [
        NextLatent(horizon=h)(batch.hidden_BTD, batch.trajectories, 0, parts=parts, encoder=encoder)
        for h in (2, 3, 50)
    ]
    assert [term.count_N.tolist() for term in terms] == [[3], [3], [3]]
    assert torch.equal(terms[0].total_N, terms[2].total_N)
