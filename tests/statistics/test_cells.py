"""One cell: by hand, and why an interval is withheld."""

import numpy as np
import pytest
from scipy import stats

from semtube.statistics.cells import summarise_cell


def test_by_hand() -> None:
    found = summarise_cell([0.1, 0.2, 0.6])
    # Deviations -0.2, -0.1, 0.3: squares sum to 0.14, over 2 is 0.07.
    assert (found.mean, found.num_seeds, found.withheld) == (pytest.approx(0.3), 3, "")
    assert found.deviation == pytest.approx(0.07**0.5)
    half = 4.302653 * (0.07 / 3) ** 0.5
    assert found.interval.low == pytest.approx(0.3 - half, abs=1e-6)
    assert found.interval.high == pytest.approx(0.3 + half, abs=1e-6)


def test_the_interval_is_withheld_and_says_why() -> None:
    one = summarise_cell([0.4])
    assert (one.mean, one.deviation, one.interval) == (0.4, None, None)
    assert one.withheld == "one seed says nothing about how seeds differ"
    equal = summarise_cell([0.1 + 0.2, 0.3, 0.3])
    assert equal.interval is None
    assert equal.withheld.startswith("all 3 seeds gave the same")


def test_the_interval_holds_the_mean_at_its_rate() -> None:
    """All but one of a million simulations of 4,000 cells lie in this range."""
    draws = np.random.default_rng(0).normal(0.5, 0.02, (4_000, 3))
    found = [summarise_cell(row, confidence=0.9).interval for row in draws]
    held = np.mean([i.low <= 0.5 <= i.high for i in found])
    low, high = stats.binom.ppf([5e-7, 1 - 5e-7], 4_000, 0.9) / 4_000
    assert low < held < high


@pytest.mark.parametrize("bad", [[], [float("inf")], [[0.1, 0.2]]])
def test_bad_scores(bad) -> None:
    with pytest.raises(ValueError, match="finite scores"):
        summarise_cell(bad)
