"""Every arm against the baseline: all tests of a report."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from semtube.report.study_cells import CONFIDENCE, Paired, matching, paired
from semtube.report.study_data import Place, StudyData
from semtube.statistics.detectable import detectable_difference
from semtube.statistics.equivalence import equivalence_test
from semtube.statistics.holm import holm
from semtube.statistics.intervals import Interval, are_equal, bootstrap_interval
from semtube.statistics.paired import paired_t_test
from semtube.statistics.rows import mcnemar_p, sign_flip_p

NUM_RESAMPLES = 2_000
#: Of every bootstrap and sign flip: a report's numbers are a function of its study alone.
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """An arm minus a baseline, paired by seed and by test row, at one point or over several.

    What cannot be said is None, and `withheld` says why. Scores and differences are shares.

    Args:
        p_one_sided: of the arm being better.
        p_holm: the two-sided p corrected for the family it was tested in.
        p_rows: McNemar's for one seed, sign flips by row over several.
        p_equivalence: the larger of both one-sided tests against the margin.
        detectable: the true difference found with a power of 0.8 at the seeds' spread.
        counts: pairs of row and seed: both right, only the arm, only the baseline, both wrong; None
            over several points.
    """

    arm: str
    baseline: str
    places: tuple[Place, ...]
    num_planned: int
    seeds: tuple[Any, ...] = ()
    num_rows: int = 0
    num_unjudged: int = 0
    mean_arm: float | None = None
    mean_baseline: float | None = None
    difference: float | None = None
    t_interval: Interval | None = None
    bootstrap: Interval | None = None
    p_two_sided: float | None = None
    p_one_sided: float | None = None
    p_holm: float | None = None
    p_rows: float | None = None
    p_equivalence: float | None = None
    is_equivalent: bool | None = None
    detectable: float | None = None
    counts: tuple[int, int, int, int] | None = None
    is_scored_alike: bool = False
    withheld: str = ""

    @property
    def num_seeds(self) -> int:
        """Seeds scored in both arms."""
        return len(self.seeds)


def family(data: StudyData) -> list[Comparison]:
    """Every arm against the baseline at every point, with Holm's correction over all of them."""
    baseline = data.study.baseline
    planned = {(p.arm, p.place) for p in data.finals()}
    found = [
        compare(data, baseline, arm, [place])
        for place in data.places()
        for arm in data.study.arms
        if arm != baseline and {(arm, place), (baseline, place)} <= planned
    ]
    tested = {str(n): c.p_two_sided for n, c in enumerate(found) if c.p_two_sided is not None}
    adjusted = holm(tested) if tested else {}
    return [replace(c, p_holm=adjusted.get(str(n))) for n, c in enumerate(found)]


def deciding(data: StudyData) -> Comparison | None:
    """The comparison that was named beforehand; over all matching points where several match."""
    places = matching(data, data.study.deciding.get("at", {}))
    arm = data.study.deciding["arm"]
    return compare(data, data.study.baseline, arm, places) if places else None


def compare(data: StudyData, baseline: str, arm: str, places: Sequence[Place]) -> Comparison:
    """Two arms by seed and by row.

    Raises:
        UserError: runs were not scored on the same test rows.
    """
    planned = {p.seed for p in data.finals() if p.arm == arm and p.place in places}
    empty = Comparison(arm, baseline, tuple(places), len(planned))
    pair = paired(data, baseline, arm, places)
    if pair is None:
        return replace(empty, withheld="no seed is scored in both arms")
    found = _tested(empty, pair, data.study.margin)
    if len(places) == 1:
        found = replace(found, counts=_counts(pair))
    return found


def _tested(empty: Comparison, pair: Paired, margin: float) -> Comparison:
    difference_SN = pair.b - pair.a
    by_seed = difference_SN.mean(axis=1)
    test = paired_t_test(by_seed.tolist(), CONFIDENCE)
    equal = equivalence_test(by_seed.tolist(), margin)
    spread = test.deviation
    return replace(
        empty,
        seeds=pair.seeds,
        num_rows=pair.a.shape[1],
        num_unjudged=pair.num_unjudged,
        mean_arm=float(pair.b.mean()),
        mean_baseline=float(pair.a.mean()),
        difference=test.mean,
        t_interval=test.interval,
        bootstrap=bootstrap_interval(
            difference_SN,
            over_seeds=len(by_seed) > 1,
            confidence=CONFIDENCE,
            num_resamples=NUM_RESAMPLES,
            generator=np.random.default_rng(SEED),
        ),
        p_two_sided=test.p_two_sided,
        p_one_sided=test.p_greater,
        p_rows=_p_rows(difference_SN),
        p_equivalence=equal.p,
        is_equivalent=equal.is_equivalent,
        detectable=spread * _detectable_deviations(len(by_seed)) if spread else None,
        is_scored_alike=not difference_SN.any(),
        withheld=_withheld(by_seed),
    )


def _withheld(by_seed: np.ndarray) -> str:
    if len(by_seed) == 1:
        return "one seed: no test over seeds"
    if are_equal(by_seed):
        return f"all {len(by_seed)} seeds differ by the same amount: no spread to test against"
    return ""


@functools.cache
def _detectable_deviations(num_pairs: int) -> float:
    """The detectable difference in deviations; it is proportional to them, and slow to find."""
    found = detectable_difference(1.0, num_pairs)
    assert found is not None, "two pairs at least"
    return found


def _p_rows(difference_SN: np.ndarray) -> float:
    if len(difference_SN) == 1 and set(np.unique(difference_SN)) <= {-1.0, 0.0, 1.0}:
        return mcnemar_p(int((difference_SN < 0).sum()), int((difference_SN > 0).sum()))
    return sign_flip_p(
        difference_SN, num_resamples=NUM_RESAMPLES, generator=np.random.default_rng(SEED)
    )


def _counts(pair: Paired) -> tuple[int, int, int, int]:
    a, b = pair.a == 1, pair.b == 1
    return (
        int((a & b).sum()),
        int((b & ~a).sum()),
        int((a & ~b).sum()),
        int((~a & ~b).sum()),
    )
