"""Learned maps: what they are worth at a rate, and how far an optimizer moves them."""

import pytest
import torch

from semtube.objectives.directions import LinearPredictor, VectorsAndMatrix, at_rate


def test_a_parameter_at_a_rate_has_its_value_times_the_rate_and_its_own_gradient():
    parameter = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, dtype=torch.float64)
    value = at_rate(parameter, 50.0)
    torch.testing.assert_close(value, 50 * parameter, rtol=1e-12, atol=0)
    (value * weight).sum().backward()
    assert torch.equal(parameter.grad, weight)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_any_optimizer_moves_the_map_rate_times_as_far(kind):
    moved = []
    for rate in (1.0, 50.0):
        torch.manual_seed(0)
        predictor = LinearPredictor(4, rate)
        states = torch.randn(5, 4)
        predictor(states).square().sum().backward()
        kind(predictor.parameters(), lr=1e-4).step()
        moved.append(predictor(torch.eye(4)) - torch.eye(4))
    torch.testing.assert_close(moved[1], 50 * moved[0], rtol=1e-3, atol=1e-7)


def test_vectors_start_at_their_own_size_whatever_the_rate():
    parts = VectorsAndMatrix(4, 2000, 50.0, with_matrix=False)
    assert parts.vectors_KD.shape == (4, 2000)
    assert parts.vectors_KD.std().item() == pytest.approx(0.02, rel=0.05)
    without = VectorsAndMatrix(0, 8, 50.0, with_matrix=True)
    assert [name for name, _ in without.named_parameters()] == ["map.change"]
