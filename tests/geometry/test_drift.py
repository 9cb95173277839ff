"""Stability that does not depend on the axes, drift in closed cases, ranks against scipy."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from semtube.geometry.drift import (
    cosine_distances,
    drift,
    feature_stability,
    label_alignment,
    random_rotation,
    replicate_stability,
    spearman,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_equals_scipy(ties):
    first, second = normal(300), normal(300, seed=1)
    second = second + first
    if ties:
        first, second = first.round(), second.round()
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert spearman(torch.ones(5), normal(5)) == 0


def test_distances_of_pairs_in_order():
    states_ND = torch.tensor([[1.0, 0], [0, 2], [-3, 0], [0, 0]])
    assert cosine_distances(states_ND).tolist() == pytest.approx([1, 2, 1, 1, 1, 1])


def test_rotations_are_orthogonal_and_spread_evenly():
    generator = torch.Generator().manual_seed(0)
    turned = torch.stack([random_rotation(4, generator) for _ in range(2000)])
    torch.testing.assert_close(turned[0] @ turned[0].T, torch.eye(4), atol=1e-5, rtol=0)
    # Every entry has mean 0 and variance 1/4.
    assert turned.mean(0).abs().max() < 5 * (1 / 4 / 2000) ** 0.5
    assert (turned.square().mean(0) - 1 / 4).abs().max() < 5 * (1 / 4 / 2000) ** 0.5


def test_the_rotation_pair():
    # One geometry of rank 12 in 256 features: along the axes no half knows of the other.
    aligned_ND = torch.cat([normal(150, 12), 0.05 * normal(150, 244, seed=1)], 1)
    generator = torch.Generator().manual_seed(5)
    turned_ND = aligned_ND @ random_rotation(256, generator)
    options = {"splits": 8, "rotations": 4}
    aligned, turned = (feature_stability(x, **options) for x in (aligned_ND, turned_ND))
    assert abs(aligned.raw) < 0.1
    assert turned.raw > 0.8
    # The value to quote is that of the geometry.
    assert aligned.rotated == pytest.approx(turned.rotated, abs=0.02)
    assert aligned.rotated == pytest.approx(turned.raw, abs=0.03)
    assert aligned.num_samples == 150


def test_isotropic_noise_is_not_stable():
    found = feature_stability(normal(200, 64), splits=10, rotations=3)
    # 200 samples: distances of one sample hang together, so the error is that of 200, not of pairs.
    assert abs(found.raw) < 0.05
    assert abs(found.rotated) < 0.05


def test_of_many_samples_some_are_drawn_by_the_seed():
    states_ND = normal(80, 10)
    options = {"splits": 2, "rotations": 1, "max_samples": 40}
    first = feature_stability(states_ND, **options)
    assert first.num_samples == 40
    assert feature_stability(states_ND, **options) == first
    assert feature_stability(states_ND, seed=1, **options) != first


def test_drift_in_closed_cases():
    before_ND, other_ND = normal(60, 20), normal(60, 20, seed=1)
    rotation = random_rotation(20, torch.Generator().manual_seed(2))
    assert drift(before_ND, before_ND) == pytest.approx(0, abs=1e-12)
    assert drift(before_ND, 7 * before_ND @ rotation) == pytest.approx(0, abs=1e-5)
    assert drift(before_ND, other_ND) == pytest.approx(1, abs=0.1)
    near, far = (drift(before_ND, before_ND + x * other_ND) for x in (0.1, 1.0))
    assert 0 < near < far < 1
    assert replicate_stability(before_ND, other_ND) == pytest.approx(1 - drift(before_ND, other_ND))


def test_labels():
    labels = ["a", "b"] * 20
    means = torch.stack([normal(1, 30, seed=3)[0] * (1 if x == "a" else -1) for x in labels])
    # All pairs of one label are at one distance, those of two at another: rank correlation 1.
    assert label_alignment(means, labels) == pytest.approx(1, abs=1e-6)
    assert label_alignment(means + 0.5 * normal(40, 30), labels) > 0.5
    assert abs(label_alignment(normal(40, 30), labels)) < 0.1


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least 3 samples"):
        feature_stability(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="same 3 samples"):
        drift(torch.zeros(4, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="wanted 3 labels"):
        label_alignment(torch.zeros(4, 2), ["a"])


def test_equal_and_bad_states_give_no_number():
    states_ND = normal(20, 8)
    equal_ND = states_ND[:1] * (1 + 1e-6 * states_ND)
    for measure in (feature_stability, lambda x: drift(x, states_ND),
                    lambda x: drift(states_ND, x)):  # fmt: skip
        with pytest.raises(ArithmeticError, match="equal but for rounding"):
            measure(equal_ND)
    bad_ND = states_ND.clone()
    bad_ND[3, 2] = torch.nan
    for measure in (feature_stability, lambda x: drift(states_ND, x),
                    lambda x: label_alignment(x, "ab" * 10)):  # fmt: skip
        with pytest.raises(ValueError, match="sample 3 is not finite"):
            measure(bad_ND)
