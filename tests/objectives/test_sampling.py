"""Draws of triplets and spans: admissible, and exactly as probable as their law says."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
import torch
from scipy import stats

from semtube.objectives.random_keys import fold
from semtube.objectives.sampling import ContentRanks, draw_spans, draw_triplets

NUM_DOCUMENTS = 30_000


def triplet_law(size: int, law: str, max_length: int | None) -> dict[tuple, Fraction]:
    """Probability of every triplet, by enumeration."""
    admissible = [
        (s, r, t)
        for s, r, t in combinations(range(size), 3)
        if (max_length is None or t - s <= max_length) and (law == "uniform" or s == 0)
    ]
    return {triplet: Fraction(1, len(admissible)) for triplet in admissible}


def span_law(size: int, law: str, max_length: int | None) -> dict[tuple, Fraction]:
    """Probability of every span [start, stop), by enumeration.

    sequential: P(start, stop) = 1/size * 1/(number of stops admissible behind that start).
    """
    admissible = [
        (start, stop)
        for start in range(size)
        for stop in range(start + 1, size + 1)
        if (start, stop) != (0, size) and (max_length is None or stop - start <= max_length)
    ]
    if law == "anchored":
        admissible = [span for span in admissible if span[0] == 0]
    if law != "sequential":
        return {span: Fraction(1, len(admissible)) for span in admissible}
    stops = [sum(start == first for first, _ in admissible) for start in range(size)]
    return {(start, stop): Fraction(1, size * stops[start]) for start, stop in admissible}


def keys(number: int, seed: int = 0) -> torch.Tensor:
    return fold(torch.arange(number), 1000 + seed)


def pvalue(drawn: torch.Tensor, law: dict[tuple, Fraction]) -> float:
    """Chi-square of the drawn tuples (M, P) against their exact probabilities; 0 if one is not
    admissible."""
    assert sum(law.values()) == 1
    index = {place: j for j, place in enumerate(law)}
    tuples, number = drawn.unique(dim=0, return_counts=True)
    observed = [0] * len(law)
    for place, count in zip(tuples.tolist(), number.tolist(), strict=True):
        if tuple(place) not in index:
            return 0.0
        observed[index[tuple(place)]] = count
    if len(law) == 1:
        return 1.0
    expected = [float(share) * len(drawn) for share in law.values()]
    assert min(expected) > 5, "too few draws for the test"
    return stats.chisquare(observed, expected).pvalue


TRIPLET_CASES = [
    (size, law, max_length)
    for size in (3, 4, 5, 9)
    for law in ("uniform", "anchored")
    for max_length in (None, 2, 3, 5, 50)
]
SPAN_CASES = [
    (size, law, max_length)
    for size in (2, 3, 4, 5, 9)
    for law in ("uniform", "anchored", "sequential")
    for max_length in (None, 1, 2, 4, 50)
]


@pytest.mark.parametrize(("size", "law", "max_length"), TRIPLET_CASES)
def test_triplets_are_as_probable_as_enumeration_says(size, law, max_length):
    size_N = torch.full((NUM_DOCUMENTS,), size)
    triplets_NK3, valid_N = draw_triplets(
        size_N, keys(NUM_DOCUMENTS), 1, law=law, max_length=max_length
    )
    assert valid_N.all()
    assert pvalue(triplets_NK3[:, 0], triplet_law(size, law, max_length)) > 1e-4


@pytest.mark.parametrize(("size", "law", "max_length"), SPAN_CASES)
def test_spans_are_as_probable_as_enumeration_says(size, law, max_length):
    size_N = torch.full((NUM_DOCUMENTS,), size)
    spans_NK2, valid_N = draw_spans(size_N, keys(NUM_DOCUMENTS), 1, law=law, max_length=max_length)
    assert valid_N.all()
    assert pvalue(spans_NK2[:, 0], span_law(size, law, max_length)) > 1e-4


@pytest.mark.parametrize(("size", "max_length"), [(4, None), (7, 3)])
def test_the_sequential_formula_is_that_of_the_authors_loop(size, max_length):
    # Their loop (no limit): start uniform, stop uniform behind it, the stop drawn again while
    # the span is the whole text. Summed here over the geometric series of redraws.
    if max_length is None:
        law = {}
        for start in range(size):
            stops = [s for s in range(start + 1, size + 1) if (start, s) != (0, size)]
            redrawn = Fraction(1, size - start) if start == 0 else Fraction(0)
            for stop in stops:
                law[start, stop] = Fraction(1, size) * Fraction(1, size - start) / (1 - redrawn)
        assert law == span_law(size, "sequential", None)
    assert max(span_law(size, "sequential", max_length), key=lambda span: span[0])[0] == size - 1


def test_the_laws_differ_so_the_chi_square_can_fail():
    size_N = torch.full((NUM_DOCUMENTS,), 5)
    spans_NK2, _ = draw_spans(size_N, keys(NUM_DOCUMENTS), 1, law="sequential")
    assert pvalue(spans_NK2[:, 0], span_law(5, "uniform", None)) < 1e-9


@pytest.mark.parametrize("max_length", [None, 7])
def test_long_documents_keep_every_draw_admissible_and_the_span_lengths_right(max_length):
    # The window length is the root of a quadratic; rounding must not leak past the end.
    for size in (1000, 2**20 + 1, 2**31 - 1):
        size_N = torch.full((5000,), size)
        longest = size - 1 if max_length is None else max_length
        spans_NK2, _ = draw_spans(size_N, keys(5000), 2, max_length=max_length)
        start, stop = spans_NK2.unbind(-1)
        assert (start >= 0).all()
        assert (stop > start).all()
        assert (stop <= size).all()
        assert (stop - start <= longest).all()
        # E[length] = sum w (size + 1 - w) / sum (size + 1 - w), w = 1..longest.
        first = longest * (longest + 1) / 2
        second = longest * (longest + 1) * (2 * longest + 1) / 6
        mean = ((size + 1) * first - second) / ((size + 1) * longest - first)
        spread = (stop - start).double().std() / 10_000**0.5
        assert abs((stop - start).double().mean() - mean) < 5 * spread
        triplets_NK3, _ = draw_triplets(size_N, keys(5000), 2, max_length=max_length)
        assert (triplets_NK3.diff(dim=-1) > 0).all()
        assert triplets_NK3.min() >= 0
        assert triplets_NK3.max() < size


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_the_window_inversion_is_exact_at_the_ends_of_every_length(monkeypatch, shift):
    # Tickets at the first and last window of every length, where a rounded root would slip.
    from semtube.objectives import sampling

    for size in (2, 3, 10, 501, 3037):
        running = torch.tensor([size + 1 - w for w in range(1, size)]).cumsum(0)
        tickets = (torch.cat([torch.zeros(1).long(), running[:-1]]) + shift).clamp(
            0, int(running[-1]) - 1
        )
        drawn = iter([tickets[:, None], torch.zeros_like(tickets[:, None])])
        with monkeypatch.context() as patched:
            patched.setattr(sampling, "draw_below", lambda key, bound, drawn=drawn: next(drawn))
            spans_NK2, _ = draw_spans(torch.full((len(tickets),), size), keys(len(tickets)), 1)
        expected = 1 + torch.searchsorted(running, tickets, right=True)
        assert torch.equal(spans_NK2[:, 0, 1] - spans_NK2[:, 0, 0], expected)


DRAWS = [(draw_triplets, law, cap) for law in ("uniform", "anchored") for cap in (None, 3)] + [
    (draw_spans, law, cap) for law in ("uniform", "anchored", "sequential") for cap in (None, 3)
]


@pytest.mark.parametrize(("draw", "law", "max_length"), DRAWS)
def test_a_document_draws_the_same_whatever_stands_beside_it(draw, law, max_length):
    size_N, key_N = torch.arange(0, 40), keys(40)
    together, valid_N = draw(size_N, key_N, 3, law=law, max_length=max_length)
    for n in range(40):
        alone, valid = draw(size_N[n : n + 1], key_N[n : n + 1], 3, law=law, max_length=max_length)
        assert torch.equal(alone[0], together[n])
        assert valid[0] == valid_N[n]


@pytest.mark.parametrize(("draw", "law", "max_length"), DRAWS)
def test_more_draws_begin_with_the_same_draws(draw, law, max_length):
    size_N, key_N = torch.full((20,), 12), keys(20)
    few, _ = draw(size_N, key_N, 2, law=law, max_length=max_length)
    many, _ = draw(size_N, key_N, 6, law=law, max_length=max_length)
    assert torch.equal(many[:, :2], few)


@pytest.mark.parametrize(("draw", "law", "max_length"), DRAWS)
def test_documents_that_are_too_short_are_not_valid_and_all_zero(draw, law, max_length):
    needed = 3 if draw is draw_triplets else 2
    size_N = torch.tensor([0, 1, 2, 3, 4])
    drawn, valid_N = draw(size_N, keys(5), 4, law=law, max_length=max_length)
    assert valid_N.tolist() == [size >= needed for size in size_N.tolist()]
    assert not drawn[~valid_N].any()
    assert drawn.dtype == torch.long


def test_the_draws_of_a_document_and_of_two_documents_are_independent():
    # Size 4 has 4 triplets; each pair of draws must fill the 4 x 4 table evenly.
    index = {(0, 1, 2): 0, (0, 1, 3): 1, (0, 2, 3): 2, (1, 2, 3): 3}
    triplets_NK3, _ = draw_triplets(torch.full((NUM_DOCUMENTS,), 4), keys(NUM_DOCUMENTS), 2)
    cell = torch.tensor([[index[tuple(place)] for place in row] for row in triplets_NK3.tolist()])
    within = torch.bincount(4 * cell[:, 0] + cell[:, 1], minlength=16)
    between = torch.bincount(4 * cell[:-1, 0] + cell[1:, 0], minlength=16)
    assert stats.chisquare(within.numpy()).pvalue > 1e-4
    assert stats.chisquare(between.numpy()).pvalue > 1e-4


@pytest.mark.parametrize(("draw", "law", "max_length"), DRAWS)
def test_draws_follow_the_key_alone(draw, law, max_length):
    size_N = torch.full((200,), 30)
    torch.manual_seed(1)
    first, _ = draw(size_N, keys(200), 2, law=law, max_length=max_length)
    before = torch.get_rng_state()
    torch.manual_seed(2)
    again, _ = draw(size_N, keys(200), 2, law=law, max_length=max_length)
    other, _ = draw(size_N, keys(200, seed=1), 2, law=law, max_length=max_length)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_triplet_has_no_sequential_law():
    with pytest.raises(ValueError, match=r"no law 'sequential': use 'uniform' or 'anchored'"):
        draw_triplets(torch.tensor([5]), keys(1), 1, law="sequential")


@pytest.mark.parametrize(("draw", "law", "max_length"), DRAWS)
def test_drawing_reads_nothing_back_and_has_no_loop_over_documents(watch, draw, law, max_length):
    def operations(number: int) -> int:
        size_N, key_N = torch.full((number,), 12), keys(number)
        with watch() as seen:
            draw(size_N, key_N, 3, law=law, max_length=max_length)
        return seen.counts

    assert operations(2) == operations(64)


def test_the_watch_raises_on_operations_that_read_the_device_back(watch):
    value = torch.arange(4)
    for reads in (
        lambda: value.sum().item(),
        lambda: int(value.max()),
        lambda: bool(value.any()),
        lambda: value.nonzero(),
        lambda: value[value > 1],
        lambda: value.unique(),
    ):
        with watch(), pytest.raises(AssertionError, match="waits for the device"):
            reads()


def test_flat_index_finds_the_content_tokens_of_each_document(documents_of, batch_of, layout):
    documents = documents_of([6, 0, 1, 9, 3], seed=3)
    if layout in ("packed_positions", "packed_two_rows"):
        documents = [document for document in documents if document.ids]
    batch = batch_of(documents, layout)
    trajectories = batch.trajectories
    ranks = ContentRanks.of(
        trajectories.content_BT, trajectories.document_BT, trajectories.num_documents
    )
    rank_NK = torch.arange(9).expand(trajectories.num_documents, 9)
    flat_NK = ranks.flat_index(rank_NK)
    assert flat_NK.min() >= 0
    assert flat_NK.max() < batch.padding_BT.numel()
    width = batch.padding_BT.shape[1]
    for document, places in zip(documents, batch.place, strict=True):
        content = [
            row * width + column
            for (row, column), inside in zip(places, document.content, strict=True)
            if inside
        ]
        if not places:
            continue
        n = int(trajectories.document_BT[places[0]])
        assert int(ranks.size_N[n]) == len(content)
        assert flat_NK[n, : len(content)].tolist() == content
