"""Resampled seeds against a plain loop and against Student's interval."""

import numpy as np
import pytest
from scipy import stats

from semtube.scaling.resampling import drawn_seeds, of_resamples, seed_stretch


def test_as_a_plain_loop_but_each_set_of_seeds_once() -> None:
    values = np.array([1.0, 10.0, 100.0])
    drawn = drawn_seeds(3, 500, np.random.default_rng(0))
    calls = []

    def statistic(seeds: np.ndarray) -> np.ndarray:
        calls.append(tuple(seeds))
        return values[seeds].sum(keepdims=True)

    found = of_resamples(statistic, drawn)
    assert found.shape == (500, 1)
    assert found[:, 0].tolist() == [values[seeds].sum() for seeds in drawn]
    assert len(calls) == len(set(calls)) == 10


@pytest.mark.parametrize("num_seeds", [2, 3, 8])
def test_stretched_deviations_make_students_standard_error(num_seeds) -> None:
    """z * stretch * (exact deviation of a resampled mean) is t * s / sqrt(S)."""
    values = np.random.default_rng(1).normal(size=num_seeds)
    resampled = values.std() / num_seeds**0.5  # of S values drawn with replacement
    student = stats.t.ppf(0.95, num_seeds - 1) * values.std(ddof=1) / num_seeds**0.5
    assert stats.norm.ppf(0.95) * seed_stretch(num_seeds, 0.9) * resampled == pytest.approx(student)


@pytest.mark.parametrize(("num_seeds", "confidence"), [(1, 0.9), (3, 1.0), (3, 0.0)])
def test_bad_input(num_seeds, confidence) -> None:
    with pytest.raises(ValueError, match=f"got {num_seeds} and {confidence}"):
        seed_stretch(num_seeds, confidence)
