"""Distances of distributions in closed cases, and a vocabulary that comes in pieces."""

import math

import pytest
import torch
from torch import Tensor

from semtube.geometry.transport import fisher_rao, layer_transport


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_equal_and_disjoint_distributions():
    log_p = normal(5, 9).log_softmax(-1)
    assert fisher_rao(log_p, log_p).tolist() == [0] * 5
    p = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.25, 0.75]]).log()
    assert float(fisher_rao(p[0], p[1])) == pytest.approx(math.pi, abs=1e-3)
    assert float(fisher_rao(p[0].double(), p[1].double())) == pytest.approx(math.pi, abs=1e-6)


@pytest.mark.parametrize("apart", [0.3, 1e-2, 1e-4])
def test_two_points_against_the_closed_form(apart):
    # (p, 1 - p) = (sin^2 x, cos^2 x): the distance is 2 |x - y|.
    x, y = torch.tensor([0.7, 0.7 + apart], dtype=torch.float64)
    log_p, log_q = (torch.stack([a.sin() ** 2, a.cos() ** 2]).log() for a in (x, y))
    assert float(fisher_rao(log_p, log_q)) == pytest.approx(2 * apart, rel=1e-9)
    # In float32 three digits are left at 1e-4, where an arccosine gives 0.
    assert float(fisher_rao(log_p.float(), log_q.float())) == pytest.approx(
        2 * apart, rel=2e-3 if apart < 1e-3 else 1e-4
    )


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000, None])
@pytest.mark.parametrize("cap", [False, True])
def test_chunks_change_nothing(chunk, cap):
    first_PD, second_PD = normal(6, 8), normal(6, 8, seed=1)
    weight_VD, bias_V = normal(50, 8, seed=2), normal(50, seed=3)
    on_logits = (lambda x: 3 * torch.tanh(x / 3)) if cap else (lambda x: x)
    log_p, log_q = (
        on_logits(x @ weight_VD.T + bias_V).log_softmax(-1) for x in (first_PD, second_PD)
    )
    found = layer_transport(
        first_PD, second_PD, weight_VD, bias_V, on_logits=on_logits if cap else None, chunk=chunk
    )
    torch.testing.assert_close(found.float(), fisher_rao(log_p, log_q), atol=1e-5, rtol=1e-5)


def test_large_logits_and_equal_layers():
    states_PD, weight_VD = 1e3 * normal(4, 8), normal(30, 8, seed=1)
    assert layer_transport(states_PD, states_PD, weight_VD).tolist() == [0] * 4
    found = layer_transport(states_PD, -states_PD, weight_VD)
    assert found.tolist() == pytest.approx([math.pi] * 4, abs=1e-3)
    assert layer_transport(states_PD[:0], states_PD[:0], weight_VD).shape == (0,)


def test_bad_input_is_refused():
    states = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="of two layers and a head"):
        layer_transport(states, states, torch.zeros(9, 5))
    with pytest.raises(ValueError, match="chunk is 0"):
        layer_transport(states, states, torch.zeros(9, 4), chunk=0)
