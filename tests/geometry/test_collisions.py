"""Nearest states of other texts: closed cases, a loop, and texts with a common beginning."""

import math
from statistics import median

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from semtube.geometry.collisions import (
    MIN_TEXTS,
    NEAR,
    near_collision_share,
    near_collisions,
    prefix_keys,
)
from semtube.geometry.measured import Measured


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of_texts(texts: list[list[int]], states: list[Tensor], **options) -> Measured:
    """Trajectories of whole texts; padding is NaN and token 0."""
    longest = max(map(len, texts)) + 1
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    padded = torch.full((len(texts), longest, states[0].shape[1]), math.nan)
    for n, rows in enumerate(states):
        padded[n, : len(rows)] = rows
    size_N = torch.tensor([len(text) for text in texts])
    return near_collisions(padded, size_N, prefix_keys(ids), **options)


def by_hand(texts: list[list[int]], states: list[Tensor]) -> list[float | None]:
    found = []
    for i, text in enumerate(texts):
        distances = []
        for j, other in enumerate(texts):
            pairs = list(zip(text, other, strict=False))
            common = next((k for k, (a, b) in enumerate(pairs) if a != b), len(pairs))
            if i != j:
                distances += [
                    math.dist(a, b) for a in states[i][common:] for b in states[j][common:]
                ]
        steps = [math.dist(a, b) for a, b in zip(states[i], states[i][1:], strict=False)]
        found.append(min(distances) / median(steps) if distances and steps else None)
    return found


TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from([1, 60, 150, 1 << 20]), st.sampled_from([0.0, 1e4]))
def test_against_a_loop_over_all_pairs_in_any_pieces(texts, chunk, offset):
    states = [normal(len(text), 4, seed=n) + offset for n, text in enumerate(texts)]
    found = of_texts(texts, states, chunk=chunk)
    expected = by_hand(texts, states)
    assert found.defined.tolist() == [value is not None for value in expected]
    for value, wanted in zip(found.value.tolist(), expected, strict=True):
        assert value == pytest.approx(wanted or 0.0, rel=1e-5)


@pytest.mark.parametrize("apart", [0.25, 3.0])
def test_parallel_lines(apart):
    # Steps of 2 along a line: the distance is that of the lines.
    line = 2 * torch.arange(6.0)[:, None] * torch.tensor([0.6, 0.8, 0.0])
    lines = [line, line + torch.tensor([0.0, 0.0, apart])]
    found = of_texts([[1] * 6, [2] * 6], lines)
    assert found.value.tolist() == pytest.approx([apart / 2] * 2)


def test_a_common_beginning_is_no_collision():
    # The states of the common text are equal, as in a model; behind it the texts are far apart.
    common, first, second = normal(3, 4), normal(2, 4, seed=1), normal(2, 4, seed=2) + 100
    texts = [[5, 6, 7, 1, 1], [5, 6, 7, 2, 2]]
    found = of_texts(texts, [torch.cat([common, first]), torch.cat([common, second])])
    assert found.value.min() > 20
    # One text begins the other: all its states are common.
    found = of_texts([[5, 6, 7], texts[0]], [common, torch.cat([common, first])])
    assert not found.defined.any()
    # The same text twice.
    assert not of_texts([[1, 2], [1, 2]], [first, first]).defined.any()
    # The same token behind other texts is not the same state.
    assert float(of_texts([[1, 9], [2, 9]], [first, first]).value.max()) == 0


def test_what_has_no_step_or_no_other_has_no_value():
    states = normal(4, 3)
    assert not of_texts([[1, 2, 3, 4]], [states]).defined.any()
    found = of_texts([[1], [2, 2], [3, 3]], [states[:1], states[1:3], states[:1].expand(2, 3)])
    assert found.defined.tolist() == [False, True, False]


def test_steps_that_are_rounding_are_no_steps():
    still = 100 * (1 + 1e-6 * normal(2, 3))
    found = of_texts([[1, 2], [3, 4]], [still, normal(2, 3)])
    assert found.defined.tolist() == [False, True]


def test_near_is_what_few_right_answers_are():
    gold = Measured(torch.arange(100.0).double(), torch.ones(100, dtype=torch.bool))
    assert float(near_collision_share(gold, gold).value) == pytest.approx(NEAR)
    near = Measured(torch.tensor([0.0, 4.0, 5.0, 99, 0]).double(), torch.arange(5) < 4)
    assert float(near_collision_share(near, gold).value) == 0.5
    few = Measured(gold.value[: MIN_TEXTS - 1], gold.defined[: MIN_TEXTS - 1])
    assert not bool(near_collision_share(near, few).defined)
    nothing = Measured(near.value, torch.zeros(5, dtype=torch.bool))
    assert not bool(near_collision_share(nothing, gold).defined)


def test_keys_tell_texts_apart():
    ids = torch.tensor([[1, 2, 3], [1, 2, 4], [2, 1, 3], [1, 2, 3]])
    keys = prefix_keys(ids)
    assert torch.equal(keys[0], keys[3])
    assert (keys[0] == keys[1]).tolist() == [True, True, False]
    assert not (keys[0] == keys[2]).any()
    torch.testing.assert_close(prefix_keys(ids[0]), keys[0])
    every = prefix_keys(torch.cartesian_prod(*[torch.arange(20)] * 3))
    assert len(every[:, 0].unique()) == 20
    assert len(every[:, 1].unique()) == 400
    assert len(every.flatten().unique()) == 20 + 400 + 8000


def test_bad_input_is_refused():
    states, keys, number = torch.zeros(2, 3, 4), torch.zeros(2, 3), torch.tensor([3, 3])
    with pytest.raises(ValueError, match="wanted states"):
        near_collisions(states, number, keys[:1])
    with pytest.raises(ValueError, match="and 0"):
        near_collisions(states, number, keys, chunk=0)
