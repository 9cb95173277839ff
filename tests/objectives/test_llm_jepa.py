"""LLM-JEPA against a loop that reads every view alone through the toy model.

Shape letters: B rows, T tokens, D hidden size, K predictor tokens, N documents.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from semtube.objectives.directions import at_rate as faster
from semtube.objectives.llm_jepa import LLMJepa
from semtube.objectives.trajectories import ANSWER, PROMPT, TEMPLATE

DISTANCES = ("cosine", "l2", "mse", "infonce")


def encodings(objective, document, toy, parts) -> tuple[Tensor, Tensor] | None:
    """What is predicted and what it should be; None without both views."""
    source, target = document.places(PROMPT), document.places(ANSWER)
    if objective.reverse:
        source, target = target, source
    if not source or not target:
        return None
    inputs = toy.inputs(document.ids)
    learned = []
    if objective.predictor_tokens:
        learned = [faster(vector_D, objective.predictor_rate) for vector_D in parts.stored_KD]
        assert len(learned) == objective.predictor_tokens
    predicted_D = toy.read([inputs[j] for j in source] + learned)[-1]
    if objective.predictor == "linear":
        change_DD = faster(parts.map.change, objective.predictor_rate)
        predicted_D = predicted_D + change_DD @ predicted_D
    return predicted_D, toy.read([inputs[j] for j in target])[-1]


def cosine(first_D: Tensor, second_D: Tensor) -> Tensor:
    return first_D @ second_D / (first_D.norm() * second_D.norm())


def distance(objective, own: int, pairs: list[tuple[Tensor, Tensor] | None]) -> Tensor | None:
    """Of the document's own pair; the others are the negatives of infonce."""
    if pairs[own] is None:
        return None
    first_D, second_D = pairs[own]
    if objective.distance == "cosine":
        return 1 - cosine(first_D, second_D)
    if objective.distance == "l2":
        return (first_D - second_D).pow(2).sum().sqrt()
    if objective.distance == "mse":
        return (first_D - second_D).pow(2).sum() / len(first_D)
    weights = [(cosine(first_D, pair[1]) / objective.temperature).exp() for pair in pairs if pair]
    return -((cosine(first_D, second_D) / objective.temperature).exp() / sum(weights)).log()


@pytest.mark.parametrize(
    "objective",
    [
        *(LLMJepa(distance=distance, predictor_rate=3.0) for distance in DISTANCES),
        *(LLMJepa(distance=distance, predictor_tokens=0) for distance in DISTANCES),
        *(LLMJepa(distance=distance, reverse=True) for distance in DISTANCES),
        LLMJepa(predictor_tokens=2, predictor_rate=10.0),
        LLMJepa(predictor_tokens=2, predictor="linear", predictor_rate=3.0, distance="mse"),
        LLMJepa(predictor_tokens=0, predictor="linear", predictor_rate=3.0, distance="infonce"),
        LLMJepa(predictor_tokens=4, reverse=True, predictor="linear", distance="l2"),
        LLMJepa(distance="infonce", temperature=0.5),
    ],
    ids=repr,
)
def test_value_and_gradient_equal_a_plain_loop(
    objective, layout, degenerate, dialogues_of, batch_of, parts_of, toy_model, toy_encoder,
    check_oracle,
):  # fmt: skip
    documents = dialogues_of() + dialogues_of(degenerate, seed=50)
    batch = batch_of(documents, layout)
    toy, parts = toy_model(), parts_of(objective)
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    encoder = toy_encoder(toy, batch.fields["input_ids_BT"])
    term = objective(hidden_BTD, batch.trajectories, 5, parts=parts, encoder=encoder)
    pairs = [encodings(objective, document, toy, parts) for document in documents]
    check_oracle(
        term,
        documents,
        batch,
        hidden_BTD,
        lambda document, _, n: [distance(objective, documents.index(document), pairs)],
        toy.table_VD,
        *([] if parts is None else parts.parameters()),
        rtol=1e-10,
    )
    assert term.count_N.sum() == 6  # five shapes and the prompt and answer of one token each
    assert (parts is None) == (objective.predictor_tokens == 0 and objective.predictor == "none")


@pytest.mark.parametrize("name", DISTANCES)
def test_two_equal_views_are_no_distance_apart(name, dialogue_of, batch_of, toy_model, toy_encoder):
    objective, toy = LLMJepa(distance=name, predictor_tokens=0), toy_model()
    terms = []
    for answer in ([8, 9], [9, 8]):
        document = dialogue_of([TEMPLATE, PROMPT, PROMPT, ANSWER, ANSWER])
        document.ids = [7, 8, 9, *answer]
        batch = batch_of([document], "right")
        encoder = toy_encoder(toy, batch.fields["input_ids_BT"])
        terms.append(objective(batch.hidden_BTD, batch.trajectories, 0, encoder=encoder))
    equal, unequal = terms
    assert equal.count_N.tolist() == [1]
    # An l2 of 0 has no slope; it is held at the shortest length that has a direction.
    assert equal.total_N.item() == pytest.approx(0, abs=1.1e-6 if name == "l2" else 1e-12)
    equal.total_N.sum().backward()
    assert toy.table_VD.grad.isfinite().all()
    # The one document of a batch is its own only candidate.
    assert (unequal.total_N.item() > 0.01) == (name != "infonce")


def test_infonce_of_random_encodings_costs_at_least_the_log_of_the_documents(
    dialogues_of, batch_of, toy_model, toy_encoder
):
    # At a high temperature all documents are equally likely.
    objective = LLMJepa(distance="infonce", temperature=1e6, predictor_tokens=0)
    batch = batch_of(dialogues_of(), "right")
    encoder = toy_encoder(toy_model(), batch.fields["input_ids_BT"])
    term = objective(batch.hidden_BTD, batch.trajectories, 0, encoder=encoder)
    expected_N = torch.full((5,), 5, dtype=torch.float64).log()
    torch.testing.assert_close(term.total_N, expected_N, rtol=0, atol=1e-5)


def test_infonce_without_any_pair_is_zero_with_a_finite_gradient(
    dialogues_of, batch_of, toy_model, toy_encoder
):
    batch = batch_of(dialogues_of([[PROMPT], [ANSWER, ANSWER], [TEMPLATE], []]), "right")
    toy = toy_model()
    encoder = toy_encoder(toy, batch.fields["input_ids_BT"])
    objective = LLMJepa(distance="infonce", predictor_tokens=0)
    term = objective(batch.hidden_BTD, batch.trajectories, 0, encoder=encoder)
    assert term.total_N.tolist() == [0, 0, 0, 0]
    assert term.count_N.tolist() == [0, 0, 0, 0]
    term.mean_N.sum().backward()
    assert not toy.table_VD.grad.any()


def test_template_and_system_tokens_are_in_neither_view(
    dialogues_of, batch_of, parts_of, toy_model, toy_encoder
):
    (document, *_) = dialogues_of()
    batch = batch_of([document], "right")
    toy, objective = toy_model(), LLMJepa()
    encoder = toy_encoder(toy, batch.fields["input_ids_BT"])
    parts = parts_of(objective)
    objective(
        batch.hidden_BTD, batch.trajectories, 0, parts=parts, encoder=encoder
    ).total_N.sum().backward()
    touched = {number for number in range(64) if toy.table_VD.grad[number].any()}
    read = document.places(PROMPT) + document.places(ANSWER)
    assert touched == {document.ids[j] for j in read}


def test_parts_start_small_and_the_matrix_at_the_identity():
    parts = LLMJepa(predictor_tokens=3, predictor="linear", predictor_rate=50.0).build_parts(3000)
    assert parts.stored_KD.shape == (3, 3000)
    assert parts.stored_KD.std().item() * 50 == pytest.approx(0.02, rel=0.05)
    assert not parts.map.change.any()
