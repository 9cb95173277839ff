"""What two tests together allow one to say."""

import numpy as np
import pytest
from scipy import stats

from semtube.statistics.equivalence import equivalence_test, verdict
from semtube.statistics.paired import paired_t_test

SPREAD = np.array([-0.002, 0.0, 0.002, -0.001, 0.001])


def said(differences, margin=0.01):
    return verdict(paired_t_test(differences), equivalence_test(differences, margin))


@pytest.mark.parametrize(
    ("differences", "kind", "sentence"),
    [
        (SPREAD, "equivalent", "equivalent within 0.01 either way"),
        (
            SPREAD + 0.005,
            "equivalent",
            "equivalent within 0.01 either way, with a difference of +0.005 shown",
        ),
        (SPREAD - 0.05, "different", "different by -0.05"),
        (
            10 * SPREAD,
            "undecided",
            "undecided: neither a difference nor equivalence within 0.01 either way is shown",
        ),
        ([0.2], "undecided", "undecided: one seed says nothing about how seeds differ"),
        (
            [0.2, 0.2],
            "undecided",
            "undecided: all 2 seeds gave the same, so how far seeds differ is unknown",
        ),
    ],
)
def test_the_sentence(differences, kind, sentence) -> None:
    found = said(differences)
    assert (found.kind, found.sentence) == (kind, sentence)


def test_differences_equal_but_for_rounding_claim_nothing() -> None:
    differences = [0.3 - 0.2, 0.4 - 0.3, 0.2 - 0.1]
    assert len(set(differences)) > 1
    assert paired_t_test(differences).p_two_sided is None
    assert equivalence_test(differences, 0.2).is_equivalent is None


def test_either_claim_is_false_in_at_most_five_percent() -> None:
    """At the margin a claim of equivalence is false; at zero one of a difference is.

    So rarely in all but one of a million simulations.
    """
    trials, margin = 400, 0.02
    draws = np.random.default_rng(1).normal(0.0, 0.008, (trials, 4))
    equivalent = np.mean([said(row + margin, margin).kind == "equivalent" for row in draws])
    at_zero = [said(row, margin) for row in draws]
    different = np.mean([v.kind == "different" or "difference of" in v.sentence for v in at_zero])
    highest = stats.binom.ppf(1 - 1e-6, trials, 0.05) / trials
    # A margin of 2.5 deviations leaves both tests nearly all of their 5 %.
    assert 0.02 < equivalent <= highest
    assert 0.02 < different <= highest
