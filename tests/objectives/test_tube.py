"""The tube loss against closed forms and against a plain loop written from the papers.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from semtube.objectives import tube
from semtube.objectives.catalogue import objective_from_dict
from semtube.objectives.directions import MIN_LENGTH, turning_cost
from semtube.objectives.trajectories import Trajectories
from semtube.objectives.tube import SemanticTube

OBJECTIVES = [
    SemanticTube(draws=3),
    SemanticTube(draws=2, law="anchored"),
    SemanticTube(draws=4, max_length=3),
    SemanticTube(draws=2, law="anchored", max_length=2),
    SemanticTube(form="span", draws=3),
    SemanticTube(form="span", draws=3, law="sequential"),
    SemanticTube(form="span", draws=2, law="anchored"),
    SemanticTube(form="span", draws=3, max_length=2),
    SemanticTube(form="span", draws=3, law="sequential", max_length=1),
]
BOTH_FORMS = [SemanticTube(draws=3), SemanticTube(form="span", draws=3)]


def name_of(value: object) -> str | None:
    if isinstance(value, SemanticTube):
        return f"{value.form}-{value.law}-{value.max_length}"
    return None


# --- The oracle: plain loops over documents and draws, given the positions that were drawn.


@dataclass
class Drawn:
    """What the samplers returned in the last call: ranks per document and draw."""

    ranks: list[list[list[int]]] | None = None


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    record = Drawn()
    for name in ("draw_triplets", "draw_spans"):
        real = getattr(tube, name)

        def spy(*args, real=real, **kwargs):
            ranks, valid_N = real(*args, **kwargs)
            record.ranks = ranks.tolist()
            return ranks, valid_N

        monkeypatch.setattr(tube, name, spy)
    return record


def one_minus_cosine(first_D: Tensor, second_D: Tensor) -> Tensor | None:
    """None where one of the two has no direction."""
    if first_D.norm() <= 1e-6 or second_D.norm() <= 1e-6:
        return None
    return 1 - torch.dot(first_D, second_D) / (first_D.norm() * second_D.norm())


def triplet_cost(states_TD: Tensor, content: list[int], ranks: list[int]) -> Tensor | None:
    """1 - cos(h_t - h_r, h_r - h_s) (paper, section 3)."""
    s, r, t = (content[rank] for rank in ranks)
    return one_minus_cosine(states_TD[t] - states_TD[r], states_TD[r] - states_TD[s])


def segments_of(positions: list[int]) -> list[tuple[int, int]]:
    """Runs of positions without a gap, as (first, last)."""
    runs: list[tuple[int, int]] = []
    for position in positions:
        if runs and runs[-1][1] == position - 1:
            runs[-1] = (runs[-1][0], position)
        else:
            runs.append((position, position))
    return runs


def displacement(states_TD: Tensor, positions: list[int]) -> Tensor:
    """Summed over the segments: state at the last token minus state before the first."""
    return sum(
        (states_TD[last] - states_TD[first - 1] for first, last in segments_of(positions)),
        start=torch.zeros_like(states_TD[0]),
    )


def span_cost(states_TD: Tensor, content: list[int], ranks: list[int]) -> Tensor | None:
    """1 - cos(p, T - p) (the authors' code)."""
    moving = [position for position in content if position > 0]  # the first has no state before it
    start, stop = ranks
    span_D = displacement(states_TD, moving[start:stop])
    return one_minus_cosine(span_D, displacement(states_TD, moving) - span_D)


def expected_term(
    objective: SemanticTube,
    batch,
    ranks: list[list[list[int]]],
    document_BT: Tensor,
    hidden_BTD: Tensor,
) -> tuple[Tensor, list[int]]:
    """Total and count of each document, in the order of the batch's documents."""
    totals = {}
    for places in batch.place:
        if not places:
            continue
        rows, columns = zip(*places, strict=True)
        states_TD = hidden_BTD[list(rows), list(columns)].double()
        inside = batch.fields["content_BT"][list(rows), list(columns)].tolist()
        content = [position for position, kept in enumerate(inside) if kept]
        n = int(document_BT[places[0]])
        total, count = torch.zeros((), dtype=torch.float64), 0
        enough = (
            len(content) >= 3
            if objective.form == "triplet"
            else sum(position > 0 for position in content) >= 2
        )
        for draw in ranks[n] if enough else []:
            cost_of = triplet_cost if objective.form == "triplet" else span_cost
            cost = cost_of(states_TD, content, draw)
            if cost is not None:
                total, count = total + cost, count + 1
        totals[n] = (total, count)
    in_order = [totals[n] for n in sorted(totals)]
    return torch.stack([total for total, _ in in_order]), [count for _, count in in_order]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_equal_a_plain_loop(
    objective, seed, layout, drawn, documents_of, batch_of
):
    documents = documents_of([9, 1, 2, 12, 3, 6, 20], seed=seed)
    batch = batch_of(documents, layout)
    trajectories = batch.trajectories
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    term = objective(hidden_BTD, trajectories, key=seed)
    total_N, count_N = expected_term(
        objective, batch, drawn.ranks, trajectories.document_BT, hidden_BTD
    )
    assert term.count_N.tolist() == count_N
    assert sum(count_N) >= 3 * objective.draws
    torch.testing.assert_close(term.total_N, total_N, rtol=1e-12, atol=1e-12)
    # Each document under its own factor, so that a mix-up between documents shows.
    factor_N = torch.linspace(0.5, 2, len(total_N), dtype=torch.float64)
    (ours_BTD,) = torch.autograd.grad((factor_N * term.total_N).sum(), hidden_BTD)
    (theirs_BTD,) = torch.autograd.grad((factor_N * total_N).sum(), hidden_BTD)
    assert theirs_BTD.abs().max() > 1e-3
    torch.testing.assert_close(ours_BTD, theirs_BTD, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_the_mean_is_the_total_over_the_count_and_zero_without_one(
    objective, documents_of, batch_of
):
    batch = batch_of(documents_of([9, 1, 12], seed=4), "right")
    term = objective(batch.hidden_BTD.requires_grad_(), batch.trajectories, key=0)
    assert term.count_N[1] == 0
    assert term.mean_N[1] == 0
    assert term.mean_N.requires_grad
    torch.testing.assert_close(term.mean_N[0] * term.count_N[0], term.total_N[0])
    assert term.count_N[2] == objective.draws


# --- Closed forms.


def term_of(objective: SemanticTube, states_NTD: Tensor, key: int = 0):
    """Every row a document, every token content; the rows differ in their token ids."""
    rows, tokens = states_NTD.shape[:2]
    ones_BT = torch.ones(rows, tokens, dtype=torch.bool)
    ids_BT = torch.arange(rows)[:, None].expand(rows, tokens)
    trajectories = Trajectories.build(attended_BT=ones_BT, content_BT=ones_BT, input_ids_BT=ids_BT)
    return objective(states_NTD, trajectories, key)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_a_straight_line_costs_nothing_at_any_pace(objective):
    pace_T = torch.tensor([0.0, 1, 1.5, 4, 4.25, 7, 12, 13]).double()
    direction_D = torch.tensor([1.0, -2, 0.5]).double()
    term = term_of(objective, (5 + pace_T[:, None] * direction_D).expand(6, 8, 3))
    torch.testing.assert_close(term.mean_N, torch.zeros(6).double(), atol=1e-12, rtol=0)
    assert (term.count_N == objective.draws).all()


@pytest.mark.parametrize("form", ["triplet", "span"])
@pytest.mark.parametrize(
    ("third", "cost"),
    [
        ((2.0, 0.0), 0.0),
        ((1.0, 1.0), 1.0),
        ((0.0, 0.0), 2.0),
        ((2.0, 1.0), 1 - math.cos(math.pi / 4)),
        ((0.0, 1.0), 1 - math.cos(3 * math.pi / 4)),
        ((1.5, math.sqrt(0.75)), 1 - math.cos(math.pi / 3)),
    ],
)
def test_one_turn_costs_one_minus_the_cosine_of_its_angle(form, third, cost):
    states_TD = torch.tensor([(0.0, 0.0), (1.0, 0.0), third], dtype=torch.float64)
    term = term_of(SemanticTube(form=form, draws=2), states_TD[None])
    assert term.mean_N.item() == pytest.approx(cost, abs=1e-12)


@pytest.mark.parametrize(
    ("objective", "paths", "cosine"),
    [
        # Independent increments: no two displacements know of each other.
        (SemanticTube(), "walk", 0.0),
        (SemanticTube(max_length=4), "walk", 0.0),
        (SemanticTube(form="span"), "walk", 0.0),
        (SemanticTube(form="span", law="sequential"), "walk", 0.0),
        # Independent states: u = h_r - h_s, v = h_t - h_r share -h_r: -1 / (sqrt 2 sqrt 2).
        (SemanticTube(), "points", -1 / 2),
        (SemanticTube(law="anchored"), "points", -1 / 2),
        (SemanticTube(form="span", law="anchored"), "points", -1 / 2),
    ],
    ids=name_of,
)
def test_random_paths_cost_what_their_correlation_says(objective, paths, cosine):
    rows, width = 400, 300
    generator = torch.Generator().manual_seed(3)
    states_NTD = torch.randn(rows, 12, width, generator=generator, dtype=torch.float64)
    if paths == "walk":
        states_NTD = states_NTD.cumsum(1)
    cost_N = term_of(objective, states_NTD).mean_N
    # A sample correlation over D pairs: mean rho - rho (1 - rho^2) / 2D, variance
    # (1 - rho^2)^2 / D. One draw per row, so the rows are independent.
    expected = 1 - cosine * (1 - (1 - cosine**2) / (2 * width))
    spread = (1 - cosine**2) / math.sqrt(width)
    assert cost_N.mean().item() == pytest.approx(expected, abs=4 * spread / math.sqrt(rows))
    # Standard error of a standard deviation: spread / sqrt(2 rows).
    assert cost_N.std().item() == pytest.approx(spread, abs=5 * spread / math.sqrt(2 * rows))


def test_an_interior_span_of_independent_states_costs_one_and_the_root_of_a_half(drawn):
    # p = h_b - h_a and T - p = (h_L - h_0) - p: cosine -2 / (sqrt 2 sqrt 4), not -1/2.
    generator = torch.Generator().manual_seed(3)
    states_NTD = torch.randn(600, 12, 300, generator=generator, dtype=torch.float64)
    cost_N = term_of(SemanticTube(form="span"), states_NTD).mean_N
    interior_N = torch.tensor([start > 0 and stop < 11 for ((start, stop),) in drawn.ranks])
    assert interior_N.sum() > 300
    tolerance = 5 * 0.5 / math.sqrt(300 * interior_N.sum()) + 1e-3
    assert cost_N[interior_N].mean().item() == pytest.approx(1 + math.sqrt(0.5), abs=tolerance)
    tolerance = 5 * 0.75 / math.sqrt(300 * (~interior_N).sum()) + 1e-3
    assert cost_N[~interior_N].mean().item() == pytest.approx(1.5, abs=tolerance)


def test_the_forms_agree_on_anchored_spans_of_contiguous_text(drawn, documents_of, batch_of):
    # Span [0, k) of increments against the rest is the triplet (0, k, last), the paper's "Zero".
    batch = batch_of(documents_of([10, 7], seed=1, all_content=True), "right")
    objective = SemanticTube(form="span", law="anchored", draws=3)
    term = objective(batch.hidden_BTD, batch.trajectories, key=0)
    for n, length in enumerate([10, 7]):
        states_TD = batch.hidden_BTD[n, :length]
        costs = [
            triplet_cost(states_TD, list(range(length)), [0, stop, length - 1])
            for _, stop in drawn.ranks[n]
        ]
        torch.testing.assert_close(term.total_N[n], torch.stack(costs).sum())


# --- Properties.


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_moving_turning_and_scaling_a_trajectory_leave_its_cost(objective, documents_of, batch_of):
    batch = batch_of(documents_of([9, 12, 5], seed=6), "right")
    cost_N = objective(batch.hidden_BTD, batch.trajectories, key=1).mean_N
    generator = torch.Generator().manual_seed(0)
    turn_DD = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64)).Q
    scale_B11 = torch.tensor([1e-3, 1.0, 40.0]).double()[:, None, None]
    shift_B1D = 10 * torch.randn(3, 1, 5, generator=generator, dtype=torch.float64)
    moved_BTD = scale_B11 * batch.hidden_BTD @ turn_DD + shift_B1D
    moved_N = objective(moved_BTD, batch.trajectories, key=1).mean_N
    torch.testing.assert_close(moved_N, cost_N, rtol=1e-9, atol=1e-9)
    assert cost_N.abs().min() > 1e-3
    reversed_N = objective(-batch.hidden_BTD, batch.trajectories, key=1).mean_N
    torch.testing.assert_close(reversed_N, cost_N)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_padding_packing_and_order_change_no_documents_cost(
    objective, layout, documents_of, batch_of
):
    documents = documents_of([9, 2, 12, 5, 30], seed=7)
    batch = batch_of(documents, layout)
    trajectories = batch.trajectories
    term = objective(batch.hidden_BTD, trajectories, key=3)
    for document, places in zip(documents, batch.place, strict=True):
        alone = batch_of([document], "right")
        expected = objective(alone.hidden_BTD, alone.trajectories, key=3)
        n = int(trajectories.document_BT[places[0]])
        torch.testing.assert_close(term.total_N[n], expected.total_N[0], rtol=1e-10, atol=1e-10)
        assert term.count_N[n] == expected.count_N[0]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_only_states_of_the_path_get_a_gradient(objective, layout, documents_of, batch_of):
    batch = batch_of(documents_of([9, 2, 12, 5], seed=8), layout)
    trajectories = batch.trajectories
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    objective(hidden_BTD, trajectories, key=3).total_N.sum().backward()
    touched_BT = hidden_BTD.grad.abs().sum(-1) > 0
    assert not touched_BT[batch.padding_BT].any()
    for places in batch.place:
        content = [bool(trajectories.content_BT[place]) for place in places]
        for j, place in enumerate(places):
            if objective.form == "triplet":
                assert not touched_BT[place] or content[j]
            else:  # the state before a segment is its origin
                assert not touched_BT[place] or content[j] or ([*content, False])[j + 1]


@pytest.mark.parametrize("objective", BOTH_FORMS, ids=name_of)
def test_a_documents_cost_sends_no_gradient_to_other_documents(objective, documents_of, batch_of):
    batch = batch_of(documents_of([9, 12, 5, 8], seed=8), "packed_positions")
    trajectories = batch.trajectories
    for n in range(4):
        hidden_BTD = batch.hidden_BTD.detach().requires_grad_()
        objective(hidden_BTD, trajectories, key=3).total_N[n].backward()
        # The span form's running sum leaves rounding residue, 1e-16 of the gradient in float64.
        touched_BT = hidden_BTD.grad.abs().sum(-1) > 1e-13 * hidden_BTD.grad.abs().max()
        assert touched_BT.any()
        assert (trajectories.document_BT[touched_BT] == n).all()


@pytest.mark.parametrize(
    "objective",
    [
        SemanticTube(draws=3),
        SemanticTube(form="span", draws=3),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_states_of_padding_may_be_anything(objective, value, documents_of, batch_of):
    # A fully masked attention row is NaN in some kernels.
    batch = batch_of(documents_of([9, 12, 0, 5], seed=8), "left")
    clean = objective(batch.hidden_BTD, batch.trajectories, key=3)
    hidden_BTD = batch.hidden_BTD.clone()
    hidden_BTD[batch.padding_BT] = value
    hidden_BTD.requires_grad_()
    term = objective(hidden_BTD, batch.trajectories, key=3)
    torch.testing.assert_close(term.total_N, clean.total_N)
    (grad_BTD,) = torch.autograd.grad(term.total_N.sum(), hidden_BTD)
    assert grad_BTD[~batch.padding_BT].isfinite().all()


@pytest.mark.parametrize("objective", BOTH_FORMS, ids=name_of)
def test_steps_and_documents_draw_apart_and_the_same_step_draws_alike(
    objective, drawn, documents_of, batch_of
):
    batch = batch_of(documents_of([40] * 6, seed=9), "right")
    trajectories = batch.trajectories

    def ranks(key: int) -> list:
        objective(batch.hidden_BTD, trajectories, key)
        return drawn.ranks

    assert ranks(5) == ranks(5)
    assert len({str(ranks(key)) for key in (0, 1, 2, 2**32, 2**32 + 1, 5 * 2**40)}) == 6
    assert len({str(of_document) for of_document in ranks(5)}) == 6


# --- Precision.


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_half_precision_states_are_computed_with_in_float32(
    objective, stored, documents_of, batch_of
):
    batch = batch_of(documents_of([9, 2, 12, 40], seed=10), "right")
    hidden_BTD = batch.hidden_BTD.to(stored).requires_grad_()
    term = objective(hidden_BTD, batch.trajectories, key=2)
    wide_BTD = hidden_BTD.detach().float().requires_grad_()
    expected = objective(wide_BTD, batch.trajectories, key=2)
    assert term.total_N.dtype == torch.float32
    assert torch.equal(term.total_N, expected.total_N)
    assert torch.equal(term.count_N, expected.count_N)
    term.total_N.sum().backward()
    expected.total_N.sum().backward()
    rounding = torch.finfo(stored).eps * wide_BTD.grad.abs().max().item()
    assert hidden_BTD.grad.dtype == stored
    torch.testing.assert_close(
        hidden_BTD.grad.float(), wide_BTD.grad, rtol=0, atol=objective.draws * rounding
    )


@pytest.mark.parametrize("objective", BOTH_FORMS, ids=name_of)
def test_float32_is_near_float64_on_long_packed_rows(objective, documents_of, batch_of):
    # The span form sums increments along the row: its error must not grow with the row.
    documents = documents_of([100] * 60, width=32, seed=11)
    batch = batch_of(documents, "packed_positions")
    exact_N = objective(batch.hidden_BTD, batch.trajectories, key=2).mean_N
    term_N = objective(batch.hidden_BTD.float(), batch.trajectories, key=2).mean_N
    torch.testing.assert_close(term_N.double(), exact_N, rtol=0, atol=2e-5)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_the_gradient_passes_gradcheck(objective, documents_of, batch_of):
    batch = batch_of(documents_of([7, 2, 6], width=3, seed=12), "right")
    trajectories = batch.trajectories
    hidden_BTD = batch.hidden_BTD.clone()
    hidden_BTD[batch.padding_BT] = 0.5  # loud padding would cost digits of the differences
    assert torch.autograd.gradcheck(
        lambda value: objective(value, trajectories, 0).total_N, hidden_BTD.requires_grad_()
    )


# --- Degenerate inputs.


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_very_short_documents_give_numbers_and_finite_gradients(
    objective, dtype, length, document_type, documents_of, batch_of
):
    documents = documents_of([length, 5], seed=13, all_content=True)
    batch = batch_of(documents, "right")
    hidden_BTD = batch.hidden_BTD.to(dtype).requires_grad_()
    term = objective(hidden_BTD, batch.trajectories, key=0)
    # A triplet needs three tokens, and so do two increments.
    assert (term.count_N[0] > 0) == (length == 3)
    term.mean_N.sum().backward()
    assert term.total_N.isfinite().all()
    assert hidden_BTD.grad.isfinite().all()
    assert length == 3 or not hidden_BTD.grad[0].any()


def test_an_increment_from_the_template_counts(document_type, batch_of):
    # The first content token moves from the template token before it, so two tokens suffice.
    states_TD = torch.tensor([[0.0, 0], [1, 0], [1, 1]]).double()
    batch = batch_of([document_type([1, 2, 3], [False, True, True], states_TD)], "right")
    span = SemanticTube(form="span")(batch.hidden_BTD, batch.trajectories, key=0)
    assert span.mean_N.tolist() == [1.0]
    assert span.count_N.tolist() == [1]
    triplet = SemanticTube()(batch.hidden_BTD, batch.trajectories, key=0)
    assert triplet.count_N.tolist() == [0]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
@pytest.mark.parametrize("states", ["still", "below", "one_moves"])
def test_displacements_without_a_direction_are_left_out(objective, states):
    hidden_BTD = torch.ones(2, 6, 4)
    if states == "below":
        hidden_BTD = hidden_BTD * 0 + torch.arange(6)[None, :, None] * (MIN_LENGTH / 100)
    if states == "one_moves":
        hidden_BTD[1] = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    hidden_BTD.requires_grad_()
    term = term_of(objective, hidden_BTD)
    assert term.count_N.tolist() == [0, objective.draws if states == "one_moves" else 0]
    term.mean_N.sum().backward()
    assert term.total_N[0] == 0
    assert not hidden_BTD.grad[0].any()
    assert hidden_BTD.grad.isfinite().all()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_a_batch_of_padding_costs_nothing(objective):
    zeros_BT = torch.zeros(2, 5, dtype=torch.bool)
    trajectories = Trajectories.build(
        attended_BT=zeros_BT, content_BT=~zeros_BT, input_ids_BT=torch.zeros(2, 5).long()
    )
    hidden_BTD = torch.randn(2, 5, 3, requires_grad=True)
    term = objective(hidden_BTD, trajectories, key=0)
    term.mean_N.sum().backward()
    assert term.total_N.tolist() == [0, 0]
    assert term.count_N.tolist() == [0, 0]
    assert not hidden_BTD.grad.any()


@pytest.mark.parametrize("objective", BOTH_FORMS, ids=name_of)
def test_rows_of_one_token_cost_nothing(objective):
    term = term_of(objective, torch.randn(3, 1, 4))
    assert term.count_N.tolist() == [0, 0, 0]


def test_the_turning_cost_has_a_finite_gradient_at_zero_and_at_the_kinks():
    first = torch.tensor([[0.0, 0], [0, 0], [1, 0], [1, 0], [1e-6, 0]], requires_grad=True)
    second = torch.tensor([[0.0, 0], [1, 0], [1, 0], [-1, 0], [1, 0]], requires_grad=True)
    cost, defined = turning_cost(first, second)
    assert defined.tolist() == [False, False, True, True, False]
    torch.testing.assert_close(cost, torch.tensor([0.0, 0, 0, 2, 0]))
    cost.sum().backward()
    assert first.grad.isfinite().all()
    assert second.grad.isfinite().all()
    assert not first.grad[[0, 1, 4]].any()
    assert not second.grad[[0, 1, 4]].any()


@pytest.mark.parametrize("length", [1e-5, 1e4, 1e8])
def test_very_short_and_very_long_displacements_keep_their_angle_in_float32(length):
    first, second = length * torch.tensor([[1.0, 0]]), torch.tensor([[1.0, 1.0]])
    cost, defined = turning_cost(first, second)
    assert defined.all()
    torch.testing.assert_close(cost, torch.tensor([1 - math.sqrt(0.5)]))


# --- Cost in time and memory.


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_neither_the_term_nor_its_gradient_reads_the_device_back_or_loops_over_documents(
    objective, watch, documents_of, batch_of
):
    def operations(number: int):
        batch = batch_of(documents_of([6] * number, seed=1), "right")
        hidden_BTD, trajectories = batch.hidden_BTD.requires_grad_(), batch.trajectories
        with watch() as seen:
            objective(hidden_BTD, trajectories, key=0).mean_N.sum().backward()
        return seen.counts

    assert operations(2) == operations(50)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=name_of)
def test_the_graph_keeps_nothing_of_the_size_of_the_states(objective, documents_of, batch_of):
    batch = batch_of(documents_of([200] * 4, width=16, seed=1), "right")
    hidden_BTD = batch.hidden_BTD.float().requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.untyped_storage().nbytes()) or tensor, lambda t: t
    ):
        objective(hidden_BTD, batch.trajectories, key=0).mean_N.sum()
    assert kept
    assert max(kept) < hidden_BTD.untyped_storage().nbytes() / 8


# --- Configuration.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"form": "line"}, r"form is 'line': use one of \('triplet', 'span'\)"),
        ({"law": "sequential"}, r"law is 'sequential': form 'triplet' takes"),
        ({"form": "span", "law": "zero"}, r"law is 'zero': form 'span' takes"),
        ({"max_length": 1}, r"max_length is 1: a whole number of at least 2"),
        ({"form": "span", "max_length": 0}, r"max_length is 0: a whole number of at least 1"),
        ({"draws": 0}, r"draws is 0"),
        ({"weight": -0.1}, r"weight is -0\.1"),
        ({"weight": float("nan")}, r"weight is nan"),
        ({"weight": float("inf")}, r"weight is inf"),
        ({"content": "prompt"}, r"content is 'prompt': use one of"),
        ({"layer": 0}, r"layer is 0"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(fields, message):
    with pytest.raises(ValueError, match=message):
        SemanticTube(**fields)


@pytest.mark.parametrize(
    "fields", [{"max_length": 2}, {"form": "span", "max_length": 1}, {"weight": 0.0}, {"layer": -3}]
)
def test_the_smallest_admissible_values_are_taken(fields):
    assert SemanticTube(**fields).to_dict().items() >= fields.items()


@pytest.mark.parametrize(
    "objective",
    [*OBJECTIVES, SemanticTube(0.5, "span", 2, "sequential", 9, 3, "answer")],
    ids=name_of,
)
def test_a_dict_gives_an_equal_objective_back(objective):
    fields = objective.to_dict()
    assert objective_from_dict(fields) == objective
    assert hash(objective_from_dict(fields)) == hash(objective)
    assert fields["objective"] == "tube"  # reading took nothing out of it
    assert objective_from_dict({"objective": "tube"}) == SemanticTube()
    assert replace(objective, weight=0.7) != objective


def test_objectives_print_the_call_that_makes_them():
    assert repr(SemanticTube(weight=0.04, draws=2)) == "SemanticTube(weight=0.04, draws=2)"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "tube", "lbd": 1}, r"no option 'lbd'"),
        ({"objective": "jepa"}, r"objective is 'jepa'"),
        ({"weight": 0.1}, r"objective is None"),
        ({"objective": "tube", "draws": 0}, r"draws is 0"),
    ],
)
def test_unknown_objectives_and_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        objective_from_dict(fields)
