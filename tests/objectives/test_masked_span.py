"""Masked span against a loop that reads every text alone through the toy model.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from semtube.objectives import masked_span
from semtube.objectives.directions import at_rate as faster
from semtube.objectives.masked_span import MaskedSpan
from semtube.objectives.trajectories import ANSWER, PROMPT, TEMPLATE

TARGETS = ("displacement", "full", "span")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """The spans [start, stop) of each document in the last call."""
    record = []
    real = masked_span.draw_spans

    def spy(*args, **kwargs):
        spans_N12, valid_N = real(*args, **kwargs)
        record[:] = spans_N12[:, 0].tolist()
        return spans_N12, valid_N

    monkeypatch.setattr(masked_span, "draw_spans", spy)
    return record


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch):
    """Let every document have this span."""

    def fix(start: int, stop: int) -> None:
        def given(size_N: Tensor, *args, **kwargs):
            return torch.tensor([start, stop]).expand(len(size_N), 1, 2), size_N >= 2

        monkeypatch.setattr(masked_span, "draw_spans", given)

    return fix


def one_minus_cosine(first_D: Tensor, second_D: Tensor) -> Tensor | None:
    if first_D.norm() <= 1e-6 or second_D.norm() <= 1e-6:
        return None
    return 1 - first_D @ second_D / (first_D.norm() * second_D.norm())


def span_cost(objective, document, states_TD, span, toy, mask_D, change_DD) -> Tensor | None:
    if len(document.path) < 2:
        return None
    masked = document.path[span[0] : span[1]]
    inputs = toy.inputs(document.ids)
    with_hole = [mask_D if j in masked else inputs[j] for j in range(len(inputs))]
    guess_D = toy.read(with_hole)[document.path[-1]]
    if change_DD is not None:
        guess_D = guess_D + faster(change_DD, objective.predictor_rate) @ guess_D
    if objective.target == "span":
        return one_minus_cosine(guess_D, toy.read([inputs[j] for j in masked])[-1])
    if objective.target == "full":
        return one_minus_cosine(guess_D, states_TD[document.path[-1]])
    steps = [states_TD[j] - states_TD[j - 1] for j in masked if j > 0]
    return one_minus_cosine(guess_D, sum(steps)) if steps else None


@pytest.mark.parametrize(
    "objective",
    [
        *(MaskedSpan(target=target, predictor_rate=3.0) for target in TARGETS),
        *(MaskedSpan(target=target, predictor="linear", predictor_rate=3.0) for target in TARGETS),
        MaskedSpan(law="anchored", target="span"),
        MaskedSpan(law="sequential", max_length=2),
        MaskedSpan(content="all", max_length=3),
        MaskedSpan(content="instruction", target="full"),
        MaskedSpan(content="answer"),
    ],
    ids=repr,
)
def test_value_and_gradient_equal_a_plain_loop(
    objective, layout, drawn, degenerate, dialogues_of, batch_of, parts_of, toy_model, toy_encoder,
    check_oracle,
):  # fmt: skip
    shapes = {"content": objective.content}
    documents = dialogues_of(**shapes) + dialogues_of(degenerate, seed=50, **shapes)
    batch = batch_of(documents, layout)
    toy, parts = toy_model(), parts_of(objective)
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    encoder = toy_encoder(toy, batch.fields["input_ids_BT"])
    term = objective(hidden_BTD, batch.trajectories, 5, parts=parts, encoder=encoder)
    change_DD = getattr(parts.map, "change", None)
    mask_D = faster(parts.stored_KD[0], objective.predictor_rate)
    check_oracle(
        term,
        documents,
        batch,
        hidden_BTD,
        lambda document, states_TD, n: [
            span_cost(objective, document, states_TD, drawn[n], toy, mask_D, change_DD)
        ],
        toy.table_VD,
        *parts.parameters(),
        rtol=1e-10,
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("layout", ["left", "packed_cu"])
def test_a_span_may_reach_over_the_template_from_the_prompt_into_the_answer(
    target, layout, fixed, dialogues_of, batch_of, parts_of, toy_model, toy_encoder, check_oracle
):
    # Content 1, 2, 5, 6: the span takes the prompt's end and the answer's begin.
    roles = [TEMPLATE, PROMPT, PROMPT, TEMPLATE, TEMPLATE, ANSWER, ANSWER, TEMPLATE]
    documents = dialogues_of([roles, [TEMPLATE, *roles], roles[1:]])
    batch = batch_of(documents, layout)
    objective = MaskedSpan(target=target)
    toy, parts = toy_model(), parts_of(objective)
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    fixed(1, 3)
    encoder = toy_encoder(toy, batch.fields["input_ids_BT"])
    term = objective(hidden_BTD, batch.trajectories, 0, parts=parts, encoder=encoder)
    mask_D = faster(parts.stored_KD[0], objective.predictor_rate)

    def by_hand(document, states_TD, n) -> list[Tensor]:
        shift = document.roles.index(PROMPT)  # of the first prompt token
        inputs = toy.inputs(document.ids)
        a, b = shift + 1, shift + 4  # prompt's end, answer's begin
        target_D = {
            "displacement": (states_TD[a] - states_TD[a - 1]) + (states_TD[b] - states_TD[b - 1]),
            "full": states_TD[shift + 5],
            "span": toy.read([inputs[a], inputs[b]])[-1],
        }[target]
        inputs[a] = inputs[b] = mask_D
        return [one_minus_cosine(toy.read(inputs)[shift + 5], target_D)]

    check_oracle(term, documents, batch, hidden_BTD, by_hand, toy.table_VD, parts.stored_KD)


def test_a_masked_first_token_has_no_displacement_but_the_other_targets(
    fixed, dialogues_of, batch_of, parts_of, toy_model, toy_encoder
):
    batch = batch_of(dialogues_of([[PROMPT, PROMPT, ANSWER]]), "right")
    fixed(0, 1)
    for target in TARGETS:
        objective = MaskedSpan(target=target)
        encoder = toy_encoder(toy_model(), batch.fields["input_ids_BT"])
        parts = parts_of(objective)
        term = objective(batch.hidden_BTD, batch.trajectories, 0, parts=parts, encoder=encoder)
        counts = target != "displacement"
        assert term.count_N.tolist() == [int(counts)]
        term.mean_N.sum().backward()
        assert parts.stored_KD.grad.isfinite().all()
        assert bool(parts.stored_KD.grad.any()) is counts


def test_what_is_behind_the_last_content_token_is_not_read(
    dialogues_of, batch_of, parts_of, toy_model, toy_encoder
):
    # t is the last content token, so the template behind it must not matter.
    (document,) = dialogues_of([[TEMPLATE, PROMPT, PROMPT, TEMPLATE, ANSWER, ANSWER, TEMPLATE]])
    objective, toy = MaskedSpan(target="full"), toy_model()
    batch = batch_of([document], "right")
    parts = parts_of(objective)
    trajectories = batch.trajectories

    def cost(place: int) -> Tensor:
        ids_BT = batch.fields["input_ids_BT"].clone()
        ids_BT[0, place] = 60
        encoder = toy_encoder(toy, ids_BT)
        return objective(
            batch.hidden_BTD, trajectories, 1, parts=parts, encoder=encoder
        ).total_N.detach()

    unchanged = objective(
        batch.hidden_BTD, trajectories, 1, parts=parts,
        encoder=toy_encoder(toy, batch.fields["input_ids_BT"]),
    ).total_N.detach()  # fmt: skip
    assert torch.equal(cost(6), unchanged)
    assert not torch.equal(cost(0), unchanged)  # the template before it is read


def test_the_predictor_starts_at_the_identity_and_the_mask_at_a_small_vector(
    dialogues_of, batch_of, toy_model, toy_encoder
):
    batch = batch_of(dialogues_of(), "right")
    encoder = toy_encoder(toy_model(), batch.fields["input_ids_BT"])
    torch.manual_seed(0)
    with_matrix = MaskedSpan(predictor="linear").build_parts(5)
    without = MaskedSpan().build_parts(5)
    without.stored_KD.data = with_matrix.stored_KD.data
    costs = [
        objective(batch.hidden_BTD, batch.trajectories, 0, parts=parts, encoder=encoder).total_N
        for objective, parts in [
            (MaskedSpan(predictor="linear"), with_matrix),
            (MaskedSpan(), without),
        ]
    ]
    assert torch.equal(*costs)
    assert not with_matrix.map.change.any()
    wide = MaskedSpan(predictor_rate=7.0).build_parts(4000)
    assert wide.stored_KD.std().item() * 7 == pytest.approx(0.02, rel=0.05)
