"""UPGrad: the mean where gradients agree, no loss raised where they do not."""

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("torchjd")

from semtube.rhm.upgrad import NonNegativeProjector, upgrad_backward


def gradient_of(rows: list[list[float]]) -> torch.Tensor:
    """UPGrad of linear losses with these gradients."""
    parameter = nn.Parameter(torch.zeros(len(rows[0]), dtype=torch.float64))
    losses = [(torch.tensor(row, dtype=torch.float64) * parameter).sum() for row in rows]
    upgrad_backward(losses, [parameter])
    return parameter.grad


def test_without_conflict_it_is_the_mean():
    assert gradient_of([[1.0, 0.0], [1.0, 3.0]]).tolist() == pytest.approx([1.0, 1.5])


def test_of_two_in_conflict_each_loses_its_part_against_the_other():
    first, second = np.array([2.0, 0.0, 1.0]), np.array([-1.0, 3.0, 0.0])
    assert first @ second < 0

    def without(a, b):
        return a - (a @ b) / (b @ b) * b

    expected = (without(first, second) + without(second, first)) / 2
    got = gradient_of([first.tolist(), second.tolist()])
    assert got.tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    mean = (first + second) / 2
    assert mean @ first > 0
    assert got.numpy() @ first > 0


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
@pytest.mark.parametrize("num_losses", [2, 4, 6])
def test_projections_satisfy_the_conditions_of_optimality(num_losses, scale):
    generator = torch.Generator().manual_seed(num_losses)
    for _ in range(20):
        jacobian = torch.randn(num_losses, 5, generator=generator, dtype=torch.float64)
        gram = scale * jacobian @ jacobian.T
        u = torch.eye(num_losses, dtype=torch.float64) / num_losses
        v = NonNegativeProjector()(u, gram)
        # v >= u; G v >= 0; and where v > u, (G v) = 0.
        assert (v >= u).all()
        slopes = v @ gram / scale
        assert slopes.min() > -1e-7
        assert ((v - u) * slopes).abs().max() < 1e-7


def test_no_gradient_at_all_is_no_step():
    assert gradient_of([[0.0, 0.0], [0.0, 0.0]]).tolist() == [0.0, 0.0]


def test_parameters_that_only_some_losses_reach_are_combined_and_grads_add_up():
    shared, own = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    shared.grad = torch.full((1,), 10.0)
    upgrad_backward([shared.sum() * 2 + own.sum(), shared.sum() * 4], [shared, own])
    assert shared.grad.item() == pytest.approx(10 + 3)
    assert own.grad.item() == pytest.approx(0.5)
