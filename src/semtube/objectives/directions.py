"""Turning cost between two directions, and the learnable map that may stand before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: A shorter displacement (in units of the states) has no direction.
MIN_LENGTH = 1e-6


def turning_cost(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """1 - cos(first, second) over the last dimension, and whether it is defined.

    0 for one direction, 1 at a right angle, 2 for opposite ones. Inputs are float32 or wider.
    Where either vector is shorter than MIN_LENGTH the cost is not defined; it is returned as 0
    and its gradient is 0, not NaN.
    """
    first_squared, second_squared = first.square().sum(-1), second.square().sum(-1)
    defined = torch.minimum(first_squared, second_squared) > MIN_LENGTH**2
    # Clamped before the root: the slope of a norm at 0 is infinite, and inf * 0 is NaN.
    lengths = (
        first_squared.clamp_min(MIN_LENGTH**2).sqrt()
        * second_squared.clamp_min(MIN_LENGTH**2).sqrt()
    )
    cost = 1 - (first * second).sum(-1) / lengths
    return torch.where(defined, cost, 0), defined


def at_rate(parameter: Tensor, rate: float) -> Tensor:
    """`rate` times a parameter, with the gradient of the plain one.

    An optimizer such as Adam moves every weight by about its learning rate, whatever the
    gradient. What is used here moves `rate` times as far, in the model's own optimizer and under
    any other too, and the gradient that is clipped with the model's is not blown up.
    """
    return parameter + (rate - 1) * parameter.detach()


class LinearPredictor(nn.Module):
    """x -> x + x @ A.T with A starting at zero: the identity at first.

    Args:
        width: D.
        rate: how many times faster than the model A learns; at a model's fine-tuning rate it
            would never move.

    Source: the linear predictor of arXiv 2602.22617 (ablation "Pred") and 2509.14252. Theirs
        starts at random and learns at the model's rate.
    """

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.change = nn.Parameter(torch.zeros(width, width))

    def forward(self, states: Tensor) -> Tensor:
        """The mapped vectors, in the input's dtype."""
        return states + states @ at_rate(self.change, self.rate).to(states.dtype).T


class ScaledLinear(nn.Module):
    """A linear map without bias that learns `rate` times faster than the model.

    Its weights start at N(0, std^2).
    """

    def __init__(self, num_in: int, num_out: int, rate: float, *, std: float = 0.02) -> None:
        super().__init__()
        self.rate = rate
        self.weight = nn.Parameter(torch.randn(num_out, num_in) * (std / rate))

    def forward(self, states: Tensor) -> Tensor:
        """The mapped vectors, in the input's dtype."""
        return states @ at_rate(self.weight, self.rate).to(states.dtype).T


class VectorsAndMatrix(nn.Module):
    """Learned input vectors that start at N(0, 0.02^2), and a `LinearPredictor`.

    Args:
        num_vectors: 0 for none.
        width: D.
        rate: how many times faster than the model they learn.
        with_matrix: False for the identity in its place.
    """

    def __init__(self, num_vectors: int, width: int, rate: float, *, with_matrix: bool) -> None:
        super().__init__()
        self.rate = rate
        start_KD = 0.02 * torch.randn(num_vectors, width) / rate
        # Not an empty parameter: distributed trainers would wait for its gradient.
        self.stored_KD = nn.Parameter(start_KD) if num_vectors else None
        self.map = LinearPredictor(width, rate) if with_matrix else nn.Identity()

    @property
    def vectors_KD(self) -> Tensor:
        """The vectors as they stand among the tokens."""
        assert self.stored_KD is not None, "there are none"
        return at_rate(self.stored_KD, self.rate)
