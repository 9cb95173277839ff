"""The answer of a study in one sentence, from the comparison that was named beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from semtube.report.study_cells import place_name, shown
from semtube.report.study_changes import changes, first_hypothesis
from semtube.report.study_comparisons import Comparison
from semtube.report.study_curves import ArmCurve, ArmMultiplier
from semtube.report.study_data import StudyData, place_of

Verdict = Literal["better", "worse", "equivalent", "undecided", "none"]


@dataclass(frozen=True)
class Answer:
    """What the deciding comparison says.

    Args:
        headline: the verdict in a few words.
        sentence: with the difference, its interval, the equivalence verdict and the multiplier.
        notes: what a reader must know beside it.
    """

    verdict: Verdict
    headline: str
    sentence: str
    notes: tuple[str, ...] = ()


def answer(
    data: StudyData,
    comparison: Comparison | None,
    multipliers: Sequence[ArmMultiplier],
    curves: Sequence[ArmCurve],
) -> Answer:
    """Read the deciding comparison.

    Better or worse: the 95 % interval of the paired difference over seeds leaves out 0. Equivalent:
    both one-sided tests against the margin reject at 5 %, whatever the interval says of 0.
    Undecided: neither. None: there is nothing to compare.
    """
    study = data.study
    arm = study.deciding["arm"]
    if comparison is None or comparison.difference is None:
        return _no_answer(data, comparison)
    where = f"At {' and '.join(map(place_name, comparison.places))}, "
    if len(comparison.places) > 3:
        where = f"Over {len(comparison.places)} points, "
    elif comparison.places == ((),):
        where = ""
    verdict = _verdict(comparison)
    points = 100 * comparison.difference
    rates = (
        f"{100 * (comparison.mean_arm or 0):.1f} %",
        f"{100 * (comparison.mean_baseline or 0):.1f} %",
    )
    sentence = (
        f"{where}{arm} answers {rates[0]} of the test rows right by {study.primary} and "
        f"{study.baseline} {rates[1]}: {_difference(points, comparison)}; "
        f"{_equivalence(comparison, study.margin, verdict)}{_multiplier(data, multipliers)}."
    )
    headlines = {
        "better": f"{arm} is better than {study.baseline}",
        "worse": f"{arm} is worse than {study.baseline}",
        "equivalent": f"{arm} and {study.baseline} are equivalent",
        "undecided": "Undecided: no difference and no equivalence is shown",
        "none": "No answer",
    }
    headline = headlines[verdict]
    if comparison.is_scored_alike:
        headline = f"No difference: {arm} and {study.baseline} score alike on every row"
    if told := _one_score(comparison):
        headline = f"Undecided: every answer of {arm} and {study.baseline} is {told}"
    notes = [*_exponents(data, curves), *_notes(data, comparison)]
    return Answer(verdict, headline, sentence, tuple(notes))


def _no_answer(data: StudyData, comparison: Comparison | None) -> Answer:
    runs = list(data.runs.values())
    failed = sum(run.status in ("failed", "damaged") for run in runs)
    why = comparison.withheld if comparison is not None else "no final run is planned there yet"
    if runs and failed == len(runs):
        sentence = f"No answer: all {len(runs):,} runs failed."
    else:
        done = sum(run.status == "done" for run in runs)
        sentence = (
            f"No answer: the comparison that decides has no pair of scored runs ({why}); "
            f"{done:,} of {len(runs):,} planned runs are done and {failed:,} failed."
        )
    return Answer("none", "No answer", sentence, tuple(changes(data.study)))


def _one_score(comparison: Comparison) -> str:
    """What all answers of both arms are, where they are one thing: no score to tell arms by."""
    score = {comparison.mean_arm, comparison.mean_baseline}
    return "wrong" if score == {0.0} else "right" if score == {1.0} else ""


def _verdict(comparison: Comparison) -> Verdict:
    if _one_score(comparison):
        return "undecided"
    if comparison.is_equivalent:
        return "equivalent"
    interval = comparison.t_interval
    if interval is None or interval.low <= 0 <= interval.high:
        return "undecided"
    return "better" if interval.low > 0 else "worse"


def _difference(points: float, comparison: Comparison) -> str:
    seeds = f"{comparison.num_seeds} seed" + ("s" if comparison.num_seeds > 1 else "")
    if comparison.is_scored_alike:
        return f"a difference of 0, on every one of {comparison.num_rows:,} test rows under {seeds}"
    interval = comparison.t_interval
    if interval is None:
        return (
            f"a difference of {points:+.1f} points, whose interval is withheld "
            f"({comparison.withheld})"
        )
    low, high = 100 * interval.low, 100 * interval.high
    return (
        f"a difference of {points:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, {seeds})"
    )


def _equivalence(comparison: Comparison, margin: float, verdict: Verdict) -> str:
    within = f"within {100 * margin:g} points"
    if _one_score(comparison):
        return f"whether they are equivalent {within} such scores cannot tell"
    if verdict == "equivalent":
        return f"they are equivalent {within}"
    if comparison.is_equivalent is None:
        return f"whether they are equivalent {within} cannot be tested"
    return f"equivalence {within} is not shown"


def _multiplier(data: StudyData, multipliers: Sequence[ArmMultiplier]) -> str:
    """By interpolation, at the deciding fraction, or with all of the baseline's examples."""
    arm, at = data.study.deciding["arm"], data.study.deciding.get("at", {})
    found = [
        m.multiplier
        for m in multipliers
        if m.multiplier.method == "interpolation" and _decides(data, m)
    ]
    if not found:
        return ""
    most = max(m.num_examples for m in found)
    share = at.get("fraction", 1.0) / max([*data.study.axes.get("fraction", [1.0])])
    best = min(found, key=lambda m: abs(m.num_examples - share * most))
    told = f"; the data multiplier of {arm}, at the accuracy of {data.study.baseline} with "
    told += f"{best.num_examples:,.0f} examples, is "
    if best.value is None:
        if best.limit is None:
            return ""
        told += f"{best.bound} {best.limit:.3g}"
    else:
        told += f"{best.value:.3g}"
    if best.low is None or best.high is None:
        return told + " (interval withheld: one seed)"
    return f"{told} (95 % interval {best.low:.3g} to {_upper(best.high)})"


def _decides(data: StudyData, found: ArmMultiplier | ArmCurve) -> bool:
    """Whether it is of the deciding arm and place, whatever the fraction."""
    at = data.study.deciding.get("at", {})
    others = {axis: value for axis, value in at.items() if axis != "fraction"}
    return found.arm == data.study.deciding["arm"] and set(place_of(others)) <= set(found.place)


def _exponents(data: StudyData, curves: Sequence[ArmCurve]) -> list[str]:
    """The difference of the learning curves' exponents, and whether it says anything."""
    notes = []
    for curve in curves:
        found = curve.difference
        if found is None or found.low is None or found.high is None or not _decides(data, curve):
            continue
        base = [c for c in curves if c.arm == data.study.baseline and c.place == curve.place]
        floors = [c.fitted.is_floor_identified for c in (curve, *base) if c.fitted is not None]
        if not all(floors):
            shown = "which says nothing, as the floors of the curves are not identified"
        elif found.low * found.high > 0:
            shown = "so another slope is shown"
        else:
            shown = "so no other slope is shown"
        notes.append(
            f"Learning curves: the exponent of {curve.arm} is that of {data.study.baseline} "
            f"{found.value:+.2g} (95 % interval {found.low:+.2g} to {found.high:+.2g}), {shown}."
        )
    return notes


def _upper(value: float) -> str:
    return "beyond what was run" if value == float("inf") else f"{value:.3g}"


def _other_settings(data: StudyData, comparison: Comparison) -> list[str]:
    """What both arms were tuned in and chose differently, which the difference is one of too."""
    found: dict[str, dict[str, None]] = {}
    for place in comparison.places:
        arm, base = (
            runs[0].tried if (runs := data.final(name, place)) else {}
            for name in (comparison.arm, comparison.baseline)
        )
        for option in arm.keys() & base.keys():
            if arm[option] != base[option]:
                told = f"{shown(arm[option])} against {shown(base[option])}"
                found.setdefault(option, {})[told] = None
    if not found:
        return []
    told = "; ".join(f"{option} {', '.join(values)}" for option, values in sorted(found.items()))
    return [
        f"Tuning chose other settings for {comparison.arm} than for {comparison.baseline} "
        f"({told}), so the difference is one of the arms with these, not of the method alone."
    ]


def _notes(data: StudyData, comparison: Comparison) -> list[str]:
    notes = [*changes(data.study), *_other_settings(data, comparison)]
    if comparison.num_seeds == 1:
        notes.append(
            "One seed says nothing about how seeds differ: intervals over seeds and their tests "
            "are withheld."
        )
    if comparison.detectable is not None:
        notes.append(
            f"With these seeds and their spread a true difference of "
            f"{100 * comparison.detectable:.1f} points would be found in four of five such studies."
        )
    lost = comparison.num_planned - comparison.num_seeds
    if lost > 0:
        notes.append(f"{lost} of {comparison.num_planned} planned seeds have no pair of scores.")
    if comparison.num_unjudged:
        notes.append(f"{comparison.num_unjudged:,} test rows were not judged and are left out.")
    if expected := first_hypothesis(data.study):
        notes.append(f"Expected beforehand: {expected}")
    return notes
