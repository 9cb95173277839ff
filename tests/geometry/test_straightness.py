"""Losses, angles and curvature against plain loops and closed forms.

Shape letters: T tokens, D hidden size.
"""

import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from semtube.geometry.paths import Paths
from semtube.geometry.straightness import (
    chord_over_path,
    curvature,
    span_loss_by_length,
    step_length,
    tube_loss,
    tube_loss_by_width,
    turning_angle_rad,
)
from semtube.objectives.tube import SemanticTube

LENGTHS = (2, 3, 5, 8)


def cost(first_D: Tensor, second_D: Tensor) -> float:
    return 1 - float(torch.cosine_similarity(first_D, second_D, dim=0))


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def circle(number: int, radius: float, step_rad: float, width: int = 7) -> Tensor:
    """(T, D) points of a circle in a plane that lies across the axes."""
    axes = torch.linalg.qr(torch.randn(width, 2, generator=torch.Generator().manual_seed(3))).Q
    angle_T = step_rad * torch.arange(number, dtype=torch.float64)
    return radius * torch.stack([angle_T.cos(), angle_T.sin()], 1) @ axes.double().T + 4


def test_losses_by_length_equal_plain_loops(layout, random_texts, lay_out):
    texts = random_texts([9, 1, 14, 4, 2], seed=1)
    batch = lay_out(texts, layout)
    by_width = tube_loss_by_width(Paths.of_documents(*batch), LENGTHS)
    increments = Paths.of_increments(*batch)
    by_length = span_loss_by_length(increments, LENGTHS)
    for n, text in enumerate(texts):
        path = text.states_TD[text.content_T].double()
        z = increments.states_NLD[n, : int(increments.size_N[n])]
        for w, length in enumerate(LENGTHS):
            triplets = [
                cost(path[r] - path[s], path[t] - path[r])
                for s, r, t in combinations(range(len(path)), 3)
                if t - s == length
            ]
            spans = [
                cost(z[s + length] - z[s], z[-1] - z[0] - z[s + length] + z[s])
                for s in range(len(z) - length)
                if length < len(z) - 1
            ]
            for measured, expected in ((by_width, triplets), (by_length, spans)):
                assert bool(measured.defined[n, w]) is bool(expected)
                assert float(measured.value[n, w]) == pytest.approx(mean(expected), abs=1e-9)


def test_the_drawn_losses_are_those_of_the_objective(layout, random_texts, lay_out):
    texts = random_texts([9, 1, 14, 4, 2], seed=2)
    hidden_BTD, trajectories = lay_out(texts, layout)
    for form, build in (("triplet", Paths.of_documents), ("span", Paths.of_increments)):
        objective = SemanticTube(weight=0.0, form=form, draws=16)
        hidden = hidden_BTD.nan_to_num(7.0).double()
        term = objective(hidden, trajectories, key=0)
        measured = tube_loss(build(hidden_BTD, trajectories), form=form)
        assert measured.defined.tolist() == (term.count_N > 0).tolist()
        expected_N = term.total_N / term.count_N.clamp_min(1)
        torch.testing.assert_close(measured.value, expected_N, atol=1e-5, rtol=0)


def test_a_straight_line_has_no_loss_no_angle_and_no_detour():
    step_D = torch.tensor([3.0, -1.0, 2.0])
    paths = Paths.of(5 + torch.tensor([0.0, 1, 2, 4, 5, 9, 11, 12, 20])[:, None] * step_D)
    for measured in (tube_loss_by_width(paths, LENGTHS), span_loss_by_length(paths, LENGTHS[:3]),
                     tube_loss(paths), turning_angle_rad(paths), curvature(paths)):  # fmt: skip
        assert measured.defined.all()
        assert measured.value.abs().max() < 1e-6
    assert float(chord_over_path(paths).value) == pytest.approx(1, abs=1e-6)


def test_a_great_circle_has_the_curvature_of_its_radius_at_any_step():
    for radius, step_rad in ((1.0, 0.1), (2.5, 0.1), (2.5, 1.3)):
        paths = Paths.of(circle(30, radius, step_rad))
        assert float(turning_angle_rad(paths).value) == pytest.approx(step_rad)
        assert float(curvature(paths).value) == pytest.approx(1 / radius)
        # The chords before and after r turn by half of the arc.
        widths = tube_loss_by_width(paths, (2, 4)).value[0]
        for width, value in zip((2, 4), widths.tolist(), strict=True):
            assert value == pytest.approx(1 - math.cos(width * step_rad / 2))
        chord = abs(math.sin(29 * step_rad / 2)) / math.sin(step_rad / 2) / 29
        assert float(chord_over_path(paths).value) == pytest.approx(chord)


def test_a_helix_has_the_curvature_of_the_curve_up_to_its_step():
    radius, pitch = 2.0, 0.7
    expected = radius / (radius**2 + pitch**2)
    errors = []
    for step in (0.2, 0.1):
        t = step * torch.arange(200, dtype=torch.float64)
        states_TD = torch.stack([radius * t.cos(), radius * t.sin(), pitch * t], 1)
        errors.append(abs(float(curvature(Paths.of(states_TD)).value) - expected))
    # Of second order in the step.
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.02)
    assert errors[1] < 1e-3


def test_an_angle_too_small_for_an_arccosine():
    paths = Paths.of(circle(20, 1.0, 1e-4).float())
    # A step of 1e-4 between states of size 4 is known to 4 * 6e-8 / 1e-4 of itself.
    assert float(turning_angle_rad(paths).value) < 2e-2
    paths = Paths.of((circle(20, 1.0, 1e-4) - 4).double())
    assert float(turning_angle_rad(paths).value) == pytest.approx(1e-4, rel=1e-6)


def test_turning_back():
    paths = Paths.of(torch.tensor([[0.0, 0], [1, 0], [0, 0], [1, 0]]))
    assert float(turning_angle_rad(paths).value) == pytest.approx(math.pi)
    assert float(tube_loss_by_width(paths, (2,)).value) == pytest.approx(2)
    assert float(chord_over_path(paths).value) == pytest.approx(1 / 3)
    assert not curvature(paths).defined.any()  # no circle through a point met twice


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_states_that_do_not_move_have_no_value(number):
    content_BT = (torch.arange(7) < number).expand(2, -1)
    paths = Paths.of(torch.full((2, 7, 3), 1.7), content_BT)
    for measure in (tube_loss_by_width, span_loss_by_length, turning_angle_rad, curvature,
                    chord_over_path, tube_loss):  # fmt: skip
        measured = measure(paths)
        assert not measured.defined.any()
        assert not measured.value.any()
        assert (measured.num_left_out == 2).all()
        assert not measured.mean().defined.any()


def test_what_is_too_short_is_left_out_and_counted():
    content_BT = torch.arange(6) < torch.tensor([[6], [3], [2], [1], [0]])
    hidden_BTD = torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(0))
    paths = Paths.of(hidden_BTD, content_BT)
    assert turning_angle_rad(paths).num_left_out == 3
    assert chord_over_path(paths).num_left_out == 3
    steps = step_length(paths)
    assert steps.num_left_out == 2
    lengths = (hidden_BTD[1, :3].diff(dim=0)).norm(dim=1)
    assert float(steps.value[1]) == pytest.approx(float(lengths.mean()))
    measured = tube_loss_by_width(paths, (2, 4))
    assert measured.num_left_out.tolist() == [3, 4]
    alone = tube_loss_by_width(Paths.of(hidden_BTD[0]), (2, 4)).value[0]
    assert measured.mean().value[1] == pytest.approx(float(alone[1]))


def test_lengths_that_hold_nothing_are_refused():
    paths = Paths.of(torch.randn(5, 2))
    with pytest.raises(ValueError, match="2 tokens wide or more"):
        tube_loss_by_width(paths, (1, 4))
    with pytest.raises(ValueError, match="a token at least"):
        span_loss_by_length(paths, (0,))
