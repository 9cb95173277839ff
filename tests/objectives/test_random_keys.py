"""Random keys: the published generator, the same for a document wherever it stands."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from semtube.objectives.random_keys import document_keys, draw_below, fold, mix

MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """The finaliser in Python integers (Steele, Lea & Flood 2014)."""
    state &= MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def unsigned(value: Tensor) -> list[int]:
    return [number & MASK for number in value.tolist()]


def test_folding_a_seed_gives_the_published_splitmix64_sequence():
    # The widely printed first five outputs for seed 1234567.
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert unsigned(fold(torch.tensor(1234567), torch.arange(5))) == published
    assert [unsigned(fold(torch.tensor([1234567]), n))[0] for n in range(5)] == published


def test_mix_equals_python_integers_on_negative_and_extreme_values():
    value = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63), 12345, -98765432123456789])
    assert unsigned(mix(value)) == [splitmix64(number) for number in value.tolist()]


@pytest.mark.parametrize("number", [0, 1, 7 * 2**32 + 3, 2**63 - 1, 2**64 + 5, 10**30])
def test_folding_any_python_integer_wraps_at_64_bits(number):
    key = 17
    expected = splitmix64(key + (number + 1) * 0x9E3779B97F4A7C15)
    assert unsigned(fold(torch.tensor([key]), number)) == [expected]


def test_folding_an_int_equals_folding_a_tensor():
    key = torch.arange(4)
    assert torch.equal(fold(key, 9), fold(key, torch.tensor(9)))


def test_mix_moves_half_of_the_output_bits_for_each_input_bit():
    value = mix(torch.arange(2000))  # spread over the whole range
    for bit in range(64):
        flip = 1 << bit if bit < 63 else -(1 << 63)
        changed = mix(value) ^ mix(value ^ flip)
        moved = sum(((changed >> other) & 1).sum().item() for other in range(64)) / 2000
        # 64 fair bits, 2000 times: standard error sqrt(16 / 2000) = 0.09.
        assert abs(moved - 32) < 0.5, bit


def test_keys_of_distinct_documents_do_not_collide():
    ids = torch.randint(0, 500, (50_000, 6), generator=torch.Generator().manual_seed(0))
    ids = ids.unique(dim=0)
    document = torch.arange(len(ids))[:, None].expand_as(ids)
    assert document_keys(ids, document, len(ids)).unique().numel() == len(ids)


def test_a_document_has_one_key_in_every_layout(documents_of, batch_of, layout):
    documents = documents_of([4, 1, 7, 3], seed=1)
    alone = [batch_of([document], "right").trajectories.key_N[0] for document in documents]
    batch = batch_of(documents, layout)
    trajectories = batch.trajectories
    for n, places in enumerate(batch.place):
        index = trajectories.document_BT[places[0]]
        assert trajectories.key_N[index] == alone[n]


def test_the_key_depends_on_every_token_and_on_their_order():
    base = [5, 6, 7]
    variants = [base, [5, 6, 8], [6, 5, 7], [5, 6], [5, 6, 7, 0], [0, 5, 6, 7], [5, 7, 6], []]
    keys = [
        document_keys(torch.tensor(ids, dtype=torch.long), torch.zeros(len(ids)).long(), 1).item()
        for ids in variants
    ]
    assert len(set(keys)) == len(variants)


def test_equal_documents_have_equal_keys_and_padding_ids_do_not_matter():
    ids = torch.tensor([[9, 3, 4, 1], [3, 4, 8, 8]])
    document = torch.tensor([[-1, 0, 0, -1], [1, 1, -1, -1]])
    key_N = document_keys(ids, document, 2)
    assert key_N[0] == key_N[1]
    ids[document < 0] = 77
    assert torch.equal(document_keys(ids, document, 2), key_N)


def test_a_document_without_tokens_has_a_key_and_leaves_the_others_alone():
    ids, document = torch.tensor([3, 4, 5]), torch.tensor([0, 2, 2])
    key_N = document_keys(ids, document, 3)
    assert key_N[2] == document_keys(ids[1:], torch.zeros(2).long(), 1)[0]


def test_draws_below_a_bound_are_uniform():
    key = fold(torch.arange(60_000), 3)
    for bound in (2, 3, 7, 30):
        drawn = draw_below(key, torch.tensor(bound))
        assert drawn.min() >= 0
        assert drawn.max() < bound
        counts = torch.bincount(drawn, minlength=bound)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3, bound


@pytest.mark.parametrize("bound", [1, 0, -3])
def test_a_bound_below_two_leaves_only_zero(bound):
    assert not draw_below(fold(torch.arange(100), 0), torch.tensor(bound)).any()


def test_a_large_bound_is_never_reached_nor_undershot():
    drawn = draw_below(fold(torch.arange(10_000), 0), torch.tensor(2**40))
    assert drawn.min() >= 0
    assert drawn.max() < 2**40
    assert drawn.double().mean() / 2**40 == pytest.approx(0.5, abs=5 * (1 / 12 / 10_000) ** 0.5)


def test_no_global_generator_is_touched():
    before = torch.get_rng_state()
    draw_below(document_keys(torch.arange(9), torch.zeros(9).long(), 1), torch.tensor(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_keys_are_made_without_reading_the_device_back(watch):
    ids, document = torch.randint(0, 9, (3, 8)), torch.arange(3)[:, None].expand(3, 8)
    with watch():
        draw_below(fold(document_keys(ids, document, 3), 5), torch.full((3,), 4))
