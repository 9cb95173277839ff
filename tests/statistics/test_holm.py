"""Holm's correction by hand and in its rate of false alarms."""

import numpy as np
import pytest
from scipy import stats

from semtube.statistics.holm import holm


def test_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
    assert list(holm({"z": 0.1, "a": 0.01})) == ["z", "a"]
    with pytest.raises(ValueError, match="must lie in"):
        holm({"a": float("nan")})


def test_a_family_has_a_false_alarm_in_at_most_five_percent() -> None:
    trials = 4_000
    draws = np.random.default_rng(0).uniform(size=(trials, 8))
    alarms = np.mean([min(holm(dict(enumerate(row))).values()) <= 0.05 for row in draws])
    assert alarms <= stats.binom.ppf(1 - 1e-6, trials, 0.05) / trials
    assert alarms > 0.03  # of independent tests nearly all of the 5 % are used


def test_what_is_true_alarms_no_oftener_beside_what_is_false() -> None:
    """Four true differences among eight comparisons with one baseline, so that all depend."""
    generator = np.random.default_rng(1)
    trials = 3_000
    shared = generator.normal(size=(trials, 1))
    shift = np.array([0.0, 0.0, 0.0, 0.0, 2.0, 3.0, 4.0, 6.0])
    z = (generator.normal(size=(trials, 8)) - shared) / 2**0.5 + shift
    p = 2 * stats.norm.sf(np.abs(z))
    alarms = np.mean([min(list(holm(dict(enumerate(row))).values())[:4]) <= 0.05 for row in p])
    assert alarms <= stats.binom.ppf(1 - 1e-6, trials, 0.05) / trials
    uncorrected = np.mean(p[:, :4].min(axis=1) <= 0.05)
    assert uncorrected > 1.5 * stats.binom.ppf(1 - 1e-6, trials, 0.05) / trials
