"""Row-wise tests against counting by hand, enumeration, and their rate of false alarms."""

import itertools

import numpy as np
import pytest
from scipy import stats

from semtube.statistics.rows import mcnemar_p, sign_flip_p


def test_mcnemar_by_hand() -> None:
    assert mcnemar_p(0, 0) == 1.0
    assert mcnemar_p(0, 5) == pytest.approx(2 / 32)
    assert mcnemar_p(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar_p(5, 1) == mcnemar_p(1, 5)
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar_p(-1, 2)


def test_sign_flips_are_those_of_full_enumeration() -> None:
    difference = np.array([[1, 0, -1, 1, 1, 0], [1, 1, 0, 0, 1, 0], [0, 1, 0, 1, 1, 0]], float)
    rows = difference.mean(axis=0)
    sums = [abs(np.dot(signs, rows)) for signs in itertools.product((-1, 1), repeat=len(rows))]
    exact = np.mean(np.array(sums) >= abs(rows.sum()) - 1e-9)
    found = sign_flip_p(difference, num_resamples=200_000, generator=np.random.default_rng(0))
    assert found == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 200_000) ** 0.5)


def test_one_seed_is_mcnemar() -> None:
    difference = np.array([[1.0] * 9 + [-1.0] * 2 + [0.0] * 30])
    found = sign_flip_p(difference, num_resamples=200_000, generator=np.random.default_rng(1))
    exact = mcnemar_p(2, 9)
    assert found == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 200_000) ** 0.5)


def test_no_differing_row_and_bad_shapes() -> None:
    generator = np.random.default_rng(0)
    assert sign_flip_p(np.zeros((3, 9)), num_resamples=10, generator=generator) == 1.0
    for bad in (np.zeros(3), np.zeros((0, 3))):
        with pytest.raises(ValueError, match="seeds, rows"):
            sign_flip_p(bad, num_resamples=10, generator=generator)
    with pytest.raises(ValueError, match="num_resamples"):
        sign_flip_p(np.zeros((1, 3)), num_resamples=0, generator=generator)


def test_rows_that_all_seeds_share_do_not_count_once_a_seed() -> None:
    """Seeds that answer alike: false alarms stay at 5 %; counting rows by seed has far more."""
    generator = np.random.default_rng(2)
    trials, alarms, naive = 1_000, 0, 0
    for _ in range(trials):
        row = generator.choice([-1.0, 0.0, 1.0], size=60)
        difference = np.repeat(row[None], 5, axis=0)
        p = sign_flip_p(difference, num_resamples=400, generator=generator)
        alarms += p <= 0.05
        naive += mcnemar_p(int((difference < 0).sum()), int((difference > 0).sum())) <= 0.05
    assert alarms <= stats.binom.ppf(1 - 1e-6, trials, 0.05)
    assert naive > 2 * stats.binom.ppf(1 - 1e-6, trials, 0.05)
