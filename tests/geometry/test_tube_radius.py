"""The tube against plain loops, closed forms in many dimensions, and the lemma.

Shape letters: T tokens, D hidden size.
"""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semtube.geometry.nulls import null_value
from semtube.geometry.paths import Paths
from semtube.geometry.triangles import Triangles
from semtube.geometry.tube_radius import straightening_lemma, tube_radius

WINDOWS = (2, 3, 6, 12)


def test_every_part_equals_a_plain_loop(layout, random_texts, lay_out):
    texts = random_texts([9, 1, 14, 3, 2], seed=4)
    tube = tube_radius(Paths.of_documents(*lay_out(texts, layout)), WINDOWS)
    for n, text in enumerate(texts):
        path = text.states_TD[text.content_T].double()
        for w, window in enumerate(WINDOWS):
            within, exactly = [], []
            for s, r, t in combinations(range(len(path)), 3):
                chord_D, part_D = path[t] - path[s], path[r] - path[s]
                along = float(part_D @ chord_D / chord_D.norm())
                across = float((part_D - along * chord_D / chord_D.norm()).norm())
                if t - s <= window:
                    within.append((across, across / float(chord_D.norm())))
                if t - s == window:
                    exactly.append((across / float(chord_D.norm()), along**2, across**2))
            assert bool(tube.largest.defined[n, w]) is bool(within)
            assert bool(tube.parallel.defined[n, w]) is bool(exactly)
            if within:
                assert float(tube.largest.value[n, w]) == pytest.approx(max(within)[0])
                relative = max(share for _, share in within)
                assert float(tube.largest_relative.value[n, w]) == pytest.approx(relative)
            if exactly:
                share, along, across = torch.tensor(exactly, dtype=torch.float64).mean(0).tolist()
                assert float(tube.mean_relative.value[n, w]) == pytest.approx(share)
                assert float(tube.parallel.value[n, w]) == pytest.approx(math.sqrt(along))
                assert float(tube.perpendicular.value[n, w]) == pytest.approx(math.sqrt(across))
                ratio = math.sqrt(across / along)
                assert float(tube.noise_to_signal.value[n, w]) == pytest.approx(ratio)


def test_an_arc_is_as_wide_as_its_sagitta():
    radius, step = 3.0, 0.05
    angle_T = step * torch.arange(40, dtype=torch.float64)
    tube = tube_radius(Paths.of(radius * torch.stack([angle_T.cos(), angle_T.sin()], 1)), (2, 4, 8))
    for w, window in enumerate((2, 4, 8)):
        sagitta = radius * (1 - math.cos(window * step / 2))
        assert float(tube.largest.value[0, w]) == pytest.approx(sagitta)


@pytest.mark.parametrize("far", [0.0, 1e3])
def test_a_line_has_no_width(far):
    place_T = torch.tensor([0.0, 1, 2, 3, 5, 8, 13, 14, 20])
    states_TD = place_T[:, None] * torch.tensor([1.0, -2.0, 0.5]) + far
    tube = tube_radius(Paths.of(states_TD), (2, 4, 8))
    # Heron's formula in float64: half the digits, of the chord.
    assert tube.largest.value.max() < 1e-6
    assert tube.noise_to_signal.value.max() < 1e-6
    assert straightening_lemma(Paths.of(states_TD), (2, 4, 8)).num_violations.value.sum() == 0


def test_a_small_deviation_is_kept_beside_a_large_state():
    # The first state is far away, as the first token's often is.
    states_TD = torch.tensor([[3e3, 0.0], [1, 0], [2, 1e-2], [3, 0]], dtype=torch.float64)
    tube = tube_radius(Paths.of(states_TD[1:]), (2,))
    assert float(tube.largest.value) == pytest.approx(1e-2)
    tube = tube_radius(Paths.of(states_TD), (2, 3))
    assert float(tube.largest.value[0, 0]) == pytest.approx(1e-2, rel=1e-2)


@pytest.mark.parametrize(
    ("null", "noise_to_signal", "half_way"),
    [
        ("independent increments", lambda tau: math.sqrt((tau + 1) / (2 * tau - 1)), 1 / 2),
        ("memoryless points", lambda tau: math.sqrt(3), math.sqrt(3) / 2),
    ],
)
def test_nulls_in_many_dimensions(null, noise_to_signal, half_way):
    windows = (2, 8)
    settings = {"num_tokens": 48, "width": 4096, "num_paths": 6}
    ratio = null_value(lambda p: tube_radius(p, windows).noise_to_signal, null, **settings)
    relative = null_value(lambda p: tube_radius(p, windows).mean_relative, null, **settings)
    for w, tau in enumerate(windows):
        # Finite width moves a ratio of lengths by about 1 / D.
        room = 5 * float(ratio.standard_error[w]) + 3 / 4096
        assert float(ratio.mean[w]) == pytest.approx(noise_to_signal(tau), abs=room)
    room = 5 * float(relative.standard_error[0]) + 3 / 4096
    assert float(relative.mean[0]) == pytest.approx(half_way, abs=room)


def test_identical_states_and_short_paths_are_left_out():
    content_BT = torch.arange(6) < torch.tensor([[6], [3], [2], [1], [0]])
    paths = Paths.of(torch.ones(5, 6, 3), content_BT)
    tube, lemma = tube_radius(paths, (2, 4)), straightening_lemma(paths, (2, 4))
    for measured in (*vars(tube).values(), *vars(lemma).values()):
        assert not measured.defined.any()
        assert not measured.value.any()
    paths = Paths.of(torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0)), content_BT)
    assert tube_radius(paths, (2, 4)).largest.num_left_out.tolist() == [3, 3]
    assert tube_radius(paths, (2, 4)).parallel.num_left_out.tolist() == [3, 4]


def test_windows_must_grow():
    for windows in ((4, 2), (2, 2), (1, 2), ()):
        with pytest.raises(ValueError, match="from 2 on"):
            tube_radius(Paths.of(torch.randn(5, 2)), windows)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(0, 1), st.sampled_from([1e-3, 1.0, 1e4]))
def test_no_trajectory_breaks_the_lemma(seed, width, memory, scale):
    generator = torch.Generator().manual_seed(seed)
    steps_TD = torch.randn(12, width, generator=generator, dtype=torch.float64)
    for j in range(1, 12):
        steps_TD[j] = memory * steps_TD[j - 1] + (1 - memory) * steps_TD[j]
    lemma = straightening_lemma(Paths.of(scale * steps_TD.cumsum(0)), (2, 3, 7))
    assert not lemma.num_violations.value.any()
    assert lemma.largest_ratio.value.max() <= 1 + 1e-6


def test_violations_are_counted(monkeypatch):
    # A fault of arithmetic, planted: deviations twice what they are.
    paths = Paths.of(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)))
    assert straightening_lemma(paths, (3,)).num_violations.value.tolist() == [[0]]
    parts = Triangles.parts

    def doubled(self):
        along, across, defined = parts(self)
        return along, 20 * across, defined

    monkeypatch.setattr(Triangles, "parts", doubled)
    assert straightening_lemma(paths, (3,)).num_violations.value.min() > 0


def test_the_lemma_is_tight_where_the_chord_turns_by_little():
    # A flat isosceles triangle: the angle at s is half of the turn at r, so the ratio is 1/2;
    # with r close to s the angle at s is nearly all of the turn.
    for r, expected in ((1.0, 0.5), (1e-3, 1.0)):
        states_TD = torch.tensor([[0, 0], [r, 1e-3 * r], [2, 0]], dtype=torch.float64)
        ratio = straightening_lemma(Paths.of(states_TD), (2,)).largest_ratio
        assert float(ratio.value) == pytest.approx(expected, rel=1e-3)
