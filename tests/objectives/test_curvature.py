"""Curvature against arccosines, and its angle where an arccosine fails.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from semtube.objectives.curvature import Curvature, turning_angle
from semtube.objectives.trajectories import Trajectories


def turns(states_TD: Tensor, path: list[int]) -> list[Tensor | None]:
    """The arccosine of every turn along the places of a path."""
    angles = []
    for before, here, after in zip(path, path[1:], path[2:], strict=False):
        first_D, second_D = states_TD[here] - states_TD[before], states_TD[after] - states_TD[here]
        lengths = first_D.norm() * second_D.norm()
        still = first_D.norm() <= 1e-6 or second_D.norm() <= 1e-6
        angles.append(None if still else torch.arccos(first_D @ second_D / lengths))
    return angles


@pytest.mark.parametrize("content", ["text", "instruction", "answer", "all"])
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_gradient_equal_a_plain_loop(
    content, seed, layout, degenerate, dialogues_of, batch_of, check_oracle
):
    documents = dialogues_of(seed=seed, content=content)
    documents += dialogues_of(degenerate, seed=50 + seed, content=content)
    batch = batch_of(documents, layout)
    hidden_BTD = batch.hidden_BTD.requires_grad_()
    term = Curvature(content=content)(hidden_BTD, batch.trajectories, key=seed)
    check_oracle(
        term,
        documents,
        batch,
        hidden_BTD,
        lambda document, states_TD, n: turns(states_TD, document.path),
        rtol=1e-10,  # an arccosine loses digits
    )


def curvature_of(states_NTD: Tensor):
    ones_BT = torch.ones(states_NTD.shape[:2], dtype=torch.bool)
    trajectories = Trajectories.build(attended_BT=ones_BT, content_BT=ones_BT)
    return Curvature()(states_NTD, trajectories, key=0)


@pytest.mark.parametrize(
    ("path", "angle"),
    [
        ([(0, 0), (1, 0), (2, 0), (5, 0), (5.5, 0)], 0.0),
        ([(0, 0), (3, 0), (3, 1), (4, 1), (4, 6)], math.pi / 2),
        ([(0, 0), (1, 0), (0, 0), (4, 0), (-3, 0)], math.pi),
        ([(math.cos(0.7 * j), math.sin(0.7 * j)) for j in range(6)], 0.7),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_paths_of_one_angle(path, angle, dtype):
    term = curvature_of(torch.tensor([path], dtype=dtype))
    assert term.count_N.tolist() == [len(path) - 2]
    assert term.mean_N.item() == pytest.approx(angle, abs=1e-6)


@pytest.mark.parametrize("base", [0.0, math.pi])
@pytest.mark.parametrize("off", [1e-6, 1e-4, 1e-2])
def test_small_and_nearly_straight_angles_keep_their_digits_in_float32(base, off):
    # The cosine of 1e-4 is 1 in float32: an arccosine would give 0 and no gradient.
    angle = torch.tensor(abs(base - off), dtype=torch.float64)
    first = torch.tensor([1.0, 0.0])
    second = torch.stack([angle.cos(), angle.sin()]).float().requires_grad_()
    got, defined = turning_angle(first, 3 * second)
    assert defined
    # float32 keeps pi - x to 2e-7, and a small x to seven digits.
    assert got.item() == pytest.approx(angle.item(), rel=1e-6, abs=4e-7 if base else 1e-12)
    got.backward()
    # Slope 1 across, none along.
    across = torch.stack([-angle.sin(), angle.cos()]).float()
    assert (second.grad @ across).item() == pytest.approx(1, abs=1e-3)
    assert (second.grad @ second.detach()).item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("other", [(2.0, 0.0), (-2.0, 0.0)])
def test_the_gradient_is_zero_at_the_kinks(other):
    first = torch.tensor([1.0, 0.0], requires_grad=True)
    second = torch.tensor(other, requires_grad=True)
    angle, _ = turning_angle(first, second)
    assert angle.item() == pytest.approx(0 if other[0] > 0 else math.pi, abs=1e-6)
    angle.backward()
    assert first.grad.tolist() == second.grad.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("still", [[1], [0, 1], [2, 3], [0, 1, 2, 3, 4]])
def test_steps_of_no_length_are_not_counted_and_send_no_nan(still, dtype):
    steps_TD = torch.tensor([(1.0, 0), (0, 1), (1, 1), (-1, 2), (3, 1)])
    steps_TD[still] = 0
    states_TD = torch.cat([torch.zeros(1, 2), steps_TD.cumsum(0)]).to(dtype)
    hidden_BTD = states_TD[None].clone().requires_grad_()
    term = curvature_of(hidden_BTD)
    expected = turns(states_TD.double(), list(range(6)))
    assert term.count_N.item() == sum(angle is not None for angle in expected) < 4
    total = sum(angle for angle in expected if angle is not None)
    assert term.total_N.item() == pytest.approx(float(total), abs=1e-6)
    term.mean_N.sum().backward()
    assert hidden_BTD.grad.isfinite().all()


@pytest.mark.parametrize(
    ("first", "second", "defined"),
    [
        ((0.0, 0.0), (1.0, 0.0), False),
        ((1.0, 0.0), (0.0, 0.0), False),
        ((0.0, 0.0), (0.0, 0.0), False),
        ((5e-7, 0.0), (0.0, 1.0), False),
        ((2e-6, 0.0), (0.0, 2e-6), True),
        ((1e8, 0.0), (0.0, 1e-5), True),
    ],
)
def test_an_angle_without_two_directions_is_zero_with_no_gradient(first, second, defined):
    first = torch.tensor(first, requires_grad=True)
    second = torch.tensor(second, requires_grad=True)
    angle, is_defined = turning_angle(first, second)
    assert bool(is_defined) is defined
    assert angle.item() == pytest.approx(math.pi / 2 if defined else 0)
    angle.backward()
    for leaf in (first, second):
        assert leaf.grad.isfinite().all()
        assert bool(leaf.grad.any()) is defined


def test_the_angle_has_the_gradient_of_its_differences():
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda both: turning_angle(*both)[0], pair)


def test_independent_increments_turn_by_a_right_angle_in_many_dimensions():
    generator = torch.Generator().manual_seed(1)
    walk_NTD = torch.randn(50, 12, 400, generator=generator, dtype=torch.float64).cumsum(1)
    # The angle's standard deviation is 1 / sqrt(D) = 0.05, over 500 turns.
    mean = curvature_of(walk_NTD).mean_N.mean().item()
    assert mean == pytest.approx(math.pi / 2, abs=5 * 0.05 / math.sqrt(500))
