"""Distances to the faces of cells: closed cases, a loop over the vocabulary, and equal rows."""

import math

import pytest
import torch
from torch import Tensor

from semtube.geometry.cell_margin import cell_margin


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_two_tokens_in_the_plane():
    # The face between (1, 0) and (0, 1) is the diagonal.
    states = torch.tensor([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]])
    found = cell_margin(states, torch.eye(2), None, torch.tensor([0, 0, 0]))
    assert found.value.tolist() == pytest.approx([math.sqrt(2), -math.sqrt(2), 0])
    # A bias moves the face: x + 2 = y.
    bias = torch.tensor([2.0, 0.0])
    found = cell_margin(states, torch.eye(2), bias, torch.tensor([0, 0, 1]))
    assert found.value.tolist() == pytest.approx([2 * math.sqrt(2), 0, -math.sqrt(2)])
    assert found.defined.all()


def test_an_orthonormal_head():
    axes, _ = torch.linalg.qr(normal(8, 8).double())
    states = normal(20, 8, seed=1).double()
    token = torch.arange(20) % 8
    logits = states @ axes.T
    own = logits.gather(1, token[:, None])
    others = logits.scatter(1, token[:, None], -math.inf).amax(1, keepdim=True)
    found = cell_margin(states, axes, None, token)
    torch.testing.assert_close(found.value[:, None], (own - others) / math.sqrt(2))


@pytest.mark.parametrize("chunk", [1, 7, 30, 1000, None])
@pytest.mark.parametrize("with_bias", [False, True])
def test_against_a_loop_in_any_pieces(chunk, with_bias):
    states, weight = normal(6, 5), 3 * normal(30, 5, seed=1) + 10
    bias = normal(30, seed=2) if with_bias else torch.zeros(30)
    token = torch.tensor([0, 29, 7, 7, 12, 3])
    found = cell_margin(states, weight, bias if with_bias else None, token, chunk=chunk)
    for p, y in enumerate(token.tolist()):
        logits = weight.double() @ states[p].double() + bias
        faces = [
            (logits[y] - logits[j]) / math.dist(weight[y], weight[j]) for j in range(30) if j != y
        ]
        assert float(found.value[p]) == pytest.approx(float(min(faces)), rel=1e-6)


def test_a_move_by_the_margin_reaches_the_face():
    states, weight, bias = normal(50, 4).double(), normal(9, 4, seed=1).double(), normal(9, seed=2)
    token = (states @ weight.T + bias).argmax(1)
    margin = cell_margin(states, weight, bias, token).value
    assert (margin > 0).all()
    towards = torch.nn.functional.normalize(normal(50, 200, 4, seed=3).double(), dim=-1)
    within = states[:, None] + 0.999 * margin[:, None, None] * towards
    assert ((within @ weight.T + bias).argmax(-1) == token[:, None]).all()
    faces = weight - weight[token][:, None]  # (P, V, D), from the state's token to every other
    towards = torch.nn.functional.normalize(faces, dim=-1)
    beyond = states[:, None] + 1.001 * margin[:, None, None] * towards
    assert ((beyond @ weight.T + bias).argmax(-1) != token[:, None]).any(1).all()


def test_soft_caps_move_no_sign():
    states, weight = normal(40, 6), normal(12, 6, seed=1)
    token = torch.arange(40) % 12
    margin = cell_margin(states, weight, None, token).value
    chosen = (2 * torch.tanh(states @ weight.T / 2)).argmax(1)
    assert ((margin > 0) == (chosen == token)).all()


@pytest.mark.parametrize("chunk", [1, None])
def test_equal_rows(chunk):
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-1.0, -1.0]])
    states, token = torch.tensor([[3.0, 1.0]]), torch.tensor([0])

    def margin(bias: list[float] | None, weight: Tensor = weight):
        given = None if bias is None else torch.tensor(bias)
        return cell_margin(states, weight, given, token, chunk=chunk)

    # The twin shares the cell, or has none itself: no face with it.
    for bias in (None, [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0]):
        assert margin(bias).value.tolist() == pytest.approx([math.sqrt(2)])
    # The twin is always ahead: no cell.
    found = margin([0.0, 0.0, 1.0, 0.0])
    assert not found.defined.any()
    assert found.value.tolist() == [0]
    # Nothing but twins: no face.
    assert not margin(None, torch.ones(3, 2)).defined.any()
    # Large rows that differ in the fourth digit are two.
    near = torch.tensor([[1e4, 0.0], [1e4, 2.0]])
    assert margin(None, near).value.tolist() == pytest.approx([-1])


def test_no_states_and_bad_input():
    states, weight, token = torch.zeros(3, 4), torch.zeros(9, 4), torch.tensor([0, 1, 2])
    assert cell_margin(states[:0], weight, None, token[:0]).value.shape == (0,)
    with pytest.raises(ValueError, match="a head"):
        cell_margin(states, torch.zeros(9, 5), None, token)
    with pytest.raises(ValueError, match="and tokens"):
        cell_margin(states, weight, None, token[:2])
    with pytest.raises(ValueError, match="chunk is 0"):
        cell_margin(states, weight, None, token, chunk=0)
