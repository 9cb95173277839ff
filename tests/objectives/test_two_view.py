"""Two-view against plain loops over the tokens of each view.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from semtube.objectives import two_view
from semtube.objectives.directions import at_rate as faster
from semtube.objectives.trajectories import ANSWER, PROMPT, SYSTEM, TEMPLATE, Trajectories
from semtube.objectives.two_view import TwoView

FORMS = ("displacement", "mean", "branch")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What was drawn below which bound, last call last."""
    record = []
    real = two_view.draw_below

    def spy(key: Tensor, bound: Tensor) -> Tensor:
        record.append(real(key, bound))
        assert (record[-1] < bound.clamp_min(1)).all()
        return record[-1]

    monkeypatch.setattr(two_view, "draw_below", spy)
    return record


def cosine_cost(first_D: Tensor, second_D: Tensor) -> Tensor | None:
    if first_D.norm() <= 1e-6 or second_D.norm() <= 1e-6:
        return None
    return 1 - first_D @ second_D / (first_D.norm() * second_D.norm())


def view_cost(
    objective: TwoView,
    prompt: list[int],
    answer: list[int],
    states_TD: Tensor,
    drawn_rank: int,
    change_DD: Tensor | None,
) -> Tensor | None:
    """From the places of the two views in the document."""
    if objective.form != "mean":  # a token without a token before it has no increment
        prompt, answer = [j for j in prompt if j > 0], [j for j in answer if j > 0]
    if not prompt or not answer:
        return None
    if objective.form == "branch":
        prompt = prompt[: drawn_rank + 1]
    vectors = []
    for view in (prompt, answer):
        vector_D = torch.zeros_like(states_TD[0])
        for j in view:
            if objective.form == "mean":
                vector_D = vector_D + states_TD[j] / len(view)
            else:
                vector_D = vector_D + (states_TD[j] - states_TD[j - 1])
        vectors.append(vector_D)
    prompt_D, answer_D = vectors
    if change_DD is not None:
        prompt_D = prompt_D + faster(change_DD, objective.predictor_rate) @ prompt_D
    return cosine_cost(prompt_D, answer_D)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("predictor", ["none", "linear"])
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_equal_a_plain_loop(
    form, predictor, seed, layout, drawn, degenerate, dialogues_of, batch_of, parts_of, check_oracle
):
    objective = TwoView(form=form, predictor=predictor, predictor_rate=3.0)
    documents = dialogues_of(seed=seed) + dialogues_of(degenerate, seed=50 + seed)
    batch = batch_of(documents, layout)
    parts = parts_of(objective)
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    term = objective(hidden_BTD, batch.trajectories, key=seed, parts=parts)
    change_DD = parts.change if predictor == "linear" else None
    ranks = drawn[-1].tolist() if form == "branch" else [0] * len(term.count_N)
    check_oracle(
        term,
        documents,
        batch,
        hidden_BTD,
        lambda document, states_TD, n: [
            view_cost(
                objective,
                document.places(PROMPT),
                document.places(ANSWER),
                states_TD,
                ranks[n],
                change_DD,
            )
        ],
        *([] if change_DD is None else [change_DD]),
    )
    # Five documents have both views in full; two tokens that begin the text have a mean alone.
    assert term.count_N.sum() == (6 if form == "mean" else 5)


def test_the_displacement_of_a_stretch_leads_from_the_token_before_it_to_its_last():
    roles = [TEMPLATE, PROMPT, PROMPT, TEMPLATE, ANSWER, ANSWER, TEMPLATE]
    states_TD = torch.tensor(
        [(0.0, 0), (9, 9), (1, 0), (5, 5), (-7, 3), (5 + math.cos(1), 5 + math.sin(1)), (8, 8)],
        dtype=torch.float64,
    )
    cost_N = cost_of(TwoView(), roles, states_TD).total_N
    assert cost_N.item() == pytest.approx(1 - math.cos(1), abs=1e-12)


@pytest.mark.parametrize(
    ("prompt", "answer", "cost"),
    [
        (((1.0, 1.0), (1.0, 3.0)), ((2.0, 4.0),), 0.0),
        (((1.0, 0.0),), ((0.0, 1.0), (0.0, 5.0)), 1.0),
        (((1.0, 0.0), (1.0, 2.0)), ((-3.0, -3.0),), 2.0),
    ],
)
def test_the_mean_is_over_the_states_of_each_view(prompt, answer, cost):
    roles = [PROMPT] * len(prompt) + [SYSTEM] + [ANSWER] * len(answer)
    states_TD = torch.tensor([*prompt, (7.0, -9.0), *answer]).double()
    term = cost_of(TwoView(form="mean"), roles, states_TD)
    assert term.total_N.item() == pytest.approx(cost, abs=1e-12)
    assert term.count_N.tolist() == [1]


def cost_of(objective: TwoView, roles: list[int], states_TD: Tensor, key: int = 0):
    role_BT = torch.tensor([roles])
    trajectories = Trajectories.build(
        attended_BT=role_BT >= 0,
        content_BT=role_BT >= 0,
        prompt_BT=role_BT == PROMPT,
        answer_BT=role_BT == ANSWER,
    )
    return objective(states_TD[None], trajectories, key)


def test_choices_with_the_role_template_are_skipped():
    # Question, then choices A to C of which B is right: h_t - h_r' against h_r - h_s.
    roles = [TEMPLATE, PROMPT, PROMPT, TEMPLATE, TEMPLATE, ANSWER, ANSWER, TEMPLATE]
    states_TD = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).double()
    question_D, right_D = states_TD[2] - states_TD[0], states_TD[6] - states_TD[4]
    expected = cosine_cost(question_D, right_D)
    torch.testing.assert_close(cost_of(TwoView(), roles, states_TD).total_N[0], expected)


def test_a_branch_ends_at_every_token_of_the_prompt_alike():
    # The prompt's state after token j stands at angle j tenths, the answer's at 0.
    rows, length = 1200, 5
    tenths_T = torch.arange(1, length + 1) / 10
    ends_TD = torch.stack([tenths_T.cos(), tenths_T.sin()], dim=-1)
    states_TD = torch.cat([torch.zeros(1, 2), ends_TD, torch.zeros(1, 2), torch.ones(1, 2)])
    states_TD[-1] = torch.tensor([1.0, 0.0])
    roles_T = torch.tensor([TEMPLATE, *[PROMPT] * length, TEMPLATE, ANSWER])
    role_BT = roles_T.expand(rows, -1)
    trajectories = Trajectories.build(
        attended_BT=role_BT >= 0,
        content_BT=role_BT >= 0,
        input_ids_BT=torch.arange(rows)[:, None].expand(-1, len(roles_T)),
        prompt_BT=role_BT == PROMPT,
        answer_BT=role_BT == ANSWER,
    )
    hidden_BTD = states_TD.double().expand(rows, -1, -1)
    for key in (0, 1):
        cost_N = TwoView(form="branch")(hidden_BTD, trajectories, key).total_N
        ends = Counter((10 * torch.arccos(1 - cost_N)).round().int().tolist())
        assert sorted(ends) == [1, 2, 3, 4, 5]
        # Each end has probability 1/5: 5 standard deviations of a binomial count.
        spread = 5 * math.sqrt(rows * 0.2 * 0.8)
        assert all(abs(count - rows / 5) < spread for count in ends.values())


def test_a_view_that_does_not_move_costs_nothing_and_sends_no_nan():
    roles = [TEMPLATE, PROMPT, PROMPT, ANSWER]
    states_TD = torch.ones(4, 3, dtype=torch.float64)
    states_TD[3] = 2
    states_TD.requires_grad_()
    term = cost_of(TwoView(), roles, states_TD)
    assert term.count_N.tolist() == [0]
    term.mean_N.sum().backward()
    assert not states_TD.grad.any()


def test_the_linear_predictor_is_the_identity_at_first(dialogues_of, batch_of):
    batch = batch_of(dialogues_of(), "right")
    objective = TwoView(predictor="linear")
    parts = objective.build_parts(5)
    total_N = objective(batch.hidden_BTD, batch.trajectories, 0, parts=parts).total_N
    assert torch.equal(total_N, TwoView()(batch.hidden_BTD, batch.trajectories, 0).total_N)
    total_N.sum().backward()
    assert parts.change.grad.abs().max() > 1e-3
